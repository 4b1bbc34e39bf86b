"""Promises about endpoints that fail: tried for a day, disabled after it, told all that was kept when they are back."""

from __future__ import annotations

import threading
import time

import orjson
import pytest
from sqlalchemy import text

from app.flows import endpoints, tell_endpoints
from app.mail import Kind
from app.models import alert, endpoint_post, news
from app.models.endpoint_post import Result
from app.runtime import Runtime
from tests.endpoint_readers import Reader, reading
from tests.endpoint_world import add, happen, kept, line, pass_time, posts, tell, told
from tests.test_endpoints_told import built, reader, runtime
from tests.world import World

__all__ = ["built", "reader", "runtime"]

DAY = 86_400.0


def test_after_a_failure_it_is_left_alone_for_ever_longer(runtime: Runtime, built: World, reader: Reader) -> None:
    endpoint_id = add(runtime, built, reader)
    reader.status = 503
    happen(runtime, built)
    waits = []
    for tries in range(1, 9):
        tell(runtime)
        tell(runtime)
        assert len(reader.tries) == tries
        found = line(runtime, endpoint_id)
        assert found.resume_at is not None and found.state == "failing"
        with runtime.db.begin() as conn:
            now = conn.execute(text("SELECT now()")).scalar_one()
        waits.append((found.resume_at - now).total_seconds())
        pass_time(runtime, waits[-1] * 1.3)
    planned = (*tell_endpoints.PAUSES, tell_endpoints.LAST_PAUSE, tell_endpoints.LAST_PAUSE)
    assert waits == [pytest.approx(pause, rel=0.15, abs=1) for pause in planned]


def test_the_time_that_it_asks_for_is_kept(runtime: Runtime, built: World, reader: Reader) -> None:
    endpoint_id = add(runtime, built, reader)
    reader.answers = [(429, {"Retry-After": "7000"})]
    happen(runtime, built)
    tell(runtime)
    happen(runtime, built, kind=Kind.DELIVERED)
    pass_time(runtime, 6900)
    tell(runtime)
    assert len(reader.tries) == 1
    pass_time(runtime, 200)
    tell(runtime)
    assert sorted(told(reader)) == [("delivered", 1), ("sent", 1)]
    assert line(runtime, endpoint_id).state == "working"


def test_a_time_beyond_the_day_is_cut_to_its_end(runtime: Runtime, built: World, reader: Reader) -> None:
    endpoint_id = add(runtime, built, reader)
    reader.answers = [(503, {"Retry-After": "999999999"})]
    happen(runtime, built)
    tell(runtime)
    (post,) = posts(runtime, endpoint_id)
    assert post.due_at is not None
    assert (post.due_at - post.created_at).total_seconds() == pytest.approx(DAY, abs=60)
    reader.status = 500
    pass_time(runtime, DAY + 60)
    tell(runtime)
    (post,) = posts(runtime, endpoint_id)
    assert (post.state, len(reader.tries), line(runtime, endpoint_id).state) == ("given up", 2, "disabled")
    assert open_alerts(runtime, built) == ["It took nothing for a day. Last: HTTP 500"]


def test_what_is_not_taken_for_a_day_is_given_up_and_counted(runtime: Runtime, built: World, reader: Reader) -> None:
    endpoint_id = add(runtime, built, reader)
    reader.status = 500
    happen(runtime, built, 3)
    tell(runtime)
    pass_time(runtime, DAY - 10)
    tell(runtime)
    (post,) = posts(runtime, endpoint_id)
    assert (post.state, post.tries, post.status, post.said) == ("given up", 2, 500, "thanks")
    found = line(runtime, endpoint_id)
    assert (found.given_up, found.told, found.waiting_events) == (3, 0, 0)
    pass_time(runtime, DAY)
    assert (tell(runtime), len(reader.tries)) == (0, 2)


def open_alerts(runtime: Runtime, built: World) -> list[str]:
    with runtime.db.begin() as conn:
        return [each.message for each in alert.find_open(conn, built.organisation_id)]


