"""Breakers, and the comparison before a campaign is finished."""

from __future__ import annotations

from typing import Final

from tests.mutations.mutation import CLOSING, DEFENCES, SEND, SENDING, SETTLE, Mutation

POOLS_AND_SUMS: Final = (
    Mutation(
        "probes_without_limit",
        "While a provider is down, one worker at a time tries it",
        "app/models/pool.py",
        (
            (
                'return conn.execute(SQL.begin_probe, {"pool_id": pool_id, "lease": lease}).first() is not None',
                "return True",
            ),
        ),
        ("tests/test_breaker.py::test_one_batch_and_no_more_tries_whether_it_is_back",),
    ),
    Mutation(
        "two_probes_at_once",
        "Of two workers that see the pool at the same moment, one tries it",
        "app/models/pool.sql",
        (("   AND (probe_until IS NULL OR probe_until < now())\n", ""),),
        (f"{DEFENCES}::test_of_two_workers_that_see_a_pool_at_the_same_moment_one_tries_it",),
    ),
    Mutation(
        "probe_of_a_whole_range",
        "A try is one batch, not a range",
        SEND,
        (("most=choice.batch if choice.probe else choice.burst", "most=choice.burst"),),
        ("tests/test_breaker.py::test_one_batch_and_no_more_tries_whether_it_is_back",),
    ),
    Mutation(
        "late_success_revives",
        "Only a try opens a pool again: an old page that comes in well does not",
        SETTLE,
        (
            (
                "        case None if lease.probe and tally.settled and not tally.calls_not_made:\n",
                "        case None if tally.settled and not tally.calls_not_made:\n",
            ),
        ),
        (f"{DEFENCES}::test_an_old_page_that_comes_in_well_does_not_stand_in_for_a_try",),
    ),
    Mutation(
        "revived_before_its_time",
        "A pool that was told to wait is not opened before",
        "app/models/pool.sql",
        (
            (
                "   AND state = 'paused'\n   AND resume_at <= now()\nRETURNING id\n\n-- A person",
                "   AND state = 'paused'\nRETURNING id\n\n-- A person",
            ),
        ),
        (f"{DEFENCES}::test_a_pool_is_not_opened_before_the_time_that_its_provider_named",),
    ),
    Mutation(
        "finished_uncompared",
        "A campaign is finished only where audience, ranges and record agree",
        "app/flows/finish.py",
        (("    if not _adds_up(conn, campaign_id):\n        return None\n", ""),),
        (f"{SENDING}::test_counts_that_differ_keep_a_campaign_from_being_finished",),
    ),
    Mutation(
        "compared_at_two_moments",
        "Ranges and record are compared as they are at one moment",
        "app/flows/reconcile.py",
        (
            (
                "Comparison(*ledger.sum_all(conn, campaign_id, since), ",
                "Comparison(*ledger.sum_all(conn, campaign_id, since)._replace("
                "ranges=outbox.progress(conn, campaign_id)), ",
            ),
        ),
        (f"{CLOSING}::test_what_webhooks_resolve_while_a_campaign_is_compared_is_no_fault",),
    ),
    Mutation(
        "mended_unlocked",
        "What is resolved while a campaign is mended is not undone",
        "app/flows/finish.py",
        (("        outbox.lock_all(conn, campaign_id)  # whoever", "        pass  # whoever"),),
        (f"{CLOSING}::test_what_webhooks_resolve_while_a_campaign_is_mended_is_not_undone",),
    ),
    Mutation(
        "closed_unseen",
        "A cancelled campaign is not closed while leads of it are being put off",
        "app/flows/steer.py",
        (("                campaign.lock_state(conn, campaign_id)  # whoever", "                pass  # whoever"),),
        (f"{CLOSING}::test_a_cancelled_campaign_stays_open_for_what_is_put_off_while_it_is_closed",),
    ),
    Mutation(
        "missing_event_is_mailed",
        "A missing event is written again from its hand-off, and costs no mail",
        "app/flows/reconcile.py",
        (("        elif each.letters:\n", "        elif each.letters and each.kinds:\n"),),
        ("tests/test_reconcile.py::test_a_missing_event_is_written_again_and_costs_no_mail",),
    ),
    Mutation(
        "unserved_are_forgotten",
        "A lead that nobody served is queued again",
        "app/flows/reconcile.py",
        (("            lost.append(each.lead_id)\n", "            pass\n"),),
        ("tests/test_reconcile.py::test_a_lead_that_nobody_served_is_queued_again",),
    ),
    Mutation(
        "older_than_the_record_is_mended",
        "Nothing is mended of a campaign that is older than the record: whom it skipped is not mailed",
        "app/flows/reconcile.py",
        (("    return since >= rollup.horizon(conn)\n", "    return True\n"),),
        ("tests/test_reconcile.py::test_of_a_campaign_older_than_the_record_nothing_is_mended_and_nobody_mailed",),
    ),
    Mutation(
        "one_stops_all",
        "A range that cannot be rescued stops the rescue of no other",
        "app/flows/one_by_one.py",
        (("        except Unavailable:\n", "        except Exception:\n"),),
        ("tests/test_one_by_one.py::test_a_range_that_cannot_be_rescued_stops_the_rescue_of_no_other",),
    ),
)
