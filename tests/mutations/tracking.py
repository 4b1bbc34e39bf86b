"""Tracking: no click lost while the database is away or the process ends, first ones counted once, machines told."""

from __future__ import annotations

from typing import Final

from tests.mutations.mutation import Mutation

TAKE_HIT, READ, TRACK = "app/flows/take_hit.py", "app/flows/track.py", "tests/test_track.py"
DOOR = "tests/web/test_tracking.py"

TRACKING: Final = (
    Mutation(
        "clicks_lost_at_the_end",
        "A web process that ends writes the clicks that it answered",
        TAKE_HIT,
        (("            atexit.register(self.drain)\n", ""),),
        (f"{DOOR}::test_a_web_process_that_must_end_writes_every_click_that_it_answered",),
    ),
    Mutation(
        "clicks_lost_while_away",
        "Clicks wait while the database is away",
        TAKE_HIT,
        (("                self._waiting.extendleft(reversed(batch))\n", ""),),
        (f"{DOOR}::test_while_the_database_is_away_clicks_are_led_on_at_once_and_nothing_is_lost",),
    ),
    Mutation(
        "later_ones_forget_the_first",
        "Who opened or clicked stays so, whatever comes later",
        "app/models/track.sql",
        (("   SET opened = known.opened | excluded.opened,\n", "   SET opened = excluded.opened,\n"),),
        (f"{TRACK}::test_who_opened_and_who_clicked_counts_once_however_often",),
    ),
    Mutation(
        "visits_are_cut",
        "What belongs to one visit is read together, however it arrived",
        "app/models/track.sql",
        (
            (
                "       AND hit.at <= email.began + make_interval(secs => :burst)\n",
                "       AND hit.at <= email.began\n",
            ),
        ),
        (f"{TRACK}::test_machines_are_told_from_people[visit1-why1]",),
    ),
    Mutation(
        "clicks_count_twice",
        "A click that we see by ourselves is not counted again from the provider's webhook",
        READ,
        (
            (
                "if (each.campaign_id, each.kind) not in own and each.lead_id not in untracked}",
                "if each.lead_id not in untracked}",
            ),
        ),
        (f"{TRACK}::test_what_we_track_by_ourselves_is_not_counted_again_from_webhooks",),
    ),
)
