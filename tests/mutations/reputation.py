"""What holds mail back for the sake of reputation: warm-ups, rates, receivers' replies, standing."""

from __future__ import annotations

from typing import Final

from tests.mutations.mutation import SEND, Mutation
from tests.mutations.ways_and_pace import CAMPAIGN, LIMIT, PACE

WARM, SHAPED, STANDING = "tests/test_warm_up.py", "tests/test_shaping.py", "tests/test_standing.py"
PURPOSES = "tests/test_purposes.py"

REPUTATION: Final = (
    Mutation(
        "warm_up_spent_twice",
        "Of two pages at the end of a warm-up's day one gets what is left",
        SEND,
        (("not warm_up.spend(conn, page.lease.warm_ups, len(letters))", "not page.lease.warm_ups"),),
        (f"{WARM}::test_of_two_pages_at_the_end_of_a_warm_ups_day_one_gets_what_is_left",),
    ),
    Mutation(
        "rate_unheeded",
        "A campaign goes no faster than a person has said",
        PACE,
        (("    if rate is not None:\n", "    if rate is not None and not lease.rated:\n"),),
        (f"{WARM}::test_a_campaign_keeps_to_its_own_rate_and_holds_no_other_up",),
    ),
    Mutation(
        "replies_without_effect",
        "What a receiver replies stops mail to it",
        "app/flows/shape.py",
        (("    shaping.apply(conn, pool_id, begun)\n", ""),),
        (f"{SHAPED}::test_a_reply_stops_its_receiver_and_nobody_else",),
    ),
    Mutation(
        "limits_taken_away_with_what_receivers_ask",
        "Who changes limits does not take away what a receiver asked for",
        LIMIT,
        (
            (
                "   AND shaped_until IS NULL\n   AND stopped_until IS NULL\n\n-- What a receiver's",
                "\n-- What a receiver's",
            ),
        ),
        (f"{SHAPED}::test_taking_all_limits_away_leaves_what_a_receiver_asked_for",),
    ),
    Mutation(
        "connections_forgotten_with_what_receivers_ask",
        "What a person has set for connections outlives what a receiver asked for",
        "app/models/shaping.sql",
        (("num_nonnulls(per_second, per_day, connections, messages)", "num_nonnulls(per_second, per_day)"),),
        (f"{SHAPED}::test_when_it_ends_a_persons_limit_of_connections_is_still_there",),
    ),
    Mutation(
        "paused_senders_send",
        "A paused sender sends nothing",
        CAMPAIGN,
        (("       AND sender.state <> 'paused'\n", ""),),
        (f"{STANDING}::test_a_paused_sender_sends_nothing_its_owner_is_told_and_others_go_on",),
    ),
    Mutation(
        "messages_by_way_of_campaigns",
        "A message falls back on no pool that is there for campaigns alone",
        CAMPAIGN,
        (
            (
                "CASE WHEN waiting.transactional THEN 'marketing' ELSE 'transactional' END",
                "CASE WHEN waiting.transactional THEN '' ELSE 'transactional' END",
            ),
        ),
        (f"{PURPOSES}::test_a_message_does_not_fall_back_on_a_pool_for_campaigns_alone_and_a_campaign_does",),
    ),
    Mutation(
        "messages_without_a_pool",
        "A message is refused where its sender has campaigns' pools alone",
        "app/flows/read_messages.py",
        (("template.transactional and sender_id in", "not template.transactional and sender_id in"),),
        (f"{PURPOSES}::test_a_message_whose_sender_has_a_pool_for_campaigns_alone_is_refused_by_name",),
    ),
    Mutation(
        "moved_senders_use_nothing",
        "A pool that senders were moved to is theirs: its purpose fits them",
        "app/models/pool.sql",
        (
            (
                " WHERE :pool_id IN (pool_id, second_pool_id, transactional_pool_id, moved_to)\n   AND id <> :but\n",
                " WHERE :pool_id IN (pool_id, second_pool_id, transactional_pool_id)\n   AND id <> :but\n",
            ),
        ),
        (f"{PURPOSES}::test_where_a_sender_was_moved_to_it_uses_the_pool",),
    ),
    Mutation(
        "standing_of_any_pool",
        "Nobody is moved to a pool that is there for something else",
        "app/flows/stand.py",
        (("policies = {each: _acting(conn, each)", "policies = {each: standing.find_policy(conn, each)"),),
        (f"{PURPOSES}::test_nobody_is_moved_to_a_pool_that_was_named_when_nobody_asked_what_it_is_for",),
    ),
    Mutation(
        "judged_twice",
        "What was before a move is not held against a sender again",
        "app/models/standing.sql",
        (("       AND (sender.judged_from IS NULL OR bucket >= sender.judged_from)\n", ""),),
        (f"{STANDING}::test_what_was_before_a_move_is_not_held_against_a_sender_twice",),
    ),
)
