"""Promises of telling: by signed webhook and by secured mail, once each, again after a fault, and when it is over."""

from __future__ import annotations

import logging
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from app.config import Settings
from app.flows import alerts
from app.models import alert, notice
from app.models.alert import Kind
from app.runtime import Runtime
from tests import world
from tests.alert_readers import SECRET, Hook, Inbox, listening
from tests.test_smtp import authenticate, authority, secured, serve
from tests.world import World

__all__ = ["authority"]
NOWHERE = "smtp://127.0.0.1:1?tls=none"
FROM = "alerts@millrace.example.com"


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


@pytest.fixture
def hook() -> Iterator[Hook]:
    with listening() as hook:
        yield hook


@pytest.fixture
def telling(settings: Settings, inbox: Inbox, hook: Hook, authority: Any) -> Iterator[Runtime]:
    """A runtime with both ways set up."""
    with secured(inbox, authority) as url:  # type: ignore[arg-type]
        ways = {"alert_smtp_url": url, "alert_from": FROM}
        ways |= {"alert_webhook_url": hook.url, "alert_webhook_secret": SECRET}
        opened = Runtime(replace(settings, **ways, base_url="https://mail.example.com"))
        yield opened
        opened.close()


@pytest.fixture
def built(telling: Runtime) -> World:
    built = world.build(telling.db, secret_key=telling.settings.secret_key)
    with telling.db.begin() as conn:
        conn.execute(text("UPDATE campaign SET name = 'Autumn'"))
    return built


def raise_it(runtime: Runtime, built: World, message: str = "3 leads are unknown.") -> None:
    with runtime.db.begin() as conn:
        alert.raise_alert(conn, Kind.UNKNOWN, built.campaign_id, message)


def clear_it(runtime: Runtime, built: World) -> None:
    with runtime.db.begin() as conn:
        alert.clear(conn, Kind.UNKNOWN, built.campaign_id)


def pass_time(runtime: Runtime, seconds: float) -> None:
    """Everything about notices happened that much earlier."""
    with runtime.db.begin() as conn:
        conn.execute(
            text(
                "UPDATE alert_notice SET due_at = due_at - make_interval(secs => :s),"
                " created_at = created_at - make_interval(secs => :s)"
            ),
            {"s": seconds},
        )


def waits(runtime: Runtime) -> list[int | None]:
    """Minutes until each notice is tried again; None: never."""
    with runtime.db.begin() as conn:
        rows = conn.execute(text("SELECT round(extract(epoch FROM due_at - now()) / 60) FROM alert_notice ORDER BY id"))
        return [None if minutes is None else int(minutes) for minutes in rows.scalars()]


def errors(runtime: Runtime) -> set[str | None]:
    with runtime.db.begin() as conn:
        return set(conn.execute(text("SELECT error FROM alert_notice")).scalars())


def test_an_alert_is_mailed_and_posted_once(telling: Runtime, built: World, inbox: Inbox, hook: Hook) -> None:
    raise_it(telling, built)
    assert alerts.deliver(telling) == 2
    raise_it(telling, built)
    pass_time(telling, 100_000)
    assert alerts.deliver(telling) == 0
    (message,), (post,) = inbox.messages, hook.posts
    assert message["From"].addresses[0].addr_spec == FROM
    assert message["Subject"] == "It is not known whether some emails were sent – campaign “Autumn”"
    assert message["Auto-Submitted"] == "auto-generated"
    said = message.get_content()
    assert "3 leads are unknown." in said
    assert f"https://mail.example.com/campaigns/{built.campaign_id}" in said
    headers, body = post
    assert headers["content-type"] == "application/json"
    assert body["type"] == "alert.raised"
    assert body["data"]["campaign"] == {"id": built.campaign_id, "name": "Autumn"}
    assert (body["data"]["kind"], body["data"]["gravity"], body["data"]["pool"]) == ("unknown", "warn", None)
    assert body["data"]["cleared_at"] is None


def test_whoever_was_told_is_told_that_it_is_over(telling: Runtime, built: World, inbox: Inbox, hook: Hook) -> None:
    raise_it(telling, built)
    alerts.deliver(telling)
    clear_it(telling, built)
    assert alerts.deliver(telling) == 2
    first, second = inbox.messages
    assert second["Subject"].startswith("Resolved: It is not known")
    assert "It is over." in second.get_content()
    assert first["References"] == second["References"]
    assert first["Message-ID"] != second["Message-ID"]
    assert [body["type"] for _, body in hook.posts] == ["alert.raised", "alert.cleared"]
    assert hook.posts[1][1]["data"]["cleared_at"]
    assert alerts.deliver(telling) == 0