def test_who_took_nothing_for_a_day_is_disabled_and_its_people_are_told(
    runtime: Runtime, built: World, reader: Reader
) -> None:
    endpoint_id = add(runtime, built, reader)
    reader.status = 500
    happen(runtime, built)
    tell(runtime)
    pass_time(runtime, DAY / 2)
    tell(runtime)
    assert line(runtime, endpoint_id).state == "failing" and open_alerts(runtime, built) == []
    pass_time(runtime, DAY / 2 + 60)
    happen(runtime, built, kind=Kind.DELIVERED)
    tell(runtime)
    assert line(runtime, endpoint_id).state == "disabled"
    assert open_alerts(runtime, built) == ["It took nothing for a day. Last: HTTP 500"]
    tries = len(reader.tries)
    happen(runtime, built, kind=Kind.OPENED)
    pass_time(runtime, DAY)
    tell(runtime)
    assert len(reader.tries) == tries


def test_a_post_that_is_taken_in_between_saves_it(runtime: Runtime, built: World, reader: Reader) -> None:
    endpoint_id = add(runtime, built, reader)
    reader.answers = [(500, {}), (200, {}), (500, {})]
    for kind in (Kind.SENT, Kind.DELIVERED):
        happen(runtime, built, kind=kind)
        tell(runtime)
        pass_time(runtime, DAY * 0.6)
    tell(runtime)
    assert line(runtime, endpoint_id).disabled_at is None


def test_who_is_gone_is_disabled_at_once(runtime: Runtime, built: World, reader: Reader) -> None:
    endpoint_id = add(runtime, built, reader)
    reader.status = 410
    happen(runtime, built)
    tell(runtime)
    assert line(runtime, endpoint_id).state == "disabled"
    assert open_alerts(runtime, built) == ["It answered HTTP 410: it wants no more."]


def test_enabled_again_it_is_told_all_that_was_kept(runtime: Runtime, built: World, reader: Reader) -> None:
    endpoint_id = add(runtime, built, reader)
    reader.status = 410
    happen(runtime, built)
    tell(runtime)
    happen(runtime, built, kind=Kind.DELIVERED)
    tell(runtime)
    reader.status = 200
    pass_time(runtime, 2 * DAY)
    endpoints.enable(runtime, built.organisation_id, endpoint_id)
    assert open_alerts(runtime, built) == []
    tell(runtime)
    assert sorted(told(reader)) == [("delivered", 1), ("sent", 1)]
    found = line(runtime, endpoint_id)
    assert (found.state, found.told, found.given_up, found.waiting_posts) == ("working", 2, 0, 0)


def test_what_was_given_up_is_told_after_it_was_enabled(runtime: Runtime, built: World, reader: Reader) -> None:
    endpoint_id = add(runtime, built, reader)
    reader.answers = [(500, {}), (500, {})]
    happen(runtime, built, 2)
    tell(runtime)
    pass_time(runtime, DAY + 60)
    tell(runtime)
    assert line(runtime, endpoint_id).given_up == 2
    endpoints.enable(runtime, built.organisation_id, endpoint_id)
    tell(runtime)
    assert (len(reader.events), line(runtime, endpoint_id).given_up) == (2, 0)


def test_old_posts_are_dropped_and_what_still_waited_is_counted(runtime: Runtime, built: World, reader: Reader) -> None:
    endpoint_id = add(runtime, built, reader)
    happen(runtime, built)
    tell(runtime)
    endpoints.disable(runtime, built.organisation_id, endpoint_id, built.user_id)
    happen(runtime, built, 2)
    tell(runtime)
    pass_time(runtime, (news.KEPT - 1) * DAY, ageing=True)
    assert tell_endpoints.tidy(runtime) == 0
    pass_time(runtime, DAY + 60, ageing=True)
    assert tell_endpoints.tidy(runtime) == 2
    found = line(runtime, endpoint_id)
    assert (found.told, found.dropped, found.waiting_events) == (1, 2, 0)


