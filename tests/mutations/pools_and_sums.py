"""Breakers, and the comparison before a campaign is finished."""

from __future__ import annotations

from typing import Final

from tests.mutations.mutation import SEND, SENDING, SETTLE, Mutation

POOLS_AND_SUMS: Final = (
    Mutation(
        "probes_without_limit",
        "While a provider is down, one worker at a time tries it",
        SEND,
        (
            (
                "            if choice.probe and not pool.begin_probe(conn, choice.pool_id, seconds):\n",
                "            if choice.probe and pool.begin_probe(conn, choice.pool_id, seconds) is None:\n",
            ),
        ),
        ("tests/test_breaker.py::test_one_batch_and_no_more_tries_whether_it_is_back",),
    ),
    Mutation(
        "probe_of_a_whole_range",
        "A try is one batch, not a range",
        SEND,
        (("            most = choice.batch if choice.probe else outbox.WHOLE\n", "            most = outbox.WHOLE\n"),),
        ("tests/test_breaker.py::test_one_batch_and_no_more_tries_whether_it_is_back",),
    ),
    Mutation(
        "late_success_revives",
        "An old page that comes in well does not open a pool that was told to wait",
        SETTLE,
        (
            (
                "        case None if lease.probe and tally.settled and not tally.calls_not_made:\n",
                "        case None if tally.settled and not tally.calls_not_made:\n",
            ),
        ),
        ("tests/test_breaker.py::test_an_old_page_that_comes_in_well_does_not_open_a_pool_that_was_told_to_wait",),
    ),
    Mutation(
        "finished_uncompared",
        "A campaign is finished only where audience, ranges and record agree",
        "app/flows/finish.py",
        (("    if not _adds_up(conn, campaign_id):\n        return None\n", ""),),
        (f"{SENDING}::test_counts_that_differ_keep_a_campaign_from_being_finished",),
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
)
