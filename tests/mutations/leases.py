"""Leases, fences, pauses: what keeps two workers from the same lead, and a sleeper from speaking."""

from __future__ import annotations

from typing import Final

from tests.mutations.mutation import CLAIM, DEFENCES, FAULTS, OUTBOX, PAGES, SEND, SENDING, Mutation

LEASES: Final = (
    Mutation(
        "settle_without_fence",
        "A worker that lost its lease cannot settle",
        OUTBOX,
        (
            (
                "       moved = moved + :moved\n WHERE id = :range_id\n   AND fence = :fence\n",
                "       moved = moved + :moved\n WHERE id = :range_id\n",
            ),
        ),
        (f"{CLAIM}::test_a_worker_that_lost_its_lease_can_neither_hand_over_nor_settle",),
    ),
    Mutation(
        "hand_over_without_fence",
        "A worker that lost its lease cannot hand over",
        OUTBOX,
        ((" WHERE outbox.id = :range_id\n   AND outbox.fence = :fence\n", " WHERE outbox.id = :range_id\n"),),
        (f"{CLAIM}::test_a_worker_that_lost_its_lease_can_neither_hand_over_nor_settle",),
    ),
    Mutation(
        "expired_lease_hands_over",
        "A lease that ran out hands nothing over, though nobody has taken the range yet",
        OUTBOX,
        (("   AND outbox.lease_until > now()\n", ""),),
        (f"{FAULTS}::test_a_lease_that_ran_out_hands_nothing_over_even_when_nobody_took_it",),
    ),
    Mutation(
        "no_renewal",
        "The hand-over renews the lease",
        OUTBOX,
        (
            (
                "lease_until = CASE WHEN campaign.state = 'sending' THEN now() + make_interval(secs => :lease) END",
                "lease_until = CASE WHEN campaign.state = 'sending' AND :lease > 0 THEN outbox.lease_until END",
            ),
        ),
        (f"{DEFENCES}::test_the_hand_over_renews_the_lease",),
    ),
    Mutation(
        "claim_waits",
        "A range that another worker is claiming is passed over, not waited for",
        OUTBOX,
        (
            (
                "       FOR UPDATE SKIP LOCKED\n)\nUPDATE outbox\n   SET state = 'leased'",
                "       FOR UPDATE\n)\nUPDATE outbox\n   SET state = 'leased'",
            ),
        ),
        (f"{CLAIM}::test_a_locked_range_is_passed_over_without_waiting",),
    ),
    Mutation(
        "speaks_late",
        "A process that slept past its lease does not call the provider",
        SEND,
        (("    if uptime() > latest:\n", "    if uptime() > latest + 1e9:\n"),),
        (f"{FAULTS}::test_a_process_that_slept_after_handing_over_does_not_speak",),
    ),
    Mutation(
        "never_stops",
        "A worker that is told to stop claims no other page",
        SEND,
        (
            (
                "    while time.monotonic() < until and not runtime.stopping.is_set():\n",
                "    while time.monotonic() < until:\n",
            ),
        ),
        ("tests/test_workers.py::test_a_worker_that_is_told_to_stop_finishes_its_page_and_claims_no_other",),
    ),
    Mutation(
        "no_quarantine",
        "A range on which three workers died waits for a person",
        OUTBOX,
        (("WHEN crashes + 1 >= :most_crashes THEN 'quarantined'", "WHEN crashes + 1 >= :most_crashes THEN 'ready'"),),
        (f"{CLAIM}::test_a_range_on_which_three_workers_died_is_quarantined",),
    ),
    Mutation(
        "crashes_never_forgotten",
        "Crashes on one page of a range are not held against the next",
        OUTBOX,
        (("       crashes = 0,\n", ""),),
        (f"{CLAIM}::test_crashes_on_one_page_are_not_held_against_the_next",),
    ),
    Mutation(
        "cancelled_stays_quarantined",
        "What is quarantined after its campaign was cancelled is closed too",
        "app/flows/steer.py",
        (("        _release(conn, campaign_id)  # its worker", "        pass  # its worker"),),
        (f"{FAULTS}::test_a_range_that_is_quarantined_after_its_campaign_was_cancelled_is_closed_too",),
    ),
    Mutation(
        "pause_unasked",
        "The hand-over asks whether the campaign still sends",
        OUTBOX,
        (
            (
                "  FROM campaign\n WHERE outbox.id = :range_id",
                "  FROM (SELECT id, 'sending' AS state FROM campaign) AS campaign\n WHERE outbox.id = :range_id",
            ),
        ),
        (f"{SENDING}::test_pause_stops_within_a_page_and_resume_loses_nobody",),
    ),
    Mutation(
        "given_back_by_two",
        "Each page that a process kept while the database was away is given back, and by one thread",
        SEND,
        (
            (
                "            lease = runtime.kept.popleft()  # taken first",
                "            lease = runtime.kept[0]  # taken first",
            ),
            (
                "                outbox.put_back(conn, lease, 0.0)\n        except BaseException:\n"
                "            runtime.kept.append(lease)\n            raise\n",
                "                outbox.put_back(conn, lease, 0.0)\n            runtime.kept.popleft()\n"
                "        except Unavailable:\n            raise\n",
            ),
        ),
        (f"{PAGES}::test_every_page_that_was_kept_is_given_back_whatever_other_threads_do",),
    ),
    Mutation(
        "suppressed_in_hand",
        "Who was suppressed while a page was in hand for more than five seconds is left out of it",
        SEND,
        (("FRESH = 5.0", "FRESH = 1e9"),),
        (
            f"{PAGES}::test_who_was_suppressed_while_a_page_was_in_hand_for_long_is_not_mailed",
            f"{PAGES}::test_who_was_suppressed_while_the_database_was_away_is_not_mailed",
        ),
    ),
    Mutation(
        "suppressed_since",
        "Who was suppressed since the launch is left out when the page is handed over",
        OUTBOX,
        (("           THEN 'suppressed'\n", "           THEN NULL\n"),),
        (f"{SENDING}::test_who_is_suppressed_after_the_launch_is_skipped_with_the_reason",),
    ),
)