def test_what_waits_for_one_endpoint_is_bounded_and_the_oldest_goes(
    runtime: Runtime, built: World, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    full, other = add(runtime, built, reader), add(runtime, built, reader, "Other")
    endpoints.disable(runtime, built.organisation_id, full)
    for _ in range(4):
        happen(runtime, built, 10)
        tell_endpoints.make_posts(runtime)
    with runtime.db.begin() as conn:
        size = conn.execute(text("SELECT max(octet_length(body)) FROM endpoint_post")).scalar_one()
        conn.execute(text("UPDATE endpoint_post SET trying_until = now() + interval '1 minute' WHERE id = 1"))
    monkeypatch.setattr(tell_endpoints, "ROOM", 2 * size + 10)
    assert tell_endpoints.tidy(runtime) == 3  # of each endpoint two of four; but one is being tried
    assert [line(runtime, each).waiting_events for each in (full, other)] == [30, 20]
    assert [line(runtime, each).dropped for each in (full, other)] == [10, 20]
    assert [each.id for each in posts(runtime, full)][-1] == 1
    assert tell_endpoints.tidy(runtime) == 0


def test_news_that_nobody_made_posts_of_is_dropped_after_days(runtime: Runtime, built: World, reader: Reader) -> None:
    add(runtime, built, reader)
    happen(runtime, built)
    with runtime.db.begin() as conn:
        conn.execute(text("UPDATE news SET time = now() - make_interval(days => :d)"), {"d": news.KEPT + 1})
    happen(runtime, built)
    tell_endpoints.tidy(runtime)
    assert kept(runtime) == 1


def test_an_old_post_that_is_being_tried_is_not_dropped_under_who_tries_it(
    runtime: Runtime, built: World, reader: Reader
) -> None:
    endpoint_id = add(runtime, built, reader)
    happen(runtime, built, 2)
    tell_endpoints.make_posts(runtime)
    pass_time(runtime, (news.KEPT + 1) * DAY, ageing=True)
    with runtime.db.begin() as conn:
        [tried] = endpoint_post.claim(conn, 1)
    assert tell_endpoints.tidy(runtime) == 0
    with runtime.db.begin() as conn:
        assert endpoint_post.took(conn, tried.id, Result(200, "thanks", 0.1)) == 2
    assert tell_endpoints.tidy(runtime) == 1
    assert line(runtime, endpoint_id).dropped == 0


def test_who_is_disabled_for_longer_than_posts_are_kept_listens_no_more(
    runtime: Runtime, built: World, reader: Reader
) -> None:
    endpoint_id = add(runtime, built, reader)
    endpoints.disable(runtime, built.organisation_id, endpoint_id)
    pass_time(runtime, news.KEPT * DAY + 60)
    news.forget(runtime.db.engine)
    happen(runtime, built)
    assert kept(runtime) == 0
    endpoints.enable(runtime, built.organisation_id, endpoint_id)
    happen(runtime, built)
    assert tell(runtime) == 1


def test_an_endpoint_that_cannot_be_posted_to_at_all_stops_no_other(
    runtime: Runtime, built: World, reader: Reader
) -> None:
    with reading() as other:
        broken = add(runtime, built, other, name="Broken")
        add(runtime, built, reader)
        with runtime.db.begin() as conn:
            conn.execute(text("UPDATE endpoint SET secret = 'nonsense' WHERE id = :id"), {"id": broken})
        happen(runtime, built)
        assert tell(runtime) == 1
    assert len(reader.events) == 1
    assert posts(runtime, broken)[0].said == "It could not be posted: ConfigError."


def test_one_that_is_removed_amid_a_post_is_no_trouble(runtime: Runtime, built: World, reader: Reader) -> None:
    endpoint_id = add(runtime, built, reader)
    happen(runtime, built)
    tell_endpoints.make_posts(runtime)
    reader.delay = 0.5
    telling = threading.Thread(target=tell, args=(runtime,))
    telling.start()
    while not reader.tries:
        time.sleep(0.01)
    endpoints.remove(runtime, built.organisation_id, endpoint_id)
    telling.join()
    happen(runtime, built)
    assert (tell(runtime), kept(runtime)) == (0, 0)


def test_a_test_is_signed_tried_once_and_counts_for_nothing(runtime: Runtime, built: World, reader: Reader) -> None:
    endpoint_id = add(runtime, built, reader)
    assert endpoints.send_test(runtime, built.organisation_id, endpoint_id).taken
    ((_, body),) = reader.tries
    assert orjson.loads(body)["type"] == "test" and orjson.loads(body)["data"]["events"] == []
    reader.status = 410
    reply = endpoints.send_test(runtime, built.organisation_id, endpoint_id)
    assert (reply.status, reply.said) == (410, "thanks")
    assert tell(runtime) == 0
    found = line(runtime, endpoint_id)
    assert (found.state, found.told, found.failures, found.given_up) == ("new", 0, 0, 0)
    assert [post.state for post in posts(runtime, endpoint_id)] == ["given up", "taken"]