def test_what_cleared_before_it_was_told_is_not_told(telling: Runtime, built: World, inbox: Inbox, hook: Hook) -> None:
    raise_it(telling, built)
    clear_it(telling, built)
    for _ in range(3):
        alerts.deliver(telling)
    assert (inbox.messages, hook.posts) == ([], [])
    assert set(waits(telling)) == {None}


def test_what_was_dismissed_before_it_was_told_is_not_told(telling: Runtime, built: World, hook: Hook) -> None:
    raise_it(telling, built)
    with telling.db.begin() as conn:
        (found,) = alert.find_open(conn, built.organisation_id)
        alert.dismiss(conn, built.organisation_id, found.id, built.user_id)
    assert alerts.deliver(telling) == 0
    assert hook.tries == 0


def test_a_dismissed_occurrence_says_who_dismissed_it(telling: Runtime, built: World, inbox: Inbox) -> None:
    with telling.db.begin() as conn:
        alert.raise_alert(conn, Kind.DOUBLED, built.campaign_id, "Lead 7 was mailed twice.")
    alerts.deliver(telling)
    with telling.db.begin() as conn:
        (found,) = alert.find_open(conn, built.organisation_id)
        alert.dismiss(conn, built.organisation_id, found.id, built.user_id)
    alerts.deliver(telling)
    assert inbox.messages[1]["Subject"].startswith("Dismissed: ")
    assert "Owner has dismissed it." in inbox.messages[1].get_content()


def test_two_clocks_at_once_tell_each_notice_once(
    telling: Runtime, built: World, settings: Settings, inbox: Inbox, hook: Hook
) -> None:
    with telling.db.begin() as conn:
        for number in range(12):
            campaign_id = world.add_campaign(conn, built.organisation_id, built.user_id, built.sender_id)
            alert.raise_alert(conn, Kind.UNKNOWN, campaign_id, f"number {number}")
    start = threading.Barrier(4)

    def tick(_: int) -> int:
        clock = Runtime(telling.settings)
        start.wait()
        try:
            return alerts.deliver(clock)
        finally:
            clock.close()

    with ThreadPoolExecutor(4) as clocks:
        delivered = list(clocks.map(tick, range(4)))
    assert sum(delivered) == 24
    assert len(inbox.messages) == len(hook.posts) == hook.tries == 12
    assert len({headers["webhook-id"] for headers, _ in hook.posts}) == 12


def test_a_way_that_is_down_is_tried_after_1_5_and_15_minutes_then_hourly_and_given_up_after_a_day(
    telling: Runtime, built: World, hook: Hook
) -> None:
    hook.status = 500
    telling.settings = replace(telling.settings, alert_smtp_url=NOWHERE)
    raise_it(telling, built)
    seen = []
    for _ in range(60):
        alerts.deliver(telling)
        (by_mail, by_post) = waits(telling)
        assert by_mail == by_post
        if by_mail is None:
            break
        seen.append(by_mail)
        assert alerts.deliver(telling) == 0 and waits(telling) == [by_mail, by_post]
        pass_time(telling, by_mail * 60 + 1)
    assert seen[:5] == [1, 5, 15, 60, 60]
    assert set(seen[4:]) == {60}
    assert 23 * 60 <= sum(seen) <= 24 * 60
    assert errors(telling) == {
        "The mail server cannot be reached, or takes nothing now.",
        "The webhook answers HTTP 500.",
    }
    with telling.db.begin() as conn:
        assert alert.find_open(conn, built.organisation_id)[0].untold


def test_what_was_down_is_told_when_it_is_back(telling: Runtime, built: World, inbox: Inbox, hook: Hook) -> None:
    working, telling.settings = telling.settings, replace(telling.settings, alert_smtp_url=NOWHERE)
    hook.status = 503
    raise_it(telling, built)
    assert alerts.deliver(telling) == 0
    telling.settings, hook.status = working, 200
    pass_time(telling, 61)
    assert alerts.deliver(telling) == 2
    assert len(inbox.messages) == len(hook.posts) == 1
    assert errors(telling) == {None}


def test_one_reader_who_is_refused_does_not_keep_it_from_the_others(
    telling: Runtime, built: World, inbox: Inbox, hook: Hook
) -> None:
    telling.settings = replace(telling.settings, alert_webhook_url=None)
    inbox.refusals = ["554 5.7.1 canary says no"]
    raise_it(telling, built)
    with telling.db.begin() as conn:
        other = world.add_campaign(conn, built.organisation_id, built.user_id, built.sender_id)
        alert.raise_alert(conn, Kind.UNKNOWN, other, "another")
    assert alerts.deliver(telling) == 1
    assert errors(telling) == {"The mail server refuses the reader's address or the email (554).", None}


