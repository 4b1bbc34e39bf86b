"""Sessions that a transaction pooler takes away, transactions that cannot be serialised, bells that nobody can hear."""

from __future__ import annotations

from typing import Final

from tests.mutations.mutation import Mutation

POOLER, STRICT = "tests/test_pooler_faults.py", "tests/test_serialisation_faults.py"

SESSIONS: Final = (
    Mutation(
        "prepares_anyway",
        "Where the operator says so no statement is prepared, since the next transaction has another session",
        "app/db.py",
        (('"prepare_threshold": PREPARED_FROM if prepare else None,', '"prepare_threshold": PREPARED_FROM,'),),
        (f"{POOLER}::test_a_campaign_is_sent_by_worker_and_clock_with_a_message_by_the_api_amid_it",),
    ),
    Mutation(
        "release_locks_a_session",
        "A release's lock ends with its transaction, and is left in nobody's session",
        "app/schema.py",
        (("pg_advisory_xact_lock(:lock)", "pg_advisory_lock(:lock)"),),
        (f"{POOLER}::test_a_release_migrates_through_it_again_and_again",),
    ),
    Mutation(
        "settles_once",
        "A page whose settling PostgreSQL ends is settled again",
        "app/flows/settle.py",
        (("TRIES: Final = 5 ", "TRIES: Final = 1 "),),
        (f"{STRICT}::test_a_page_that_cannot_be_serialised_is_settled_again_and_once",),
    ),
    Mutation(
        "bells_are_retried",
        "A bell that fails is not rung again later: it carries no work",
        "workers/broker.py",
        (("middleware=middleware or []", "middleware=[*(middleware or []), dramatiq.middleware.Retries()]"),),
        (
            "tests/test_bell_faults.py::test_a_bell_that_nobody_can_read_or_hear_stops_no_other_and_is_not_heard_again_and_again"
            "[arguments_that_it_does_not_take]",
        ),
    ),
)
