"""Recipients: who got a campaign and what happened to each; the list, its export, and a lead's timeline."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from app.errors import NotFound
from app.flows import export
from app.mail import Kind
from app.models import recipient
from app.runtime import Runtime
from tests import record
from tests.world import add_leads, add_range, insert

pytestmark = pytest.mark.editions
START = datetime.now(UTC).replace(hour=9, minute=0, second=0, microsecond=0) - timedelta(days=6)


@pytest.fixture
def running(database_url: str) -> Iterator[Runtime]:
    """300 leads, one campaign to all of them in three ranges; another organisation's campaign 2."""
    started = record.runtime(database_url)
    with started.db.begin() as conn:
        for name in ("Ours", "Theirs"):
            organisation_id = insert(conn, "organisation", name=name)
            email = f"{name.lower()}@example.com"
            user_id = insert(conn, "user", organisation_id=organisation_id, email=email, name=name, password_hash="!")
            add_campaign(conn, organisation_id, user_id)
        add_leads(conn, 1, 300)
        for first in (1, 101, 201):
            add_range(conn, 1, list(range(first, first + 100)))
        conn.execute(text("UPDATE outbox SET state = 'done', position = size, sent = size"))
    yield started
    started.close()


def add_campaign(conn: object, organisation_id: int, user_id: int) -> int:
    return insert(
        conn,  # type: ignore[arg-type]
        "campaign",
        organisation_id=organisation_id,
        owner_id=user_id,
        name="News",
        state="finished",
        run=1,
        launched_at=START,
    )


def after(hours: float) -> datetime:
    return START + timedelta(hours=hours)


def send(running: Runtime) -> None:
    """Leads 1 to 290 are sent, 291 to 300 end otherwise; lead 7 is unknown first, lead 300 sent in a second run."""
    with running.db.begin() as conn:
        record.append(conn, START, "sent", [n for n in range(1, 291) if n != 7], domain_id=1)
        record.append(conn, START, "unknown", [7])
        record.append(conn, START, "refused", [291, 292], detail='{"reason": "550 no such user"}')
        record.append(conn, START, "failed", [300])
        record.append(conn, START, "skipped", [293])
        record.append(conn, START, "unknown", [294])
        record.append(conn, after(1), "unknown", [7], weight=-1)
        record.append(conn, after(1), "sent", [7])
        record.append(conn, after(2), "bounced", [5])
        record.append(conn, after(30), "opened", [9, 10])
        record.append(conn, after(30), "opened", [9])
        record.append(conn, after(31), "opened", [11], machine=True)
        record.append(conn, after(50), "sent", [300], run=2)


def ids(page: list[recipient.Recipient]) -> list[int]:
    return [row.lead_id for row in page]


def test_every_recipient_stands_once_with_the_outcome_that_holds(running: Runtime) -> None:
    send(running)
    with running.db.begin() as conn:
        page = recipient.find_page(conn, 1, 1, limit=500)
    by_id = {row.lead_id: row for row in page}
    assert ids(page) == [*range(1, 295), 300]
    assert (by_id[1].email, by_id[1].outcome, by_id[1].at) == ("lead1@mail1.example.com", Kind.SENT, START)
    assert (by_id[7].outcome, by_id[7].at, by_id[7].figures.unknown) == (Kind.SENT, after(1), 0)
    assert (by_id[291].outcome, by_id[291].reason) == (Kind.REFUSED, "550 no such user")
    assert (by_id[294].outcome, by_id[300].outcome, by_id[300].run) == (Kind.UNKNOWN, Kind.SENT, 2)
    assert (by_id[5].figures.bounced, by_id[9].figures.opened, by_id[11].figures.opened_by_machines) == (1, 2, 1)


def test_pages_by_key_meet_every_recipient_once(running: Runtime) -> None:
    send(running)
    met: list[int] = []
    with running.db.begin() as conn:
        while page := recipient.find_page(conn, 1, 1, after=met[-1] if met else 0, limit=7):
            met += ids(page)
    assert met == [*range(1, 295), 300]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (Kind.REFUSED, [291, 292]),
        (Kind.FAILED, []),
        (Kind.SKIPPED, [293]),
        (Kind.UNKNOWN, [294]),
        (Kind.BOUNCED, [5]),
        (Kind.OPENED, [9, 10]),
        (Kind.CLICKED, []),
    ],
)
def test_a_filter_shows_those_whose_outcome_holds_now(running: Runtime, kind: Kind, expected: list[int]) -> None:
    """Lead 300 failed at first, lead 7 was unknown; lead 11 was opened by a machine only."""
    send(running)
    with running.db.begin() as conn:
        assert ids(recipient.find_page(conn, 1, 1, kind=kind)) == expected
        assert ids(recipient.find_page(conn, 1, 1, kind=kind, limit=1)) == expected[:1]


def test_filtered_pages_by_key_meet_every_recipient_once(running: Runtime) -> None:
    send(running)
    with running.db.begin() as conn:
        record.append(conn, after(60), "failed", list(range(1, 290)), weight=1)
        record.append(conn, after(61), "failed", list(range(2, 290)), weight=-1)
        record.append(conn, after(60), "sent", [1], weight=-1)
        met: list[int] = []
        while page := recipient.find_page(conn, 1, 1, kind=Kind.SENT, after=met[-1] if met else 0, limit=11):
            met += ids(page)
        assert ids(recipient.find_page(conn, 1, 1, kind=Kind.FAILED, limit=3)) == [1]
    assert met == [*range(2, 291), 300]


