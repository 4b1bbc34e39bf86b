"""Tracking: hits become events, machines are told from people, each lead's first open and click counts once."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from app.errors import Invalid
from app.flows import edit_campaign, ingest, launch, pools, send_range, take_webhook, track
from app.flows.edit_campaign import Draft
from app.flows.take_hit import Door
from app.mail import Kind
from app.models import campaign, outbox, webhook
from app.models import track as tracking
from app.models.track import HONEYPOT, PIXEL, Firsts, Hit, Touch
from app.providers import standard
from app.runtime import Runtime
from tests import world
from tests.peers import Peer

SECRET = "whsec_" + "A" * 32
HTML = (
    '<html><body><p><a href="https://shop.example.com/a?x=1&amp;y=2">A</a> <a href="https://shop.example.com/b">B</a>'
    ' <a href="https://shop.example.com/c">C</a> <a href="https://shop.example.com/{{ lead.plan }}">yours</a></p>'
    '<p><a href="{{ unsubscribe_url }}">Unsubscribe</a></p></body></html>'
)


@dataclass(frozen=True, slots=True)
class House:
    """A campaign that was sent, tracked by ourselves; `bodies` are what the provider was given, by lead."""

    runtime: Runtime
    organisation_id: int
    campaign_id: int
    lead_ids: list[int]

    def token(self, place: int) -> str:
        return self.runtime.tracking.signer(self.campaign_id)(self.lead_ids[place])

    def hit(self, place: int, position: int, seconds: float = 60.0, machine: str | None = None) -> Hit:
        """Something that happened so long after the emails were sent."""
        return Hit(self.campaign_id, self.lead_ids[place], position, self.sent_at + timedelta(seconds=seconds), machine)

    @property
    def sent_at(self) -> datetime:
        return self.rows("SELECT max(settled_at) FROM handoff")[0][0]  # type: ignore[return-value]

    def read(self, *hits: Hit) -> None:
        with self.runtime.db.begin() as conn:
            tracking.keep(conn, hits)
        track.read_hits(self.runtime, wait=-3600)

    def firsts(self) -> Firsts:
        with self.runtime.db.begin() as conn:
            return tracking.count_firsts(conn, self.campaign_id)

    def events(self) -> list[tuple[object, ...]]:
        return self.rows(
            "SELECT lead_id, kind::text, link_id, machine, detail ->> 'machine' FROM event"
            " WHERE kind IN ('opened', 'clicked') ORDER BY time, kind, lead_id"
        )

    def links(self) -> list[int]:
        return [int(str(row[0])) for row in self.rows("SELECT id FROM link ORDER BY position")]

    def rows(self, statement: str) -> list[tuple[object, ...]]:
        with self.runtime.db.begin() as conn:
            return [tuple(row) for row in conn.execute(text(statement))]


@pytest.fixture
def house(runtime: Runtime, peer: Peer) -> House:
    return build(runtime, peer)


def build(runtime: Runtime, peer: Peer, leads: int = 5, **draft: str) -> House:
    made = world.build(
        runtime.db, secret_key=runtime.settings.secret_key, leads=leads, provider_url=f"{peer.url}?batch=2"
    )
    wanted = {"html": HTML, "track_opens": "on", "track_clicks": "on"} | draft
    campaign_id = edit_campaign.create(
        runtime,
        made.organisation_id,
        made.user_id,
        Draft("Tracked", made.sender_id, subject="Hello", **wanted),  # type: ignore[arg-type]
    )
    launch.launch(runtime, made.organisation_id, campaign_id)
    send_range.drain(runtime)
    with runtime.db.begin() as conn:
        lead_ids = list(conn.execute(text("SELECT id FROM lead ORDER BY id")).scalars())
    return House(runtime, made.organisation_id, campaign_id, lead_ids)


def test_a_click_and_an_open_stand_in_the_record_with_everything_that_reports_ask_for(house: House) -> None:
    house.read(house.hit(1, PIXEL), house.hit(1, 2, 61))
    assert house.events() == [
        (house.lead_ids[1], "opened", 0, False, None),
        (house.lead_ids[1], "clicked", house.links()[1], False, None),
    ]
    found = house.rows(
        "SELECT event.organisation_id, user_id, campaign_id, pool_id, variant, run, event.domain_id = lead.domain_id,"
        " event.time FROM event JOIN lead ON lead.id = lead_id WHERE kind = 'opened'"
    )
    sent = house.rows("SELECT organisation_id, user_id, campaign_id, pool_id, variant, run FROM event LIMIT 1")
    assert found == [(*sent[0], True, house.hit(1, PIXEL).at)]
    assert house.rows("SELECT count(*) FROM hit") == [(0,)]


def test_who_opened_and_who_clicked_counts_once_however_often(house: House) -> None:
    for _ in range(3):
        house.read(house.hit(0, PIXEL), house.hit(0, 1, 70), house.hit(2, 1, 90), house.hit(3, PIXEL, machine="apple"))
    assert house.firsts() == Firsts(opened=2, opened_by_people=1, clicked=2, clicked_by_people=2)
    house.read(house.hit(4, PIXEL, 99))
    assert house.firsts() == Firsts(opened=3, opened_by_people=2, clicked=2, clicked_by_people=2)


def test_a_machine_first_and_a_person_later_are_both_counted_in_any_order(house: House) -> None:
    machine = Touch(house.campaign_id, house.lead_ids[4], Kind.CLICKED, machine=True)
    person = machine._replace(machine=False)
    for order in ([machine], [machine, person], [person, machine, machine]):
        with house.runtime.db.begin() as conn:
            tracking.touch(conn, order)
    assert house.firsts() == Firsts(clicked=1, clicked_by_people=1)


@pytest.mark.parametrize(
    ("visit", "why"),
    [
        ([(1, 60, "head")], ["head"]),
        ([(1, 60, None), (2, 61, None), (3, 62, None)], ["every link"] * 3),
        ([(1, 60, None), (2, 61, None), (3, 80, None)], [None] * 3),
        ([(1, 60, None), (2, 61, None)], [None] * 2),
        ([(PIXEL, 60, None), (2, 61, None), (HONEYPOT, 62, None)], ["hidden link"] * 2),
        ([(HONEYPOT, 60, None), (2, 80, None)], [None]),
        ([(1, 1.0, None), (1, 2.5, None)], ["at once", None]),
    ],
)
def test_machines_are_told_from_people(
    house: House, visit: list[tuple[int, float, str | None]], why: list[str | None]
) -> None:
    house.read(*(house.hit(0, position, seconds, machine) for position, seconds, machine in reversed(visit)))
    assert [row[4] for row in house.events()] == why
    assert [row[3] for row in house.events()] == [each is not None for each in why]


def test_what_comes_right_at_the_delivery_is_no_person(house: House) -> None:
    at = house.hit(0, 1).at
    with house.runtime.db.begin() as conn:
        conn.execute(
            text(
                "INSERT INTO event (time, lead_id, organisation_id, user_id, campaign_id, domain_id, kind)"
                " SELECT CAST(:at AS timestamptz) - interval '1 s', lead_id, organisation_id, user_id, campaign_id,"
                " domain_id, 'delivered' FROM event WHERE lead_id = :lead_id"
            ),
            {"at": at, "lead_id": house.lead_ids[0]},
        )
    house.read(house.hit(0, 1), house.hit(1, 1))
    assert [row[4] for row in house.events()] == ["at once", None]


def test_hits_are_not_read_before_the_rest_of_their_visit_is_there(house: House) -> None:
    with house.runtime.db.begin() as conn:
        now = campaign.now(conn)
        tracking.keep(conn, [house.hit(0, 1)._replace(at=now)])
    assert track.read_hits(house.runtime) == 0
    assert house.rows("SELECT count(*) FROM hit") == [(1,)]
    with house.runtime.db.begin() as conn:
        conn.execute(text("UPDATE hit SET at = at - interval '9 s'"))
    assert track.read_hits(house.runtime) == 1


def test_of_two_readers_one_reads(house: House) -> None:
    with house.runtime.db.begin() as conn:
        tracking.keep(conn, [house.hit(0, 1)])
        assert tracking.take_turn(conn)
        assert track.read_hits(house.runtime, wait=-3600) == 0
    assert track.read_hits(house.runtime, wait=-3600) == 1


def test_a_lead_who_was_erased_is_counted_and_one_who_does_not_want_it_is_not(house: House) -> None:
    with house.runtime.db.begin() as conn:
        conn.execute(text("DELETE FROM lead WHERE id = :id"), {"id": house.lead_ids[0]})
        tracking.set_untracked(conn, house.lead_ids[1], True)
    house.read(house.hit(0, 1), house.hit(1, 1), house.hit(2, 1))
    assert [row[0] for row in house.events()] == [house.lead_ids[0], house.lead_ids[2]]
    assert house.firsts().clicked == 2


def test_hits_of_what_was_never_sent_are_dropped(house: House) -> None:
    house.read(house.hit(0, 1)._replace(lead_id=10**9), house.hit(0, 1)._replace(campaign_id=10**6))
    assert (house.events(), house.firsts()) == ([], Firsts())
    assert house.rows("SELECT count(*) FROM hit") == [(0,)]


def test_a_link_leads_where_it_was_written_to_and_nowhere_else(house: House) -> None:
    door = Door(house.runtime)
    assert door.follow(house.token(0), 1, None) == "https://shop.example.com/a?x=1&y=2"
    assert door.follow(house.token(0), 0, None) == ""
    for token, number in ((house.token(0), 4), ("A" * 28, 1), (house.token(0)[:-1] + "!", 1), ("", 1)):
        assert door.follow(token, number, None) is None
    assert door.open(house.token(0), None)
    door.drain()
    assert sorted(house.rows("SELECT position FROM hit")) == [(-1,), (0,), (1,)]


def test_a_link_to_no_host_that_there_is_stops_no_hit_from_being_written(house: House) -> None:
    house.rows("UPDATE link SET url = 'https://b\u00fccher..example/\u00e4' WHERE position = 1 RETURNING id")
    door = Door(house.runtime)
    assert door.follow(house.token(0), 2, None) == "https://shop.example.com/b"
    until = time.monotonic() + 10
    for hits in (1, 2):  # links are read ahead after the first
        while house.rows("SELECT count(*) FROM hit") != [(hits,)] and time.monotonic() < until:
            time.sleep(0.05)
        assert door.waiting == 0
        assert door.follow(house.token(0), 1, None) == "https://b%C3%BCcher..example/%C3%A4"
    door.drain()


def take(house: House, events: list[dict[str, object]], repeat: int = 1) -> None:
    """The sink's webhook says so, `repeat` times."""
    with house.runtime.db.begin() as conn:
        (door,) = webhook.list_doors(conn, house.organisation_id).values()
    pools.set_webhook_secret(house.runtime, house.organisation_id, door.pool_id, SECRET)
    body = orjson.dumps({"events": events})
    for number in range(repeat):
        headers = standard.sign(f"msg_{len(events)}_{number}_{events[0]['id']}", body, SECRET)
        take_webhook.take(house.runtime, door.token, headers, body)
    while ingest.read_waiting(house.runtime):
        pass


