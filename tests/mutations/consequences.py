"""What providers report, read in any order and any number of times: figures, suppressions, replays."""

from __future__ import annotations

from typing import Final

from tests.mutations.mutation import OUTBOX, Mutation

INGEST = "app/flows/ingest.py"
BOUNCE, SUPPRESSION = "app/models/bounce.sql", "app/models/suppression.sql"

CONSEQUENCES: Final = (
    Mutation(
        "delivered_untold",
        "That a provider delivered what it had refused is told of",
        "app/flows/consequences.py",
        (("if hit.match.letter == REFUSED]", "if hit.match.letter == LETTERS[Kind.FAILED]]"),),
        ("tests/test_webhooks.py::test_that_what_was_refused_was_delivered_all_the_same_is_told",),
    ),
    Mutation(
        "first_reason_stays",
        "A suppression has the gravest reason, whichever came first",
        SUPPRESSION,
        (
            (
                "     WHERE (array_position(CAST(:gravest AS text[]), excluded.reason), excluded.happened_at,"
                " excluded.source)\n",
                "     WHERE false AND (array_position(CAST(:gravest AS text[]), excluded.reason), excluded.happened_at,"
                " excluded.source)\n",
            ),
        ),
        ("tests/test_suppressions.py::test_the_gravest_reason_stands_and_of_equal_ones_the_earliest",),
    ),
    Mutation(
        "early_delivery_forgotten",
        "A delivery that was read before the bounce that it follows ends the row of soft bounces all the same",
        BOUNCE,
        (("              AND event.kind = 'delivered'\n", "              AND event.kind = 'cancelled'\n"),),
        (
            "tests/test_consequences.py::test_three_soft_bounces_of_two_campaigns_give_an_address_up_unless_something_was"
            "_delivered_between[True-soft0 soft1 delivered2 soft2-False]",
        ),
    ),
    Mutation(
        "bounce_does_not_wait",
        "A soft bounce waits for the deliveries that are being read at that moment",
        BOUNCE,
        (
            (
                "SELECT pg_advisory_xact_lock(7203194, :organisation_id)",
                "SELECT pg_advisory_xact_lock_shared(7203194, :organisation_id)",
            ),
        ),
        ("tests/test_consequences.py::test_a_bounce_waits_for_the_deliveries_that_are_being_read",),
    ),
    Mutation(
        "unmatched_is_remembered",
        "Only an event of a known email is noted as taken, so that it counts when its email is known",
        INGEST,
        (
            (
                "    new = webhook.add_events(conn, days)\n",
                "    minute = [int(each.at.timestamp() // 60) % 1440 for _, each in told]\n"
                "    named = [webhook.key_of(pool.id, told[n][1].key, at) for n, at in enumerate(minute)]\n"
                "    days |= {key: webhook.day_of(each.at) for key, (_, each) in zip(named, told, strict=True)}\n"
                "    new = webhook.add_events(conn, days)\n",
            ),
        ),
        ("tests/test_replay.py::test_an_event_of_an_email_that_is_known_by_now_is_counted_once",),
    ),
    Mutation(
        "late_twice",
        "A replay counts nothing as late that was read before",
        INGEST,
        (("        elif not post.again:\n", "        else:\n"),),
        ("tests/test_replay.py::test_reading_anew_changes_no_figure",),
    ),
    Mutation(
        "sender_unasked",
        "Who has left a sender is not mailed by it, also when that happened after the launch",
        OUTBOX,
        (
            (
                "0, (SELECT sender_id FROM campaign WHERE id = :campaign_id)\n",
                "0, (SELECT 0 FROM campaign WHERE id = :campaign_id)\n",
            ),
        ),
        ("tests/test_unsubscribe.py::test_leaving_one_sender_leaves_the_lead_to_the_others",),
    ),
    Mutation(
        "wish_without_consent",
        "What somebody has asked for themselves is taken back only with their consent",
        "app/flows/suppressions.py",
        (("        if not consent and needs_consent(conn, organisation_id, row):\n", "        if False:\n"),),
        (
            "tests/test_suppressions.py::test_taking_a_suppression_back_makes_the_lead_active_but_a_wish_only_with_consent"
            "[unsubscribed]",
        ),
    ),
)