def test_an_erased_lead_stays_in_the_list_without_its_address(running: Runtime) -> None:
    send(running)
    with running.db.begin() as conn:
        conn.execute(text("DELETE FROM lead WHERE id = 3"))
        row = recipient.find_page(conn, 1, 1, after=2, limit=1)[0]
    assert (row.lead_id, row.email, row.outcome) == (3, None, Kind.SENT)


def test_a_young_campaigns_recipients_are_listed_while_it_sends(running: Runtime) -> None:
    with running.db.begin() as conn:
        conn.execute(text("UPDATE campaign SET launched_at = now() - INTERVAL '30 hours' WHERE id = 1"))
        record.append(conn, datetime.now(UTC) - timedelta(hours=29), "sent", [1, 2])
        record.append(conn, datetime.now(UTC), "sent", [3])
    with running.db.begin() as conn:
        assert ids(recipient.find_page(conn, 1, 1)) == [1, 2, 3]


def test_another_organisations_recipients_are_not_found(running: Runtime) -> None:
    with running.db.begin() as conn, pytest.raises(NotFound):
        recipient.find_page(conn, 1, 2)


def test_the_list_is_the_same_from_the_columnstore(running: Runtime) -> None:
    send(running)
    with running.db.begin() as conn:
        before = recipient.find_page(conn, 1, 1, limit=500)
        if conn.execute(text("SELECT to_regclass('rollup_5min') IS NULL")).scalar_one():
            conn.execute(text("SELECT compress_chunk(chunk) FROM show_chunks('event') AS chunk"))
    with running.db.begin() as conn:
        assert recipient.find_page(conn, 1, 1, limit=500) == before
        assert ids(recipient.find_page(conn, 1, 1, kind=Kind.REFUSED)) == [291, 292]


def test_the_export_is_the_whole_list_and_no_cell_is_a_formula(
    running: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(running)
    with running.db.begin() as conn:
        record.append(conn, after(1), "refused", [295], detail='{"reason": "=HYPERLINK(1)"}')
    monkeypatch.setattr(export, "PAGE", 100)
    lines = list(csv.DictReader(io.StringIO("".join(export.export_recipients(running, 1, 1)), newline="")))
    assert [int(line["lead_id"]) for line in lines] == [*range(1, 296), 300]
    assert lines[6] == {
        "email": "lead7@mail2.example.com",
        "outcome": "sent",
        "at": after(1).isoformat(),
        "run": "1",
        "reason": "",
        "delivered": "0",
        "bounced": "0",
        "complained": "0",
        "unsubscribed": "0",
        "opened": "0",
        "clicked": "0",
        "opened_by_machines": "0",
        "clicked_by_machines": "0",
        "lead_id": "7",
    }
    assert lines[294]["reason"] == "'=HYPERLINK(1)"


def test_an_export_of_one_kind_holds_these_only(running: Runtime) -> None:
    send(running)
    lines = "".join(export.export_recipients(running, 1, 1, Kind.REFUSED)).splitlines()
    assert len(lines) == 3


def test_a_leads_timeline_tells_each_campaign_the_newest_first(running: Runtime) -> None:
    send(running)
    with running.db.begin() as conn:
        other = add_campaign(conn, 1, 1)
        add_range(conn, other, [8, 9, 10, 400])
        add_range(conn, add_campaign(conn, 1, 1), [8, 10])
        insert(conn, "link", campaign_id=other, position=1, url="https://example.com/a")
        record.append(conn, after(70), "sent", [8, 9], campaign_id=other)
        record.append(conn, after(71), "clicked", [9], campaign_id=other, link_id=1)
        told = recipient.find_timeline(conn, 1, 9).chapters
        assert [(chapter.campaign_id, [moment.kind.value for moment in chapter.moments]) for chapter in told] == [
            (other, ["clicked", "sent"]),
            (1, ["opened", "opened", "sent"]),
        ]
        assert told[0].moments[0].url == "https://example.com/a"
        assert [chapter.campaign_id for chapter in recipient.find_timeline(conn, 1, 9, before=other).chapters] == [1]
        assert recipient.find_timeline(conn, 2, 9).chapters == []


def test_a_lead_that_is_still_to_be_sent_to_has_a_chapter_without_moments(running: Runtime) -> None:
    with running.db.begin() as conn:
        assert recipient.find_timeline(conn, 1, 9).chapters == [recipient.Chapter(1, "News", [], [])]


def test_a_timeline_looks_through_so_many_campaigns_at_a_time_and_misses_none(
    running: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lead who got few of very many must not wait for all of them to be looked through."""
    monkeypatch.setattr(recipient, "LOOKED_BACK", 3)
    with running.db.begin() as conn:
        later = [add_campaign(conn, 1, 1) for _ in range(8)]
        for campaign_id in later:
            add_range(conn, campaign_id, [9, 10] if campaign_id in (later[0], later[6]) else [10, 11])
        found, before = [], None
        while len(found) < 10:
            told = recipient.find_timeline(conn, 1, 9, before=before)
            found.append([chapter.campaign_id for chapter in told.chapters])
            if (before := told.older) is None:
                break
        assert found == [[later[6]], [], [later[0], 1], []]
        one = recipient.find_timeline(conn, 1, 10, limit=2)
        assert ([chapter.campaign_id for chapter in one.chapters], one.older) == ([later[7], later[6]], later[6])


def test_an_unknown_that_was_resolved_is_told_as_it_happened(running: Runtime) -> None:
    send(running)
    with running.db.begin() as conn:
        told = recipient.find_timeline(conn, 1, 7).chapters
    assert [moment.kind for moment in told[0].moments] == [Kind.SENT, Kind.UNKNOWN]
