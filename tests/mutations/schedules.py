"""Schedules: what keeps mail inside its window, a time to one campaign, and the clocks to one."""

from __future__ import annotations

from typing import Final

from tests.mutations.mutation import OUTBOX, Mutation

PARTS, KEPT, RECUR, LEASE = (
    "tests/test_parts.py",
    "tests/test_schedule.py",
    "tests/test_recur.py",
    "tests/test_clock_lease.py",
)
RECURRING, EDITED = "app/flows/recur.py", "tests/test_recur_edited.py"
LATE = "tests/test_lateness.py"

SCHEDULES: Final = (
    Mutation(
        "claim_after_closing",
        "A range is not claimed once its window has closed",
        OUTBOX,
        (("       AND (closes_at IS NULL OR closes_at > now())\n", ""),),
        (f"{PARTS}::test_a_range_past_its_window_is_not_claimed",),
    ),
    Mutation(
        "put_off_without_window",
        "What is put off, or comes back after it was moved, keeps to its window",
        OUTBOX,
        (
            (
                "SELECT campaign_id, id, part, closes_at, run",
                "SELECT campaign_id, id, part, NULL, run",
            ),
        ),
        (f"{KEPT}::test_the_rest_can_be_moved_and_the_sums_stay_right",),
    ),
    Mutation(
        "hurry_everything",
        "A pool that goes on hurries nothing that has a time of its own",
        OUTBOX,
        (("(outbox.parent_id IS NULL OR campaign_part.begins_at > now())", "false"),),
        (f"{KEPT}::test_a_pool_that_goes_on_hurries_nothing_that_has_a_time_of_its_own",),
    ),
    Mutation(
        "hurry_out_of_windows",
        "A pool that goes on hurries nothing out of its window",
        OUTBOX,
        (("   AND (outbox.closes_at IS NULL\n        OR EXISTS", "   AND (true\n        OR EXISTS"),),
        (f"{KEPT}::test_a_pool_that_goes_on_hurries_nothing_out_of_its_window",),
    ),
    Mutation(
        "move_past_claims",
        "What is being claimed while a campaign is moved is moved with it",
        "app/flows/schedule.py",
        (("        outbox.lock_all(conn, campaign_id)  # waits", "        # waits"),),
        (f"{KEPT}::test_a_range_that_is_claimed_while_the_rest_is_moved_keeps_no_rest_of_its_own",),
    ),
    Mutation(
        "clock_lease_is_taken_early",
        "A clock takes the lease only once it has run out",
        "app/models/clock_lease.sql",
        (("    OR held.until <= now()\n", "    OR held.until IS NOT NULL\n"),),
        (f"{LEASE}::test_of_two_that_take_the_lease_at_once_one_has_it",),
    ),
    Mutation(
        "who_had_it_gets_it_again",
        "Who got one campaign of a series gets no other",
        "app/models/audience.sql",
        (("   SET reason = 'had it before'\n", "   SET reason = NULL\n"),),
        (f"{RECUR}::test_each_time_goes_to_who_matches_then_and_did_not_have_it",),
    ),
    Mutation(
        "copy_without_rate",
        "Each campaign of a series goes no faster than the one that repeats",
        RECURRING,
        (('        campaign_rate.copy(conn, row["id"], copied)\n', "        pass\n"),),
        (f"{RECUR}::test_every_copy_goes_no_faster_than_the_campaign_may",),
    ),
    Mutation(
        "count_begins_anew",
        "A campaign that repeats, taken back and launched again, counts on",
        "app/flows/steer.py",
        (("        recur.take_back(conn, campaign_id)\n", ""),),
        (f"{EDITED}::test_a_count_goes_on_where_it_was_when_a_typo_is_mended",),
    ),
    Mutation(
        "own_clocks_without_zones",
        "What was not cut by zones is not said to go by leads' own clocks",
        "app/flows/schedule.py",
        (("        if own and not knows_clocks(", "        if False and not knows_clocks("),),
        (f"{KEPT}::test_an_audience_that_was_not_cut_by_zones_goes_by_no_own_clocks",),
    ),
    Mutation(
        "late_by_the_first_clock",
        "A campaign is not late while its time is ahead by some leads' clocks",
        "app/models/schedule.py",
        (
            (
                "        return start_at if self.own is None else max(start_at, self.own.last_moment())\n",
                "        return start_at\n",
            ),
        ),
        (f"{LATE}::test_what_is_ahead_by_some_leads_clocks_is_not_late",),
    ),
    Mutation(
        "rules_are_walked_from_their_beginning",
        "The next time of a rule that began long ago is found from near now",
        "app/models/recurrence.py",
        (("begins if count else _near(", "begins if True else _near("),),
        (f"{RECUR}::test_the_next_time_of_a_rule_that_began_years_ago_is_found_from_near_it",),
    ),
    Mutation(
        "failed_starts_are_silent",
        "A scheduled campaign that cannot be started is told of",
        "app/flows/launch.py",
        (("        not_started.tell(runtime, campaign_id, error)\n", ""),),
        ("tests/test_start_due.py::test_whoever_launched_it_is_told_when_it_fails_to_start_again_and_again",),
    ),
)
