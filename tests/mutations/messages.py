"""Messages: none is sent twice or forgotten, who may get one gets it, and none is dropped while it waits."""

from __future__ import annotations

from typing import Final

from tests.mutations.mutation import Mutation

TESTS, KEPT, SHELVES = "tests/test_messages.py", "tests/test_messages_kept.py", "tests/test_shelves.py"
BACK = "tests/test_messages_called_back.py"

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
                "(reason <> 'unsubscribed' OR NOT CAST(:transactional AS boolean))",
                "(true OR :transactional)",
            ),
        ),
        (f"{TESTS}::test_who_unsubscribed_gets_what_they_asked_for_and_a_bad_address_gets_nothing",),
    ),
    Mutation(
        "a_sender_closes_all",
        "Who wants nothing of one sender still gets what another one sends",
        "app/models/message.sql",
        (("       AND sender_id + 0 IN (0, CAST(:sender_id AS integer))\n", "       AND :sender_id IS NOT NULL\n"),),
        (f"{TESTS}::test_who_of_a_page_is_suppressed_is_the_same_looked_up_or_read",),
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
    Mutation(
        "cut_without_lock",
        "What several processes cut at once, and programs take back meanwhile, is sent once or not at all",
        "app/models/message.sql",
        (
            (
                "                LIMIT :slips\n                  FOR UPDATE SKIP LOCKED\n",
                "                LIMIT :slips\n",
            ),
        ),
        (f"{SHELVES}::test_what_is_cut_and_taken_back_by_many_at_once_is_one_or_the_other",),
    ),
    Mutation(
        "place_without_shelf",
        "What is cut is taken from its own shelf, and from no other",
        "app/models/message.sql",
        (
            (
                "    DELETE FROM message_due\n     WHERE shelf = :shelf\n       AND ctid",
                "    DELETE FROM message_due\n     WHERE ctid",
            ),
        ),
        (f"{SHELVES}::test_what_is_due_is_cut_once_from_every_shelf_that_it_may_lie_on",),
    ),
    Mutation(
        "stops_at_what_others_have",
        "What somebody else has in hand does not stop what is due behind it",
        "app/flows/range_messages.py",
        (
            (
                "    return sum(_cut(runtime, each) for each in due)\n",
                "    return _cut(runtime, due[0]) if due else 0\n",
            ),
        ),
        (f"{SHELVES}::test_a_shelf_that_somebody_else_has_in_hand_does_not_stop_those_behind_it",),
    ),
    Mutation(
        "taken_back_from_near_alone",
        "A message can be taken back however long before its time it was accepted",
        "app/shelves.py",
        (("for level in range(len(ALL))]", "for level in range(1)]"),),
        (f"{SHELVES}::test_a_message_can_be_taken_back_from_whatever_shelf_it_lies_on",),
    ),
    Mutation(
        "shelf_dropped_without_lock",
        "No shelf is dropped while somebody puts a message there",
        "app/models/message_ledger.py",
        (("    conn.execute(SQL.lock_shelves)\n", ""),),
        (f"{SHELVES}::test_what_comes_to_a_shelf_while_that_is_dropped_is_not_lost",),
    ),
    Mutation(
        "shelf_dropped_unseen",
        "A shelf is looked at again, alone, before it is dropped",
        "app/models/message_ledger.py",
        (("    if _holds_any(conn, shelf):\n        return False\n", ""),),
        (f"{SHELVES}::test_what_comes_to_a_shelf_while_that_is_dropped_is_not_lost",),
    ),
    Mutation(
        "called_back_out_of_hand",
        "A message that a worker has in hand is not called back",
        "app/models/message.sql",
        (("   AND state IN ('ready', 'quarantined')\n   AND NOT resent\n", "   AND NOT resent\n"),),
        (
            f"{BACK}::test_a_message_that_a_worker_has_in_hand_is_not_called_back",
            f"{BACK}::test_a_call_back_waits_for_whoever_is_just_claiming_and_the_other_way_round_passes_by",
        ),
    ),
    Mutation(
        "called_back_and_may_have_left",
        "A message that is sent again though it may have left is not called back",
        "app/models/message.sql",
        (("   AND NOT resent\n", ""),),
        (f"{BACK}::test_one_that_is_sent_again_though_it_may_have_left_is_not_called_back",),
    ),
    Mutation(
        "called_back_and_out_of_place",
        "Whoever was handed over keeps their place when others of the range are called back",
        "app/models/message.sql",
        (
            (
                "lead_ids = lead_ids[: position]\n                  || CAST(:message_id AS bigint)\n"
                "                  || array_remove(lead_ids[position + 1 :], CAST(:message_id AS bigint))",
                "lead_ids = CAST(:message_id AS bigint) || array_remove(lead_ids, CAST(:message_id AS bigint))",
            ),
        ),
        (f"{BACK}::test_whoever_was_handed_over_keeps_their_place_when_others_are_called_back",),
    ),
    Mutation(
        "finding_reads_the_slips",
        "A look for what is due reads indexes, and none of the slips",
        "app/models/message.sql",
        (("sum(size) AS messages", "sum(coalesce(cardinality(message_ids), 1)) AS messages"),),
        (f"{SHELVES}::test_a_look_for_what_is_due_among_many_that_wait_reads_indexes_alone",),
    ),
)
