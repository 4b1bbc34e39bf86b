"""Messages: none is sent twice or forgotten, who may get one gets it, and none is dropped while it waits."""

from __future__ import annotations

from typing import Final

from tests.mutations.mutation import Mutation

TESTS, KEPT = "tests/test_messages.py", "tests/test_messages_kept.py"

MESSAGES: Final = (
    Mutation(
        "compared_while_it_goes_on",
        "A message that is sent again while its ranges are compared is not queued a second time",
        "app/flows/keep_messages.py",
        (
            (
                "    if any(each.open for each in differences):\n        return False",
                "    if False:\n        return False",
            ),
        ),
        (f"{KEPT}::test_a_message_that_is_sent_again_while_its_family_is_compared_is_not_queued_a_second_time",),
    ),
    Mutation(
        "drop_what_goes_on",
        "Ranges of messages of which something was sent again are kept until that is over",
        "app/models/message_ledger.sql",
        (("    HAVING bool_and(state IN ('done', 'cancelled'))\n), family AS (", "), family AS ("),),
        (f"{KEPT}::test_a_family_that_agreed_and_goes_on_is_not_dropped",),
    ),
    Mutation(
        "streams_take_everything",
        "A stream with much to do leaves something to campaigns",
        "app/models/campaign.sql",
        (("THEN 2 ELSE 0 END)", "THEN 2000 ELSE 0 END)"),),
        ("tests/test_messages_priority.py::test_a_stream_that_is_slow_leaves_something_to_campaigns",),
    ),
    Mutation(
        "key_stands_for_two",
        "A message that is asked for twice under one key is sent once",
        "app/flows/messages.py",
        (("        if message_id == row.id:\n", "        if row:\n"),),
        (f"{TESTS}::test_a_key_asked_for_again_is_the_same_message_and_another_message_under_it_is_refused",),
    ),
    Mutation(
        "receipts_are_unsubscribed_from",
        "Who has unsubscribed still gets what they asked for themselves",
        "app/models/message.sql",
        (
            (
                "(suppression.reason <> 'unsubscribed' OR NOT CAST(:transactional AS boolean))",
                "(true OR :transactional)",
            ),
        ),
        (f"{TESTS}::test_who_unsubscribed_gets_what_they_asked_for_and_a_bad_address_gets_nothing",),
    ),
    Mutation(
        "stream_comes_to_an_end",
        "A stream of messages is never finished, however little it has to do",
        "app/flows/finish.py",
        (("if standing.is_stream or standing.state not in", "if standing.state not in"),),
        (f"{TESTS}::test_messages_go_before_a_campaign_and_a_stream_never_ends",),
    ),
    Mutation(
        "waiting_messages_are_dropped",
        "No day of messages is dropped while one of them waits or is on its way",
        "app/models/message_ledger.py",
        (("        below = min(below, oldest)\n", "        pass\n"),),
        (f"{KEPT}::test_no_day_is_dropped_of_which_a_message_still_waits",),
    ),
)
