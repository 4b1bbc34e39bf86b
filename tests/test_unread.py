"""Event types that a provider adds and we have no word for: counted once, shown, and read once we have the word."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime

import orjson
import pytest
from click.testing import CliRunner
from sqlalchemy import text

from app.config import Settings
from app.flows import ingest
from app.flows.replay import Replayed, replay
from app.mail import Kind, Meaning
from app.models import unread, webhook
from app.models.kept_post import Choice
from app.models.unread import MOST_TYPES, OTHERS, SHOWN, UnreadType
from app.models.webhook import Post
from app.providers import WEBHOOKS, sink
from app.providers.unread import KEPT
from app.providers.unread import unread as unread_event
from app.runtime import Runtime
from cli.main import main
from tests.test_webhooks import House

READ_ANEW = Choice(unread=True)


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


def found(house: House) -> list[UnreadType]:
    with house.runtime.db.begin() as conn:
        return unread.find_unread(conn, house.world.pool_id)


def counted(house: House) -> dict[str, int]:
    return {each.type: each.events for each in found(house)}


def upgrade(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a version of the house that has a word for what the provider calls "reacted"."""
    monkeypatch.setitem(sink.MEANINGS, "reacted", Meaning(Kind.CLICKED, Kind.SENT))


def test_a_type_that_nobody_knows_is_counted_and_shown_and_changes_no_figure(house: House) -> None:
    house.tell(house.event("reacted", emoji="🎉"), house.event("delivered"), house.event("reacted", 1))
    [known] = found(house)
    assert (known.type, known.events, known.provider, known.pool) == ("reacted", 2, "sink", "Pool")
    assert orjson.loads(known.shown[1].raw)["emoji"] == "🎉"
    assert [each.post_id for each in known.shown] == [1, 1]
    assert house.figures() == {"delivered": 1}
    assert house.rows("SELECT unread, unmatched, events FROM webhook") == [({"reacted": 2}, 0, 1)]
    assert house.arrivals() == {"events": 1, "repeated": 0, "late": 0, "unmatched": 0}


def test_what_is_known_and_of_no_interest_is_not_unread() -> None:
    told = {"type": "contact.created", "created_at": "2026-11-05T16:33:54Z", "data": {}}
    [reported] = WEBHOOKS["resend"].read_events(orjson.dumps(told), "m")
    assert (reported.unread, reported.meaning) == (None, Meaning())


@pytest.mark.parametrize(
    ("provider", "body"),
    [
        ("resend", {"type": "email.reacted", "created_at": "no time", "data": 7}),
        ("postmark", {"RecordType": "Reacted"}),
        ("brevo", [{"event": "reacted"}]),
        ("mailgun", {"event-data": {"event": "reacted"}}),
        ("sendgrid", [{"event": "reacted", "sg_event_id": 7}]),
        ("sink", {"events": [{"type": "reacted"}]}),
    ],
)
def test_an_event_that_looks_like_no_other_is_read_by_its_type_alone(provider: str, body: object) -> None:
    [reported] = WEBHOOKS[provider].read_events(orjson.dumps(body), "m")
    assert reported.unread is not None and reported.unread.type.endswith("eacted")


def test_the_same_event_again_is_counted_once(house: House) -> None:
    again = house.event("reacted")
    for _ in range(3):
        house.tell(again, again)
    assert counted(house) == {"reacted": 1}
    assert house.rows("SELECT unread FROM webhook ORDER BY id") == [({"reacted": 1},), (None,), (None,)]


def test_only_the_newest_few_are_shown_each_cut_to_a_size(house: House) -> None:
    for number in range(5):
        house.tell(*[house.event("reacted", number=number, text="x" * 10_000) for _ in range(2)])
    [known] = found(house)
    assert (known.events, len(known.shown), SHOWN) == (10, 3, 3)
    assert [each.post_id for each in known.shown] == [5, 5, 4]
    assert all(len(each.raw) == KEPT for each in known.shown)


