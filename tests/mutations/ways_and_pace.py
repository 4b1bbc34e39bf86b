"""Which pool a page goes through, and how much of it may go now."""

from __future__ import annotations

from typing import Final

from tests.mutations.mutation import OUTBOX, REPEAT, SEND, SETTLE, Mutation

CAMPAIGN, PACE, LIMIT = "app/models/campaign.sql", "app/flows/pace.py", "app/models/limit.sql"
FAILOVER, PACED, SHARED = "tests/test_failover.py", "tests/test_pace.py", "tests/test_shared_accounts.py"

WAYS_AND_PACE: Final = (
    Mutation(
        "no_second_pool",
        "What a broken pool cannot take goes through the sender's second one",
        CAMPAIGN,
        ((" WHERE (way.place = 1 OR waiting.first_state <> 'active')\n", " WHERE way.place = 1\n"),),
        (f"{FAILOVER}::test_a_provider_that_dies_amid_a_campaign_loses_and_doubles_nobody",),
    ),
    Mutation(
        "page_of_another_pool",
        "A page goes through the pool that it was claimed for",
        SEND,
        (
            (
                "campaign.load_sending(conn, lease.campaign_id, lease.pool_id, lease.variant)",
                "campaign.load_sending(conn, lease.campaign_id, variant=lease.variant)",
            ),
        ),
        (f"{FAILOVER}::test_a_provider_that_dies_amid_a_campaign_loses_and_doubles_nobody",),
    ),
    Mutation(
        "repeat_at_the_pool_of_today",
        "A lost call is made again at the pool that it went through",
        REPEAT,
        (
            (
                "campaign.load_sending(conn, call.campaign_id, call.pool_id, call.variant)",
                "campaign.load_sending(conn, call.campaign_id, variant=call.variant)",
            ),
        ),
        (f"{FAILOVER}::test_a_lost_call_is_made_again_and_asked_about_at_the_pool_that_it_went_through",),
    ),
    Mutation(
        "rest_waits_for_its_pool",
        "What half of a page could not be handed goes through the second pool at once",
        SETTLE,
        (("wait._replace(seconds=0.0)", "wait"),),
        (f"{FAILOVER}::test_what_half_of_a_page_could_not_be_handed_goes_through_the_second_pool_at_once",),
    ),
    Mutation(
        "limits_unasked",
        "No more of a page goes than its pool's limits allow",
        PACE,
        (("lead_ids=lease.lead_ids[:tokens], ", ""),),
        (f"{PACED}::test_a_days_limit_survives_a_flush_and_is_counted_over_any_24_hours",),
    ),
    Mutation(
        "used_up_limits_are_claimed_for",
        "While a limit is used up nothing is claimed for it",
        CAMPAIGN,
        (("   AND (whole.paced_until IS NULL OR whole.paced_until <= now())\n", ""),),
        (f"{PACED}::test_while_a_limit_is_used_up_nothing_is_claimed_for_it",),
    ),
    Mutation(
        "day_spent_twice",
        "Of two pages at the end of a day one gets what is left",
        LIMIT,
        ((" WHERE NOT EXISTS (SELECT FROM over)\n", " WHERE true\n"),),
        (f"{PACED}::test_of_two_pages_at_the_end_of_a_day_one_gets_what_is_left",),
    ),
    Mutation(
        "shared_accounts_unasked",
        "Pools at one account of a provider go no faster together than the highest limit of any of them",
        PACE,
        (("    bounds += [each for each in found if each.account_id is not None]\n", ""),),
        (f"{SHARED}::test_two_workers_through_two_pools_keep_to_the_rate_of_their_account",),
    ),
    Mutation(
        "used_up_accounts_are_claimed_for",
        "While the limit of an account is used up nothing is claimed for any of its pools",
        CAMPAIGN,
        (("   AND (account.paced_until IS NULL OR account.paced_until <= now())\n", ""),),
        (f"{SHARED}::test_a_pool_is_held_by_its_account_and_a_limit_that_is_taken_away_frees_it",),
    ),
    Mutation(
        "day_of_an_account_by_pool",
        "The day of an account is what all of its pools have sent",
        LIMIT,
        (
            (
                "                WHERE sharing.account_id = pool_account.id\n",
                "                WHERE sharing.id = pool.id\n",
            ),
        ),
        (f"{SHARED}::test_of_two_pages_through_two_pools_at_the_end_of_a_day_one_gets_what_is_left",),
    ),
    Mutation(
        "day_of_an_account_unlocked",
        "Of two pages through two pools at the end of their account's day one waits for the other",
        "app/models/limit.py",
        (("    if ACCOUNT in emails:\n", "    if ACCOUNT not in emails:\n"),),
        (f"{SHARED}::test_a_page_waits_for_one_that_spends_the_day_of_the_account_through_another_pool",),
    ),
    Mutation(
        "flushed_buckets_are_full",
        "A bucket that is not there begins empty: a flush lets nothing out",
        "app/buckets.py",
        (("  full[i] = empty\n", "  full[i] = now\n"),),
        (f"{PACED}::test_a_bucket_that_is_not_there_begins_empty",),
    ),
    Mutation(
        "half_a_token_an_email",
        "All workers together let go no more than the rate and a burst, in any span of time",
        "app/buckets.py",
        (("  full[i] = full[i] + taken * interval\n", "  full[i] = full[i] + taken * interval / 2\n"),),
        (f"{PACED}::test_two_workers_together_keep_to_the_rate_though_redis_is_flushed",),
    ),
    Mutation(
        "put_together_again_and_again",
        "Leads are put together by receiver once",
        OUTBOX,
        (("coalesce(CAST(:waits_for AS text), waits_for)", "CAST(NULL AS text)"),),
        (f"{PACED}::test_leads_are_put_together_by_receiver_once_and_no_range_is_shattered",),
    ),
)
