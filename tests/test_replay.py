"""Replaying: kept posts are read anew, no figure changes twice, and what matches by now is counted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace as with_values
from datetime import UTC, datetime, timedelta
from threading import Event, Thread

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import text

from app.config import Settings, read
from app.errors import Unverified
from app.flows import ingest, take_webhook
from app.flows.replay import Replayed, replay
from app.models import kept_post
from app.models.kept_post import Choice
from app.runtime import Runtime
from cli.main import main
from tests.test_webhooks import House, signed

ALL = Choice()


@pytest.fixture
def house(runtime: Runtime) -> House:
    return House(runtime)


@pytest.fixture
def command(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[CliRunner]:
    monkeypatch.setenv("DATABASE_URL", settings.database_url)
    monkeypatch.setenv("REDIS_URL", settings.redis_url)
    monkeypatch.setenv("SECRET_KEY", settings.secret_key)
    monkeypatch.setenv("MILLRACE_HOME", str(settings.home))
    yield CliRunner()


def webhooks(command: CliRunner, *words: str) -> Result:
    return command.invoke(main, ["webhooks", *words])


def everything(house: House) -> tuple[object, ...]:
    """All that is counted anywhere."""
    return (
        house.figures(),
        house.arrivals(),
        house.suppressed(),
        house.rows("SELECT lags, handed_at FROM pool_webhook"),
        house.rows("SELECT kind, sum(total) FROM late_event GROUP BY 1"),
        house.rows("SELECT count(*) FROM event"),
    )


def test_reading_anew_changes_no_figure(house: House) -> None:
    old = (datetime.now(UTC) - timedelta(days=9)).isoformat()
    house.tell(house.event("accepted"), house.event("delivered"), house.event("bounced", 1, bounce="hard"))
    house.tell(house.event("opened", time=old), house.event("clicked", handoff=999_999), house.event("opened"))
    before = everything(house)
    for _ in range(3):
        assert replay(house.runtime, ALL) == Replayed(posts=2, unmatched_before=1, unmatched=1)
        assert everything(house) == before
    with house.runtime.db.begin() as conn:  # days later, when its keys are gone and the events too old to be told apart
        conn.execute(text("DELETE FROM webhook_event"))
        conn.execute(
            text("UPDATE webhook SET body = replace(convert_from(body, 'UTF8'), :today, :then)::bytea"),
            {
                "today": datetime.now(UTC).strftime("%Y-%m-%d"),
                "then": (datetime.now(UTC) - timedelta(days=9)).strftime("%Y-%m-%d"),
            },
        )
    replay(house.runtime, ALL)
    assert everything(house) == before


def test_an_event_of_an_email_that_is_known_by_now_is_counted_once(house: House) -> None:
    house.tell(house.event("delivered", handoff=4711), house.event("opened", handoff=4711), house.event("opened"))
    assert house.figures() == {"opened": 1}
    assert house.arrivals()["unmatched"] == 2
    made = house.hand_off(house.lead_ids[:3])
    with house.runtime.db.begin() as conn:
        conn.execute(text("UPDATE handoff SET id = 4711 WHERE id = :made"), {"made": made})
    assert replay(house.runtime, Choice(unmatched=True)) == Replayed(posts=1, events=2, unmatched_before=2)
    assert house.figures() == {"delivered": 1, "opened": 2}
    assert house.arrivals() == {"events": 3, "repeated": 0, "late": 0, "unmatched": 0}
    assert replay(house.runtime, ALL).events == 0
    assert house.figures() == {"delivered": 1, "opened": 2}


def test_what_could_not_be_read_is_read_when_it_can_be(house: House) -> None:
    take_webhook.take(house.runtime, house.token, signed(b"{}"), b"{}")
    house.tell(house.event("delivered"))
    for _ in range(3):
        with house.runtime.db.begin() as conn:
            conn.execute(text("UPDATE webhook SET retry_at = now()"))
        ingest.read_waiting(house.runtime)
    assert replay(house.runtime, Choice(failed=True)) == Replayed(posts=1, failed=1)
    with house.runtime.db.begin() as conn:  # as if its reader had been mended
        conn.execute(
            text("UPDATE webhook SET body = :body WHERE body = '{}'"),
            {"body": json.dumps({"events": [house.event("opened")]}).encode()},
        )
    assert replay(house.runtime, Choice(failed=True)) == Replayed(posts=1, events=1)
    assert house.figures() == {"delivered": 1, "opened": 1}
    assert house.arrivals() == {"events": 2, "repeated": 0, "late": 0, "unmatched": 0}
    assert house.rows("SELECT count(*) FROM webhook WHERE read_at IS NULL OR error IS NOT NULL") == [(0,)]


def test_a_refused_webhooks_alert_is_not_cleared_by_an_old_post(house: House) -> None:
    house.tell(house.event("delivered"))
    with house.runtime.db.begin() as conn:
        conn.execute(text("UPDATE pool_webhook SET seen_at = now() - interval '1 day'"))
        conn.execute(text("UPDATE webhook SET received_at = now() - interval '1 day'"))
    with pytest.raises(Unverified):
        take_webhook.take(house.runtime, house.token, {}, b"{}")
    replay(house.runtime, ALL)
    assert house.rows("SELECT cleared_at IS NULL FROM alert") == [(True,)]
    house.tell(house.event("delivered"))
    assert house.rows("SELECT cleared_at IS NULL FROM alert") == [(False,)]


def test_only_those_that_are_chosen_are_read_anew(house: House) -> None:
    for _ in range(3):
        house.tell(house.event("opened"))
    house.tell(house.event("opened", handoff=999_999))
    with house.runtime.db.begin() as conn:
        conn.execute(text("UPDATE webhook SET received_at = now() - interval '2 days' WHERE id = 1"))
        conn.execute(text("UPDATE webhook SET pool_id = 99 WHERE id = 2"))
    yesterday = datetime.now(UTC) - timedelta(days=1)
    assert replay(house.runtime, Choice(pool_id=house.world.pool_id, since=yesterday)).posts == 2
    assert replay(house.runtime, Choice(unmatched=True)).posts == 1
    assert replay(house.runtime, Choice(failed=True)).posts == 0


def test_a_post_that_another_worker_reads_is_waited_for(house: House) -> None:
    house.tell(house.event("opened"))
    held, go = Event(), Event()

    def hold() -> None:
        with house.runtime.db.begin() as conn:
            conn.execute(text("SELECT FROM webhook WHERE id = 2 FOR UPDATE"))
            held.set()
            go.wait(10)

    house.keep(house.event("opened", 1))
    holder = Thread(target=hold)
    holder.start()
    held.wait(10)
    assert replay(house.runtime, ALL).posts == 1  # it is new: nobody needs to read it anew
    go.set()
    holder.join()
    assert not ingest.read_waiting(house.runtime)
    assert house.figures() == {"opened": 2}


def test_the_commands_list_show_replay_and_keep(house: House, command: CliRunner) -> None:
    assert "No such post is kept." in webhooks(command, "list").output
    house.tell(house.event("opened"), house.event("opened", handoff=999_999))
    take_webhook.take(house.runtime, house.token, signed(b"{}"), b"{}")
    ingest.read_waiting(house.runtime)
    shown = webhooks(command, "list").output
    assert "failed: 0 events were new" in shown and "read: 1 events were new, 1 of unknown emails" in shown
    facts = json.loads(webhooks(command, "list", "--failed", "--json").output)
    assert [(each["state"], each["pool_id"], each["bytes"]) for each in facts] == [("failed", house.world.pool_id, 2)]
    assert json.loads(webhooks(command, "list", "--since", "1h", "--unmatched", "--json").output)[0]["unmatched"] == 1
    assert json.loads(webhooks(command, "list", "--since", "2999-01-01", "--json").output) == []
    assert webhooks(command, "show", str(facts[0]["id"])).output == "{}"
    assert "There is no such post" in webhooks(command, "show", "4711").output
    assert webhooks(command, "list", "--since", "soon").exit_code == 2
    assert webhooks(command, "replay").exit_code == 1  # nobody said yes
    done = webhooks(command, "replay", "--unmatched")
    assert (done.exit_code, "1 posts were read anew: 0 events in them were new." in done.output) == (0, True)
    failed = webhooks(command, "replay", "--yes", "--json")
    assert json.loads(failed.output) == {"posts": 2, "failed": 1, "events": 0, "unmatched_before": 1, "unmatched": 1}


def test_how_long_posts_are_kept_is_set_in_the_database_or_the_environment(house: House, command: CliRunner) -> None:
    assert "kept for 3 days" in webhooks(command, "keep").output
    assert "kept for 10 days" in webhooks(command, "keep", "10").output
    for wrong in ("0", "401", "x", "-1", "1.5"):
        assert webhooks(command, "keep", "--", wrong).exit_code == 2
    for _ in range(3):
        house.tell(house.event("opened"))
    house.tell(house.event("opened", handoff=999_999))
    with house.runtime.db.begin() as conn:
        conn.execute(text("UPDATE webhook SET received_at = now() - make_interval(days => 2 * id::int + 3)"))
    assert ingest.tidy(house.runtime) == 0
    assert webhooks(command, "keep", "8").exit_code == 0
    assert ingest.tidy(house.runtime) == 1
    assert "kept for 3 days" in webhooks(command, "keep", "default").output
    house.runtime.settings = with_values(house.runtime.settings, webhook_days=6)
    assert ingest.tidy(house.runtime) == 1
    assert house.rows("SELECT id FROM webhook ORDER BY id") == [(1,), (4,)]  # what matched nothing stays for a month
    with house.runtime.db.begin() as conn:
        assert kept_post.find_retention(conn, 6) == 6


def test_the_environment_says_how_long_posts_are_kept() -> None:
    environ = {"DATABASE_URL": "postgresql:///x", "REDIS_URL": "redis://127.0.0.1:1", "SECRET_KEY": "x" * 32}
    assert read(environ).webhook_days == 3
    assert read(environ | {"MILLRACE_WEBHOOK_DAYS": "14"}).webhook_days == 14
