"""Promises of telling endpoints: exactly what is recorded, signed, under one id at every try; none delays another."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
import sqlalchemy.event
from sqlalchemy import text
from standardwebhooks.webhooks import Webhook

from app.config import Settings
from app.flows import endpoints, launch, send_range, steer, tell_endpoints, unsubscribe
from app.flows.endpoint_words import MOST_BYTES
from app.mail import Kind
from app.models import endpoint_post, event, news
from app.models.event import Fact, Told
from app.providers.endpoint_post import INSIDE
from app.runtime import Runtime
from tests import world
from tests.endpoint_readers import Reader, reading
from tests.endpoint_world import add, happen, kept, pass_time, posts, source, tell, told
from tests.peers import running_sink
from tests.test_webhooks import House
from tests.world import World

DAY = 86_400.0


@pytest.fixture
def runtime(settings: Settings) -> Iterator[Runtime]:
    opened = Runtime(replace(settings, range_size=100, private_providers=frozenset({"127.0.0.1"})))
    yield opened
    opened.close()


@pytest.fixture
def reader() -> Iterator[Reader]:
    with reading() as reader:
        yield reader


@pytest.fixture
def built(runtime: Runtime) -> World:
    return world.build(runtime.db, secret_key=runtime.settings.secret_key, leads=3)


def recorded(runtime: Runtime) -> Counter[tuple[Any, ...]]:
    """The record itself, by what an endpoint is told of each event."""
    with runtime.db.begin() as conn:
        rows = conn.execute(
            text(
                "SELECT kind, lead_id, weight, campaign_id, run, pool_id, user_id, machine, time, detail->>'reason'"
                " FROM event"
            )
        )
        return Counter(tuple(row) for row in rows)


def heard(reader: Reader) -> Counter[tuple[Any, ...]]:
    """The same, from what the endpoint took."""
    names = ("weight", "campaign_id", "run", "pool_id", "user_id", "machine")
    return Counter(
        (
            each["type"],
            each["lead"]["id"],
            *(each[name] for name in names),
            datetime.fromisoformat(each["at"]),
            each["reason"],
        )
        for each in reader.events
    )


def test_an_endpoint_is_told_exactly_what_is_in_the_record(runtime: Runtime, reader: Reader) -> None:
    with running_sink(refuse=0.1, defer=0.1) as peer:
        built = world.build(
            runtime.db, secret_key=runtime.settings.secret_key, leads=250, provider_url=peer.url, name="Told"
        )
        add(runtime, built, reader)
        launch.launch(runtime, built.organisation_id, built.campaign_id)
        send_range.drain(runtime)
        tell(runtime)
        steer.cancel(runtime, built.organisation_id, built.campaign_id)
        assert steer.close_cancelled(runtime) > 0
        unsubscribe.unsubscribe(runtime, runtime.signer.unsubscribe_token(1, built.campaign_id))
        tell(runtime)
    kinds = {kind for kind, *_ in recorded(runtime)}
    assert [each["from"] for each in reader.events if each["type"] == "unsubscribed"] == [None]
    assert kinds == {"sent", "refused", "deferred", "cancelled", "unsubscribed"}
    assert heard(reader) == recorded(runtime)
    assert kept(runtime) == 0
    assert len({each["id"] for each in reader.events}) == len(reader.events)


def test_what_providers_say_is_told_with_its_own_time(runtime: Runtime, reader: Reader) -> None:
    house = House(runtime)
    add(runtime, house.world, reader)
    house.tell(house.event("delivered", 0), house.event("bounced", 1), house.event("opened", 2))
    tell(runtime)
    assert sum(heard(reader).values()) == 3
    assert heard(reader) == recorded(runtime)


def test_what_is_taken_back_is_told_as_taken_back(runtime: Runtime, built: World, reader: Reader) -> None:
    add(runtime, built, reader)
    with runtime.db.begin() as conn:
        event.append(conn, source(built), [Fact(1, 0, Kind.UNKNOWN, None, -1), Fact(1, 0, Kind.SENT)])
    tell(runtime)
    assert [(each["type"], each["weight"]) for each in reader.events] == [("unknown", -1), ("sent", 1)]


def test_what_was_rolled_back_is_told_to_nobody(runtime: Runtime, built: World, reader: Reader) -> None:
    add(runtime, built, reader)
    with pytest.raises(ZeroDivisionError), runtime.db.begin() as conn:
        event.append(conn, source(built), [Fact(1, 0, Kind.SENT)])
        _ = 1 // 0
    assert (tell(runtime), reader.tries) == (0, [])


def test_what_commits_late_is_told_though_later_news_was_told_before(
    runtime: Runtime, built: World, reader: Reader
) -> None:
    happen(runtime, built)  # makes the day's chunk, which locks
    add(runtime, built, reader)
    with runtime.db.begin() as conn:
        event.append(conn, source(built), [Fact(1, 0, Kind.SENT)])
        happen(runtime, built, kind=Kind.DELIVERED)
        tell(runtime)
        assert told(reader) == [("delivered", 1)]
    tell(runtime)
    assert told(reader) == [("delivered", 1), ("sent", 1)]


def test_where_nobody_listens_nothing_is_kept(runtime: Runtime, built: World, reader: Reader) -> None:
    other = world.build(runtime.db, secret_key=runtime.settings.secret_key, name="Second")
    add(runtime, other, reader)
    happen(runtime, built)
    assert kept(runtime) == 0


def test_where_nobody_listens_an_append_asks_nothing_more(runtime: Runtime, built: World, reader: Reader) -> None:
    other = world.build(runtime.db, secret_key=runtime.settings.secret_key, name="Second")
    add(runtime, other, reader)
    happen(runtime, built)  # looks who listens
    asked: list[str] = []
    hook = ("before_cursor_execute", lambda conn, cursor, statement, *_: asked.append(statement))
    sqlalchemy.event.listen(runtime.db.engine, *hook)
    happen(runtime, built)
    assert asked == []
    happen(runtime, other)
    assert [statement.split()[:3] for statement in asked] == [["INSERT", "INTO", "news"]]


def test_another_process_notices_a_new_endpoint_within_two_seconds(
    runtime: Runtime, built: World, reader: Reader, settings: Settings
) -> None:
    far = Runtime(settings)
    happen(far, built)
    add(runtime, built, reader)
    time.sleep(news.FRESH)
    happen(far, built)
    far.close()
    assert kept(runtime) == 1


def test_only_chosen_kinds_and_campaigns_are_told(runtime: Runtime, built: World, reader: Reader) -> None:
    with runtime.db.begin() as conn:
        other = world.add_campaign(conn, built.organisation_id, built.user_id, built.sender_id)
    add(runtime, built, reader, kinds=["bounced", "complained"], campaign_id=other)
    with reading() as second:
        add(runtime, built, second, name="Second", kinds=["sent"])
        with runtime.db.begin() as conn:
            facts = [Fact(1, 0, Kind.SENT), Fact(2, 0, Kind.BOUNCED, {"bounce": "hard", "reason": "550\tno \\N"})]
            event.append(conn, source(built), facts)
            event.append(conn, replace(source(built), campaign_id=other), facts)
        tell(runtime)
        assert told(second) == [("sent", 1), ("sent", 1)]
    (bounced,) = reader.events
    assert (bounced["type"], bounced["campaign_id"]) == ("bounced", other)
    assert (bounced["bounce"], bounced["reason"]) == ("hard", "550\tno \\N")


def test_addresses_are_told_only_where_asked_for_and_never_of_who_was_erased(
    runtime: Runtime, built: World, reader: Reader
) -> None:
    with runtime.db.begin() as conn:
        (first, second, _) = conn.execute(text("SELECT id FROM lead ORDER BY id")).scalars()
        domain_id = conn.execute(text("SELECT domain_id FROM lead WHERE id = :id"), {"id": first}).scalar_one()
    with reading() as open_one:
        add(runtime, built, open_one, name="Open", with_email=True)
        add(runtime, built, reader)
        with runtime.db.begin() as conn:
            event.append(conn, source(built), [Fact(first, domain_id, Kind.SENT), Fact(second, 0, Kind.SENT)])
        tell_endpoints.make_posts(runtime)
        with runtime.db.begin() as conn:
            conn.execute(text("DELETE FROM lead WHERE id = :id"), {"id": second})
        tell(runtime)
        assert [each["lead"] for each in open_one.events] == [
            {"id": first, "domain": "mail1.example.com", "email": "lead1@mail1.example.com"},
            {"id": second, "domain": None, "email": None},
        ]
    assert [each["lead"] for each in reader.events] == [
        {"id": first, "domain": "mail1.example.com"},
        {"id": second, "domain": None},
    ]


def test_posts_hold_500_events_and_256_kb_at_most(runtime: Runtime, built: World, reader: Reader) -> None:
    add(runtime, built, reader, with_email=True)
    happen(runtime, built, 1001)
    tell(runtime)
    assert sum(len(post["data"]["events"]) for post in reader.taken) == 1001
    assert max(len(post["data"]["events"]) for post in reader.taken) <= 500
    happen(runtime, built, 600, Kind.BOUNCED, bounce="hard", reason="№" * 300)
    tell(runtime)
    assert sum(len(post["data"]["events"]) for post in reader.taken) == 1601
    assert max(len(body) for _, body in reader.tries) <= MOST_BYTES


def test_each_try_is_signed_anew_under_the_same_id_with_the_same_body(
    runtime: Runtime, built: World, reader: Reader
) -> None:
    add(runtime, built, reader)
    reader.answers = [(500, {}), (404, {})]
    happen(runtime, built)
    for _ in range(3):
        tell(runtime)
        pass_time(runtime, 3600)
        time.sleep(1.0)  # a signature's time is in seconds
    assert len(set(reader.ids)) == 1 and len(reader.ids) == 3
    assert len({body for _, body in reader.tries}) == 1
    assert len({headers["webhook-timestamp"] for headers, _ in reader.tries}) == 3
    assert told(reader) == [("sent", 1)]


def test_a_slow_endpoint_delays_no_other(runtime: Runtime, built: World, reader: Reader) -> None:
    reader.delay = 3.0
    with reading() as quick:
        add(runtime, built, reader, name="Slow")
        add(runtime, built, quick, name="Quick")
        happen(runtime, built, 5000)
        telling = threading.Thread(target=tell, args=(runtime,))
        telling.start()
        began = time.monotonic()
        while len(quick.events) < 5000 and time.monotonic() - began < 2.5:
            time.sleep(0.02)
        happen(runtime, built, kind=Kind.DELIVERED)  # what comes meanwhile does not wait either
        while len(quick.events) < 5001 and time.monotonic() - began < 2.8:
            time.sleep(0.02)
        assert len(quick.events) == 5001
        assert len(reader.tries) == endpoint_post.AT_ONCE
        reader.delay = 0.0
        telling.join()
    assert len(reader.events) == 5001


def test_two_workers_hold_no_more_posts_of_an_endpoint_than_one(runtime: Runtime, built: World, reader: Reader) -> None:
    add(runtime, built, reader)
    happen(runtime, built, 5000)
    tell_endpoints.make_posts(runtime)
    with runtime.db.begin() as conn:
        first = endpoint_post.claim(conn, 32)
    with runtime.db.begin() as conn:
        second = endpoint_post.claim(conn, 32)
    assert (len(first), len(second)) == (endpoint_post.AT_ONCE, 0)


def test_a_post_that_a_worker_died_over_is_made_again_under_its_id(
    runtime: Runtime, built: World, reader: Reader
) -> None:
    add(runtime, built, reader)
    happen(runtime, built)
    tell_endpoints.make_posts(runtime)
    with runtime.db.begin() as conn:
        (held,) = endpoint_post.claim(conn, 32)
    assert tell(runtime) == 0
    pass_time(runtime, endpoint_post.HOLD + 1)
    assert tell(runtime) == 1
    assert reader.ids == [str(held.key)]


def test_both_secrets_sign_for_a_day(runtime: Runtime, built: World, reader: Reader) -> None:
    endpoint_id = add(runtime, built, reader)
    before, after = reader.secret, endpoints.rotate(runtime, built.organisation_id, endpoint_id)
    happen(runtime, built)
    tell(runtime)
    headers, body = reader.tries[0]
    for secret in (before, after):
        Webhook(secret).verify(body, headers)
    assert len(headers["webhook-signature"].split()) == 2
    pass_time(runtime, DAY + 1)
    reader.secret = after
    happen(runtime, built, kind=Kind.DELIVERED)
    tell(runtime)
    assert len(reader.tries[1][0]["webhook-signature"].split()) == 1
    assert len(reader.taken) == 2


def test_a_redirect_is_not_followed(runtime: Runtime, built: World, reader: Reader) -> None:
    with reading() as elsewhere:
        reader.answers = [(307, {"Location": elsewhere.url})]
        endpoint_id = add(runtime, built, reader)
        happen(runtime, built)
        tell(runtime)
        assert elsewhere.tries == []
    (post,) = posts(runtime, endpoint_id)
    assert (post.status, post.said) == (307, "It redirects, which is not followed: enter the address that it leads to.")


def test_a_name_that_leads_inside_is_refused_when_it_is_connected_to(
    runtime: Runtime, built: World, reader: Reader, settings: Settings
) -> None:
    endpoint_id = add(runtime, built, reader)
    with runtime.db.begin() as conn:  # as one that resolved elsewhere when it was saved
        url = reader.url.replace("127.0.0.1", "localhost")
        conn.execute(text("UPDATE endpoint SET url = :url"), {"url": runtime.vault.encrypt(url)})
    happen(runtime, built)
    tell(runtime)
    assert reader.tries == []
    (post,) = posts(runtime, endpoint_id)
    assert (post.status, post.said) == (None, INSIDE)


def test_two_workers_tell_each_event_once(runtime: Runtime, built: World, reader: Reader) -> None:
    add(runtime, built, reader)
    for kind in (Kind.SENT, Kind.DELIVERED, Kind.OPENED):
        happen(runtime, built, 3000, kind)
    far = Runtime(runtime.settings)
    workers = [threading.Thread(target=tell, args=(each,)) for each in (runtime, far)]
    for each in workers:
        each.start()
    for each in workers:
        each.join()
    far.close()
    assert len(set(reader.ids)) == len(reader.ids)
    assert Counter(each["id"] for each in reader.events).most_common(1)[0][1] == 1
    assert len(reader.events) == 9000


def test_events_of_several_organisations_appended_together_are_told_to_their_own(
    runtime: Runtime, built: World, reader: Reader
) -> None:
    other = world.build(runtime.db, secret_key=runtime.settings.secret_key, name="Second")
    at = datetime.fromisoformat("2026-01-02T03:04:05.678901+02:00")
    with reading() as second:
        add(runtime, built, reader)
        add(runtime, other, second)
        with runtime.db.begin() as conn:
            detail = {"url": "https://example.com/\u2028x", "reason": "a\\b\nc"}
            event.append_told(
                conn,
                [
                    Told(at, source(built), Fact(1, 0, Kind.CLICKED, detail)),
                    Told(at, source(other), Fact(2, 0, Kind.OPENED)),
                ],
            )
        tell(runtime)
        assert told(second) == [("opened", 2)]
    (clicked,) = reader.events
    assert clicked["at"] == "2026-01-02T01:04:05.678901Z"
    assert clicked["link"] == {"id": None, "url": "https://example.com/\u2028x"}
    assert clicked["reason"] == "a\\b\nc"