def said(house: House, place: int, kind: str) -> dict[str, object]:
    """An event as the sink tells it."""
    lead_id = house.lead_ids[place]
    handoff_id = house.rows(f"SELECT id FROM handoff WHERE {lead_id} = ANY(lead_ids)")[0][0]
    return {
        "id": f"{kind}-{place}",
        "type": kind,
        "time": house.hit(place, 1).at.isoformat(),
        "handoff": handoff_id,
        "lead": lead_id,
        "ref": f"sink-{place}",
        **({"url": "https://shop.example.com/b"} if kind == "clicked" else {}),
    }


def test_first_opens_and_clicks_are_counted_from_a_providers_webhooks_alike(runtime: Runtime, peer: Peer) -> None:
    house = build(runtime, peer, track_opens="auto", track_clicks="off")
    take(house, [said(house, 0, "opened"), said(house, 1, "opened"), said(house, 1, "clicked")], repeat=2)
    assert house.firsts() == Firsts(opened=2, opened_by_people=2, clicked=1, clicked_by_people=1)
    found = sorted((str(row[1]), row[2]) for row in house.events())
    assert found == [("clicked", house.links()[1]), ("opened", 0), ("opened", 0)]


def test_what_we_track_by_ourselves_is_not_counted_again_from_webhooks(runtime: Runtime, peer: Peer) -> None:
    house = build(runtime, peer, track_opens="on", track_clicks="auto")
    take(house, [said(house, 0, "opened"), said(house, 0, "clicked"), said(house, 0, "delivered")])
    assert [row[1] for row in house.events()] == ["clicked"]
    assert house.firsts() == Firsts(clicked=1, clicked_by_people=1)