def test_an_upgrade_that_knows_the_type_reads_what_was_kept_once(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.tell(house.event("reacted"), house.event("delivered"), house.event("winked"))
    house.tell(house.event("reacted", 1))
    assert replay(house.runtime, READ_ANEW) == Replayed(posts=2)  # nothing has changed yet
    assert counted(house) == {"reacted": 2, "winked": 1}
    upgrade(monkeypatch)
    assert replay(house.runtime, READ_ANEW) == Replayed(posts=2, events=2)
    assert counted(house) == {"winked": 1}
    assert house.figures() == {"delivered": 1, "clicked": 2}
    assert house.rows("SELECT unread FROM webhook ORDER BY id") == [({"winked": 1},), (None,)]
    assert replay(house.runtime, Choice()) == Replayed(posts=2)
    assert (counted(house), house.figures()) == ({"winked": 1}, {"delivered": 1, "clicked": 2})


def test_an_event_that_nobody_knows_is_not_noted_as_taken(house: House) -> None:
    """Where a provider gives no ids, what it is known by is the same digest before an upgrade and after it."""
    told = unread_event("reacted", {"email": "ada@example.com"}, lambda _: datetime.now(UTC))
    with house.runtime.db.begin() as conn:
        conn.execute(text("SELECT keep_webhook_days(8)"))
        unread.note(conn, house.world.pool_id, [], [(Post(1, told.at, "", b""), told)])
        key = webhook.key_of(house.world.pool_id, told.key)
        assert webhook.add_events(conn, {key: webhook.day_of(told.at)}) == {key}
    assert counted(house) == {"reacted": 1}


def test_a_provider_that_makes_up_types_without_end_fills_nothing(house: House) -> None:
    house.tell(*[house.event(f"type {number}") for number in range(MOST_TYPES + 7)])
    house.tell(*[house.event(f"other type {number}") for number in range(9)])
    assert len(counted(house)) == MOST_TYPES + 1
    assert counted(house)[OTHERS] == 16
    assert replay(house.runtime, READ_ANEW).posts == 2
    assert counted(house)[OTHERS] == 16


def test_posts_with_unread_events_are_kept_as_long_as_they_can_be_taken(house: House) -> None:
    for number in range(3):
        house.tell(house.event("reacted" if number else "opened"))
    with house.runtime.db.begin() as conn:
        conn.execute(text("UPDATE webhook SET received_at = now() - make_interval(days => 3 * id::int + 1)"))
    assert ingest.tidy(house.runtime) == 2  # of 4 and of 10 days ago: one was read, the other is too old to be taken
    assert house.rows("SELECT id FROM webhook") == [(2,)]
    with house.runtime.db.begin() as conn:
        conn.execute(text("UPDATE webhook_unread_raw SET came_at = now() - interval '31 days'"))
    ingest.tidy(house.runtime)
    assert [(each.events, each.shown) for each in found(house)] == [(2, [])]


def test_the_command_lists_them_and_forgets_one(house: House, command: CliRunner) -> None:
    def unread(*words: str) -> str:
        return command.invoke(main, ["webhooks", "unread", *words]).output

    assert "nothing that we have no word for" in unread()
    house.tell(house.event("re\x1bacted", note="\x1b[2J"))
    assert "re?acted: 1 event," in unread() and "\x1b" not in unread()
    [facts] = json.loads(unread("--json"))
    assert (facts["type"], facts["events"], facts["shown"][0]["post_id"]) == ("re?acted", 1, 1)
    assert json.loads(command.invoke(main, ["webhooks", "list", "--unread", "--json"]).output)[0]["id"] == 1
    assert "no such type" in unread("--pool", str(house.world.pool_id), "--forget", "winked")
    assert "name the pool" in unread("--forget", "re?acted")
    assert unread("--pool", str(house.world.pool_id), "--forget", "re?acted") == "Forgotten.\n"
    assert unread("--json") == "[]\n"
    assert "1 posts were read anew" in command.invoke(main, ["webhooks", "replay", "--unread"]).output