def test_a_down_mail_server_costs_one_try_a_turn_and_does_not_hold_up_the_webhook(
    telling: Runtime, built: World, hook: Hook
) -> None:
    telling.settings = replace(telling.settings, alert_smtp_url=NOWHERE)
    raise_it(telling, built)
    with telling.db.begin() as conn:
        other = world.add_campaign(conn, built.organisation_id, built.user_id, built.sender_id)
        alert.raise_alert(conn, Kind.UNKNOWN, other, "another")
    assert alerts.deliver(telling) == 2
    with telling.db.begin() as conn:
        tries = conn.execute(text("SELECT tries FROM alert_notice WHERE user_id IS NOT NULL ORDER BY id")).scalars()
        assert sorted(tries) == [0, 1]


def test_a_notice_whose_sender_died_is_sent_a_minute_later_under_the_same_id(
    telling: Runtime, built: World, hook: Hook
) -> None:
    raise_it(telling, built)
    with telling.db.begin() as conn:
        claimed = notice.claim(conn, by_mail=False)  # and the clock dies
    assert claimed is not None
    alerts.deliver(telling)
    assert hook.tries == 0
    pass_time(telling, 61)
    alerts.deliver(telling)
    assert [headers["webhook-id"] for headers, _ in hook.posts] == [str(claimed.key)]


def test_the_end_waits_for_the_beginning_that_is_under_way(telling: Runtime, built: World, hook: Hook) -> None:
    telling.settings = replace(telling.settings, alert_smtp_url=None)
    raise_it(telling, built)
    with telling.db.begin() as conn:
        claimed = notice.claim(conn, by_mail=False)
    assert claimed is not None
    clear_it(telling, built)
    alerts.deliver(telling)
    assert hook.posts == []
    with telling.db.begin() as conn:
        notice.done(conn, claimed.id)
    alerts.deliver(telling)
    assert [body["type"] for _, body in hook.posts] == ["alert.cleared"]


def test_without_ways_alerts_are_only_shown(runtime: Runtime) -> None:
    built = world.build(runtime.db, secret_key=runtime.settings.secret_key)
    raise_it(runtime, built)
    assert alerts.deliver(runtime) == 0
    assert waits(runtime) == [None, None]
    with runtime.db.begin() as conn:
        assert alert.count_open(conn, built.organisation_id) == 1


def test_nothing_that_people_wrote_becomes_a_header(telling: Runtime, built: World, inbox: Inbox) -> None:
    with telling.db.begin() as conn:
        conn.execute(
            text("UPDATE campaign SET name = :name"),
            {"name": "Autumn\r\nBcc: eve@example.org\n\nBody\u2028X-Evil: 1 \x00".replace("\x00", "") + "ü" * 300},
        )
    raise_it(telling, built, "first\r\n.\r\nMAIL FROM:<eve@example.org>\r\n..last")
    assert alerts.deliver(telling) == 2
    (message,) = inbox.messages
    assert message["Bcc"] is None and message["X-Evil"] is None
    assert "Bcc: eve@example.org" in message["Subject"]
    assert "first\n.\nMAIL FROM:<eve@example.org>\n..last" in message.get_content().replace("\r\n", "\n")


def test_no_secret_is_logged_or_kept(
    telling: Runtime, built: World, hook: Hook, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    hook.status = 404
    with wrong_password(telling):
        raise_it(telling, built)
        alerts.deliver(telling)
    kept = " ".join(each or "" for each in errors(telling))
    assert "The mail server refuses our account or our address." in kept
    assert "The webhook answers HTTP 404." in kept
    for secret in ("canary", SECRET, "c2Vjcm"):
        assert secret not in caplog.text
        assert secret not in kept
        assert secret not in repr(telling.settings)


@contextmanager
def wrong_password(telling: Runtime) -> Iterator[None]:
    url = telling.settings.alert_smtp_url or ""
    telling.settings = replace(telling.settings, alert_smtp_url=url.replace("p%40ss%2Fw%3Ard", "canary"))
    yield


def test_a_url_that_cannot_be_used_is_said_and_the_webhook_goes_on(telling: Runtime, built: World, hook: Hook) -> None:
    telling.settings = replace(telling.settings, alert_smtp_url="smtp://a:canary@127.0.0.1?nonsense=1")
    raise_it(telling, built)
    assert alerts.deliver(telling) == 1
    (error,) = errors(telling) - {None}
    assert error is not None
    assert error.startswith("ALERT_SMTP_URL cannot be used.")
    assert "canary" not in error


def test_a_mail_server_that_does_not_secure_the_line_gets_no_password(
    telling: Runtime, built: World, inbox: Inbox, authority: tuple[ssl.SSLContext, Path]
) -> None:
    with serve(inbox, auth_required=False, authenticator=authenticate) as port:  # type: ignore[arg-type]
        telling.settings = replace(telling.settings, alert_smtp_url=f"smtp://a:b@127.0.0.1:{port}")
        raise_it(telling, built)
        alerts.deliver(telling)
    assert inbox.messages == []
    assert "The mail server refuses our account or our address." in errors(telling)