def test_what_a_provider_says_of_a_lead_who_is_not_to_be_tracked_is_not_recorded(runtime: Runtime, peer: Peer) -> None:
    house = build(runtime, peer, track_opens="off", track_clicks="off")
    with runtime.db.begin() as conn:
        tracking.set_untracked(conn, house.lead_ids[0], True)
    take(house, [said(house, 0, "opened"), said(house, 1, "opened")])
    assert [row[0] for row in house.events()] == [house.lead_ids[1]]


def test_an_email_that_was_sent_holds_the_leads_own_links_and_a_pixel(runtime: Runtime, peer: Peer) -> None:
    house = build(runtime, peer)
    with runtime.db.begin() as conn:
        sending = campaign.load_sending(conn, house.campaign_id)
        leads = outbox.load_page(conn, house.organisation_id, house.campaign_id, house.lead_ids)
    composer = send_range.composer_of(runtime, sending)
    letters, _ = composer.compose(leads)
    html = composer.content.html.fill(letters[2].values)
    base = runtime.settings.base_url
    assert f'<a href="{base}/t/{house.token(2)}/1">A</a>' in html
    assert f'<a href="{base}/t/{house.token(2)}/3">C</a>' in html
    assert '<a href="https://shop.example.com/free">yours</a>' in html
    assert f'<a href="{letters[2].unsubscribe_url}">Unsubscribe</a>' in html
    assert html.endswith('border:0"></body></html>')
    assert f'<img src="{base}/o/{house.token(2)}.gif"' in html
    assert f"{base}/t/{house.token(2)}/2" in composer.content.text.fill(letters[2].values)


