"""A/B tests: everybody keeps one content, the rest waits for the winner, and it is chosen once, by people."""

from __future__ import annotations

from typing import Final

from tests.mutations.mutation import OUTBOX, Mutation

VARIANT, TESTS = "app/models/variant.sql", "tests/test_variants.py"

VARIANTS: Final = (
    Mutation(
        "retries_forget_their_variant",
        "Whoever is put off, or sent to again, gets the content of the first time",
        OUTBOX,
        (("       variant, rest, message\n", "       0, rest, message\n"),),
        (
            f"{TESTS}::test_what_the_provider_puts_off_does_not_hold_the_wait_up_and_keeps_its_variant",
            f"{TESTS}::test_the_failed_are_sent_again_what_they_had",
        ),
    ),
    Mutation(
        "winner_before_the_wait_is_over",
        "The clock chooses a winner when the wait is over, and a paused campaign's not at all",
        VARIANT,
        (
            ("   AND variant_test.decide_at <= now()\n   AND campaign.state = 'sending'\n", ""),
            ("   AND (:by_hand OR decide_at <= now())\n", ""),
        ),
        (f"{TESTS}::test_after_the_wait_the_rest_gets_the_variant_that_most_people_clicked",),
    ),
    Mutation(
        "winner_chosen_twice",
        "Of many who choose at once one does",
        VARIANT,
        ((" WHERE campaign_id = :campaign_id\n   AND winner IS NULL\n", " WHERE campaign_id = :campaign_id\n"),),
        (f"{TESTS}::test_a_winner_that_was_chosen_stays_the_winner",),
    ),
    Mutation(
        "machines_choose",
        "Machines' clicks choose nothing",
        VARIANT,
        (("first_touch.clicked_by_people", "first_touch.clicked"),),
        (f"{TESTS}::test_machines_choose_nothing",),
    ),
    Mutation(
        "the_rest_counts_in_the_test",
        "What the rest does changes nothing of the test",
        VARIANT,
        (("       rest = true\n", "       rest = false\n"),),
        (f"{TESTS}::test_clicks_of_the_rest_change_nothing_of_the_test",),
    ),
    Mutation(
        "the_rest_is_hurried",
        "A pool that is set going again hurries nobody who waits for a winner",
        OUTBOX,
        (
            (
                "   AND outbox.variant >= 0\n   AND campaign.state IN ('sending', 'paused')",
                "   AND campaign.state IN ('sending', 'paused')",
            ),
        ),
        (f"{TESTS}::test_a_pool_that_is_set_going_again_hurries_nobody_who_waits_for_the_winner",),
    ),
)
