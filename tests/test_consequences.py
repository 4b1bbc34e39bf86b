"""Consequences: who is suppressed by what a provider reports, the same in whatever order it comes."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from secrets import token_hex
from threading import Thread
from typing import Any, NamedTuple

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from app.flows import consequences, edit_lead, ingest
from app.flows.edit_lead import Entry
from app.mail import Bounce, Kind
from app.models import bounce, webhook
from app.models.suppression import REASONS
from app.runtime import Runtime
from tests import world

HOUR = timedelta(hours=1)
NOW = datetime.now(UTC).replace(microsecond=0) - HOUR
# type of the sink's events, its bounce, and how often it is drawn.
TYPES = {
    "accepted": ("accepted", None, 1),
    "dropped": ("dropped", None, 1),
    "deferred": ("deferred", None, 1),
    "delivered": ("delivered", None, 4),
    "hard": ("bounced", "hard", 3),
    "soft": ("bounced", "soft", 12),
    "blocked": ("bounced", "blocked", 1),
    "complained": ("complained", None, 3),
    "opened": ("opened", None, 1),
    "unsubscribed": ("unsubscribed", None, 3),
}
TABLES = (
    *("event", "webhook", "webhook_event", "suppression", "suppression_removed"),
    *("soft_bounce", "campaign_blocked", "late_event", "pool_webhook", "alert"),
)
SUPPRESSING = {"hard": "bounced", "complained": "complained", "unsubscribed": "unsubscribed"}


class Event(NamedTuple):
    """Something a provider reports: of which call, of which of its two leads, so many hours ago."""

    call: int
    place: int
    type: str
    hours: int


@dataclass
class House:
    """Two leads, three campaigns; four calls to both of the leads, the last of which is under way."""

    runtime: Runtime

    def __post_init__(self) -> None:
        built = self.world = world.build(
            self.runtime.db, secret_key=self.runtime.settings.secret_key, leads=2, state="sending"
        )
        with self.runtime.db.begin() as conn:
            self.lead_ids = list(conn.execute(text("SELECT id FROM lead ORDER BY id")).scalars())
            ours = (built.organisation_id, built.user_id, built.sender_id)
            campaigns = [built.campaign_id, *(world.add_campaign(conn, *ours, state="sending") for _ in range(2))]
            conn.execute(text("UPDATE campaign SET run = 1, launched_at = now() - interval '9 days'"))
            self.campaign_ids = [campaigns[place] for place in (0, 0, 1, 2)]
            self.calls = [self._call(conn, each, place < 3) for place, each in enumerate(self.campaign_ids)]
        ingest._make_days(self.runtime)

    def _call(self, conn: Any, campaign_id: int, lost: bool) -> int:
        range_id = world.add_range(conn, campaign_id, self.lead_ids)
        conn.execute(
            text("UPDATE outbox SET state = 'done', position = 2, unknown = :unknown WHERE id = :id")
            if lost
            else text(
                "UPDATE outbox SET state = 'leased', position = 2, unknown = :unknown, owner = gen_random_uuid(),"
                " lease_until = now() + interval '1 hour' WHERE id = :id"
            ),
            {"unknown": 2 if lost else 0, "id": range_id},
        )
        return int(
            conn.execute(
                text(
                    "INSERT INTO handoff (range_id, campaign_id, pool_id, run, state, key, lead_ids, outcomes,"
                    " unknown_since) VALUES (:range, :campaign, :pool, 1, :state, gen_random_uuid(), :leads, :outcomes,"
                    " CASE WHEN :lost THEN now() END) RETURNING id"
                ),
                {
                    "range": range_id,
                    "campaign": campaign_id,
                    "pool": self.world.pool_id,
                    "state": "unknown" if lost else "handed",
                    "leads": self.lead_ids,
                    "outcomes": "uu" if lost else None,
                    "lost": lost,
                },
            ).scalar_one()
        )

    def begin_anew(self) -> None:
        with self.runtime.db.begin() as conn:
            for table in TABLES:
                conn.execute(text(f"DELETE FROM {table}"))
            conn.execute(text("UPDATE lead SET status = 'active'"))
            conn.execute(
                text("UPDATE outbox SET sent = 0, refused = 0, unknown = CASE WHEN state = 'done' THEN 2 ELSE 0 END")
            )
            conn.execute(
                text("UPDATE handoff SET state = 'unknown', outcomes = 'uu', unknown_since = now() WHERE id <> :last"),
                {"last": self.calls[-1]},
            )
            conn.execute(text("UPDATE handoff SET evidence = '{}' WHERE id = :last"), {"last": self.calls[-1]})

    def tell(self, numbered: Sequence[tuple[int, Event]], *, read: bool = True) -> None:
        """One post with these events; an event's number is its provider's id of it."""
        events = []
        for number, each in numbered:
            kind, sort, _ = TYPES[each.type]
            at = (NOW - each.hours * HOUR).isoformat()
            told = {"id": f"e{number}", "type": kind, "time": at, "handoff": self.calls[each.call]}
            events.append(told | {"lead": self.lead_ids[each.place], "bounce": sort, "reason": "550 no"})
        with self.runtime.db.begin() as conn:
            webhook.keep(conn, self.world.pool_id, token_hex(8), orjson.dumps({"events": events}))
        if read:
            assert not ingest.read_waiting(self.runtime)

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        with self.runtime.db.begin() as conn:
            return [tuple(row) for row in conn.execute(text(statement))]

    def state(self) -> dict[str, object]:
        """Everything that events leave behind."""
        return {
            "figures": self.rows(
                "SELECT campaign_id, lead_id, kind::text, sum(weight) FROM event GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
            ),
            "letters": self.rows("SELECT id, state, outcomes FROM handoff ORDER BY id"),
            "evidence": self.rows("SELECT DISTINCT unnest(evidence) FROM handoff ORDER BY 1"),
            "ranges": self.rows("SELECT id, sent, refused, unknown FROM outbox ORDER BY id"),
            "suppressed": self.suppressed(),
            "leads": self.rows("SELECT id, status FROM lead ORDER BY id"),
            "softly": self.rows(
                "SELECT lead_id, handoff_id, happened_at, delivered_at FROM soft_bounce ORDER BY 1, 2, 3"
            ),
            "blocked": self.rows("SELECT campaign_id, total FROM campaign_blocked ORDER BY 1"),
        }

    def suppressed(self) -> list[tuple[Any, ...]]:
        return self.rows(
            "SELECT lead.id, reason, source FROM suppression JOIN lead USING (organisation_id, email) ORDER BY 1"
        )

    def expected(self, events: Sequence[Event]) -> list[tuple[Any, ...]]:
        """Who is to be suppressed, by the rule as it is written down, from the events in the order of their times."""
        found = []
        for place, lead_id in enumerate(self.lead_ids):
            own = [each for each in events if each.place == place]
            reasons = [
                (REASONS.index(SUPPRESSING[each.type]), -each.hours, f"campaign {self.campaign_ids[each.call]}")
                for each in own
                if each.type in SUPPRESSING
            ]
            if reasons:
                rank, _, source = min(reasons)
                found.append((lead_id, REASONS[rank], source))
            elif self._is_given_up(own):
                found.append((lead_id, "soft_bounced", "3 soft bounces within 30 days"))
        return found

    def _is_given_up(self, own: Sequence[Event]) -> bool:
        run: list[Event] = []
        # Of a delivery and a bounce at the same moment the delivery is the later.
        for each in sorted(own, key=lambda each: (-each.hours, each.type == "delivered")):
            if each.type == "delivered":
                run = []
            elif each.type == "soft":
                run.append(each)
                if len({each.call for each in run}) >= 3 and len({self.campaign_ids[each.call] for each in run}) >= 2:
                    return True
        return False


@pytest.fixture
def house(runtime: Runtime) -> House:
    return House(runtime)


def sentence(of: str) -> list[Event]:
    """Events in words: "soft0 soft1 delivered1 …", the number being the call; an hour apart, all of the first lead."""
    words = of.split()
    return [Event(int(word[-1]), 0, word[:-1], len(words) - place) for place, word in enumerate(words)]


EVENTS = st.lists(
    st.builds(
        Event,
        st.integers(0, 3),
        st.integers(0, 1),
        st.sampled_from([name for name, (_, _, often) in TYPES.items() for _ in range(often)]),
        st.integers(0, 12) | st.integers(0, 150),
    ),
    min_size=1,
    max_size=14,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=EVENTS, data=st.data())
def test_any_order_and_any_posts_of_the_same_events_leave_the_same(
    house: House, events: list[Event], data: st.DataObject
) -> None:
    numbered = list(enumerate(events))
    house.begin_anew()
    house.tell(sorted(numbered, key=lambda each: -each[1].hours))
    in_time = house.state()
    assert house.suppressed() == house.expected(events)

    house.begin_anew()
    again = data.draw(st.lists(st.sampled_from(numbered), max_size=4), label="told twice")
    order = data.draw(st.permutations(numbered + again), label="order")
    cuts = sorted(data.draw(st.sets(st.integers(0, len(order)), max_size=5), label="cuts") | {0, len(order)})
    for start, end in itertools.pairwise(cuts):
        house.tell(order[start:end], read=data.draw(st.booleans(), label="read at once"))
    ingest.read_waiting(house.runtime)
    assert house.state() == in_time


@pytest.mark.parametrize(
    ("told", "given_up"),
    [
        ("soft0 soft1 soft2", True),
        ("soft0 soft1", False),
        ("soft0 soft0 soft0 soft2", False),  # two emails, however often they come back
        ("soft0 soft1 delivered2 soft2", False),
        ("delivered0 soft0 soft1 soft2", True),
        ("soft0 soft1 soft2 delivered3", True),  # it was suppressed when that came
        ("soft0 delivered1 soft1 soft2 soft3", True),
    ],
)
@pytest.mark.parametrize("turned", [False, True])
def test_three_soft_bounces_of_two_campaigns_give_an_address_up_unless_something_was_delivered_between(
    house: House, told: str, given_up: bool, turned: bool
) -> None:
    numbered = list(enumerate(sentence(told)))
    for each in reversed(numbered) if turned else numbered:
        house.tell([each])
    assert bool(house.suppressed()) is given_up
    assert house.rows("SELECT status FROM lead ORDER BY id")[0] == ("invalid" if given_up else "active",)


def test_one_campaigns_soft_bounces_give_nobody_up(house: House) -> None:
    with house.runtime.db.begin() as conn:
        conn.execute(text("UPDATE handoff SET campaign_id = :first"), {"first": house.campaign_ids[0]})
    house.tell(list(enumerate(sentence("soft0 soft1 soft2"))))
    assert house.suppressed() == []


def test_soft_bounces_further_apart_than_thirty_days_do_not_add_up(house: House) -> None:
    house.tell(list(enumerate(sentence("soft0 soft1"))))
    for hours, (days, given_up) in enumerate(((31, False), (29, True))):
        with house.runtime.db.begin() as conn:
            conn.execute(
                text("UPDATE soft_bounce SET happened_at = :at WHERE handoff_id = :call"),
                {"at": NOW - timedelta(days=days), "call": house.calls[0]},
            )
        house.tell([(90 + days, Event(2, 0, "soft", hours))])
        assert bool(house.suppressed()) is given_up


@pytest.mark.editions
def test_what_a_delivery_takes_back_is_kept_with_the_reason(house: House) -> None:
    house.tell(list(enumerate(sentence("soft0 soft1 opened3 soft2"))))
    assert house.suppressed() == [(house.lead_ids[0], "soft_bounced", "3 soft bounces within 30 days")]
    house.tell([(9, Event(3, 0, "delivered", 2))])
    assert house.suppressed() == []
    assert house.rows("SELECT reason, removed_by, note FROM suppression_removed") == [
        ("soft_bounced", None, consequences.HEALED)
    ]
    assert house.rows("SELECT status FROM lead ORDER BY id")[0] == ("active",)


def test_a_bounce_waits_for_the_deliveries_that_are_being_read(house: House) -> None:
    """A transaction that has noted a delivery, and is not over, is not overlooked."""
    house.tell(list(enumerate(sentence("soft0 soft1"))))
    with house.runtime.db.begin() as conn:
        bounce.take_turn(conn, house.world.organisation_id, alone=False)
        reader = Thread(target=house.tell, args=([(9, Event(2, 0, "soft", 0))],))
        reader.start()
        reader.join(1.0)
        assert reader.is_alive()
        bounce.note_deliveries(conn, [bounce.Delivery(house.lead_ids[0], NOW - HOUR)])
    reader.join(10.0)
    assert house.suppressed() == []


def test_emails_that_are_not_liked_suppress_nobody_and_alert_the_owner_once(house: House) -> None:
    with house.runtime.db.begin() as conn:
        sent = world.add_range(conn, house.campaign_ids[0], list(range(1000, 3200)))
        conn.execute(
            text("UPDATE outbox SET state = 'done', position = 2200, sent = 2200 WHERE id = :id"), {"id": sent}
        )
    alerts = "SELECT kind, campaign_id, times, cleared_at IS NULL FROM alert ORDER BY id"
    house.tell([(number, Event(0, 0, "blocked", 1)) for number in range(9)])
    assert house.rows(alerts) == []  # few mean nothing
    house.tell([(number, Event(0, 0, "blocked", 1)) for number in range(9, 20)])
    assert house.rows(alerts) == []  # nor does less than a hundredth of what was sent
    house.tell([(number, Event(0, 0, "blocked", 1)) for number in range(20, 24)])
    house.tell([(number, Event(0, 0, "blocked", 1)) for number in range(24, 40)])
    assert house.rows(alerts) == [("blocked", house.campaign_ids[0], 1, True)]
    assert house.rows("SELECT total, told FROM campaign_blocked") == [(40, 24)]
    (message,) = house.rows("SELECT message FROM alert")[0]
    assert message.startswith("24 of 2,201 emails were turned away") and "550 no" in message
    assert house.suppressed() == []
    assert house.rows("SELECT status FROM lead") == [("active",), ("active",)]


def test_a_bounce_of_the_address_before_says_nothing_of_the_one_that_was_mended(house: House) -> None:
    lead_id, mended = house.lead_ids[0], "mended@example.com"
    edit_lead.update(house.runtime, house.world.organisation_id, lead_id, Entry(mended))
    house.tell(list(enumerate([Event(0, 0, "hard", 3), *(Event(call, 0, "soft", 2) for call in range(3))])))
    assert (house.suppressed(), house.rows("SELECT count(*) FROM soft_bounce")) == ([], [(0,)])
    house.tell([(9, Event(1, 0, "complained", 1))])
    assert [row[:2] for row in house.suppressed()] == [(lead_id, "complained")]


def test_what_follows_is_one_table() -> None:
    kinds = {Kind.BOUNCED: tuple(Bounce), Kind.COMPLAINED: (None,), Kind.UNSUBSCRIBED: (None,)}
    for kind, bounces in kinds.items():
        for sort in bounces:
            assert (kind, sort) in consequences.CONSEQUENCES
    words = {consequences.COUNTED, consequences.HEALS, consequences.TOLD, *REASONS}
    assert set(consequences.CONSEQUENCES.values()) <= words


def test_old_soft_bounces_are_dropped(house: House) -> None:
    house.tell(list(enumerate(sentence("soft0 soft1"))))
    with house.runtime.db.begin() as conn:
        conn.execute(
            text("UPDATE soft_bounce SET happened_at = now() - interval '41 days' WHERE handoff_id = :call"),
            {"call": house.calls[0]},
        )
    ingest.tidy(house.runtime)
    assert house.rows("SELECT handoff_id FROM soft_bounce") == [(house.calls[1],)]