@pytest.mark.parametrize(
    ("provider", "choice", "is_tracked"),
    [("smtp", "auto", True), ("ses", "auto", False), ("ses", "on", True), ("smtp", "off", False)],
)
def test_by_itself_it_is_tracked_where_the_provider_reports_nothing(
    house: House, provider: str, choice: str, is_tracked: bool
) -> None:
    with house.runtime.db.begin() as conn:
        sending = campaign.load_sending(conn, house.campaign_id)
    wanted = replace(sending, provider=provider, track_opens=choice, track_clicks=choice)
    html = "".join(send_range.composer_of(house.runtime, wanted).content.html.static)
    assert (("<img " in html), ("https://shop.example.com/b" not in html)) == (is_tracked, is_tracked)


def test_a_draft_that_is_written_anew_has_the_links_that_it_has_now(runtime: Runtime, peer: Peer) -> None:
    made = world.build(runtime.db, secret_key=runtime.settings.secret_key, provider_url=peer.url)
    draft = Draft("Draft", made.sender_id, subject="Hello", html=HTML)
    campaign_id = edit_campaign.create(runtime, made.organisation_id, made.user_id, draft)
    later = replace(draft, html='<a href="https://new.example.com">n</a>')
    edit_campaign.update(runtime, made.organisation_id, campaign_id, later)
    with runtime.db.begin() as conn:
        assert tracking.find_links(conn, campaign_id) == ["https://new.example.com"]
    with pytest.raises(Invalid, match="Choose one of these"):
        edit_campaign.update(runtime, made.organisation_id, campaign_id, replace(draft, track_opens="maybe"))


HITS = st.lists(
    st.tuples(
        st.integers(0, 2),  # lead
        st.sampled_from([PIXEL, 1, 2, 3, HONEYPOT]),
        st.integers(10, 40),  # seconds after it was sent
        st.sampled_from([None, None, "head"]),
    ),
    min_size=1,
    max_size=14,
    unique_by=lambda hit: hit[:3],
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(hits=HITS, data=st.data())
def test_any_order_of_arrival_gives_the_same_figures(
    house: House, hits: list[tuple[int, int, int, str | None]], data: st.DataObject
) -> None:
    told = [house.hit(place, position, float(seconds), machine) for place, position, seconds, machine in hits]
    seen = []
    for order in (told, data.draw(st.permutations(told))):
        with house.runtime.db.begin() as conn:
            conn.execute(text("DELETE FROM first_touch"))
            conn.execute(text("DELETE FROM event WHERE kind IN ('opened', 'clicked')"))
        cut = data.draw(st.integers(0, len(order)))
        with house.runtime.db.begin() as conn:
            tracking.keep(conn, order[:cut])
        house.read(*order[cut:])
        seen.append((house.events(), house.firsts()))
    assert seen[0] == seen[1]
