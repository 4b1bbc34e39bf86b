"""The door of the API: what is asked for once is done once, and a key opens what its scopes say and no more."""

from __future__ import annotations

from typing import Final

from tests.mutations.mutation import Mutation

ONCE, DOOR = "tests/web/test_api_once.py", "tests/web/test_api_door.py"
ANSWER_ONCE = "app/flows/answer_once.py"

API: Final = (
    Mutation(
        "two_under_one_key",
        "While a request is under way, the same one is refused",
        ANSWER_ONCE,
        (("        if not api_answer.try_lock(conn, request):\n", "        if False:\n"),),
        (f"{ONCE}::test_while_it_is_under_way_the_same_is_refused_and_nothing_is_done_twice",),
    ),
    Mutation(
        "another_request_under_one_key",
        "An Idempotency-Key stands for one request",
        ANSWER_ONCE,
        (("    if digest != request.digest:\n", "    if False:\n"),),
        (f"{ONCE}::test_a_key_stands_for_one_request",),
    ),
    Mutation(
        "answer_kept_apart",
        "An answer is kept in the transaction of what it answers for",
        ANSWER_ONCE,
        (("        answer = work(inside)\n", "        answer = work(runtime)\n"),),
        (f"{ONCE}::test_what_fails_at_the_end_has_done_nothing_and_kept_nothing",),
    ),
    Mutation(
        "any_scope_will_do",
        "A key opens what its scopes say, and nothing else",
        "web/api/door.py",
        (("    if route.scope not in key.scopes:\n", "    if not key.scopes:\n"),),
        (f"{DOOR}::test_no_route_answers_without_a_key_nor_to_one_without_its_scope",),
    ),
    Mutation(
        "revoked_and_answered",
        "A revoked key is answered nothing",
        "app/models/api_key.sql",
        (("   AND revoked_at IS NULL\n", ""),),
        (f"{DOOR}::test_a_revoked_key_is_answered_nothing_from_then_on",),
    ),
    Mutation(
        "revoked_and_still_known",
        "Once a key is said to be revoked, no process knows it any more",
        "app/flows/api_keys.py",
        (("    time.sleep(KNOWN_FOR)\n", ""),),
        (f"{DOOR}::test_what_is_revoked_or_changed_is_so_in_every_process",),
    ),
)
