"""Suppressions: entered, taken back only as those mailed wish, read from files, written to be read again."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlalchemy import text

from app.config import Settings
from app.errors import Invalid, NotFound
from app.flows import suppressions
from app.flows.edit_lead import Entry as LeadEntry
from app.flows.edit_lead import create, update
from app.flows.import_suppressions import Imported, Options, import_file
from app.flows.read_csv import Reject
from app.models import suppression
from app.models.suppression import REASONS, Entry
from app.runtime import Runtime
from cli.main import main
from tests import world
from tests.world import World

ADA, BO = "lead1@mail1.example.com", "lead2@mail2.example.com"


@pytest.fixture
def at(runtime: Runtime) -> World:
    return world.build(runtime.db, secret_key=runtime.settings.secret_key, leads=2)


def rows(runtime: Runtime, at: World) -> list[tuple[str, int, str, str]]:
    with runtime.db.begin() as conn:
        found = suppression.find_page(conn, at.organisation_id, "", ("", 0), 1000)
    return [(row.email, row.sender_id, row.reason, row.source) for row in found]


def statuses(runtime: Runtime) -> list[str]:
    with runtime.db.begin() as conn:
        return list(conn.execute(text("SELECT status FROM lead ORDER BY id")).scalars())


def suppress(runtime: Runtime, at: World, *entries: Entry) -> int:
    with runtime.db.begin() as conn:
        return suppression.suppress_each(conn, at.organisation_id, entries)


def read(
    runtime: Runtime, at: World, file: str | bytes, options: Options | None = None
) -> tuple[Imported, list[Reject]]:
    rejects: list[Reject] = []
    raw = file.encode() if isinstance(file, str) else file
    done = import_file(runtime, at.organisation_id, BytesIO(raw), options or Options(source="list.csv"), rejects.append)
    return done, rejects


def test_the_gravest_reason_stands_and_of_equal_ones_the_earliest(runtime: Runtime, at: World) -> None:
    early, late = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)
    entries = [Entry(ADA, reason, when.isoformat(), at=when) for reason in REASONS for when in (early, late)]
    for order in (entries, entries[::-1]):
        with runtime.db.begin() as conn:
            conn.execute(text("DELETE FROM suppression"))
        assert sum(suppress(runtime, at, each) for each in order) == 1
        assert rows(runtime, at) == [(ADA, 0, "complained", early.isoformat())]
    with runtime.db.begin() as conn:
        conn.execute(text("DELETE FROM suppression"))
    assert suppress(runtime, at, *entries) == 1  # all at once
    assert rows(runtime, at) == [(ADA, 0, "complained", early.isoformat())]


def test_what_was_entered_by_hand_says_by_whom_and_bad_input_changes_nothing(runtime: Runtime, at: World) -> None:
    ours = at.organisation_id
    for faulty, pointer in (
        ({"raw": ["x", ADA]}, "emails"),
        ({"raw": ["", " "]}, "emails"),
        ({"raw": [ADA] * 1001}, "emails"),
        ({"raw": [ADA], "sender_id": 99}, "sender"),
        ({"raw": [ADA], "note": "x" * 201}, "note"),
    ):
        with pytest.raises(Invalid) as raised:
            suppressions.add(runtime, ours, **faulty)
        assert [fault.pointer for fault in raised.value.faults] == [pointer]
    assert rows(runtime, at) == []
    assert suppressions.add(runtime, ours, [f" {ADA.upper()} ", ADA, BO], note="phoned", user_id=at.user_id) == 2
    assert suppressions.add(runtime, ours, [BO], sender_id=at.sender_id) == 1
    with runtime.db.begin() as conn:
        page = suppression.find_page(conn, ours, "LEAD", ("", 0), 2)
        rest = suppression.find_page(conn, ours, "", (page[-1].email, page[-1].sender_id), 2)
        assert suppression.find_page(conn, ours, "lead\0", ("\0", 0), 2) == page
        assert suppression.is_suppressed(conn, ours, BO, at.sender_id)
    assert [(row.email, row.sender, row.entered_by, row.source) for row in page + rest] == [
        (ADA, None, "Owner", "phoned"),
        (BO, None, "Owner", "phoned"),
        (BO, "Sender", None, "by hand"),
    ]
    assert statuses(runtime) == ["active", "active"]


@pytest.mark.parametrize("reason", REASONS)
def test_taking_a_suppression_back_makes_the_lead_active_but_a_wish_only_with_consent(
    runtime: Runtime, at: World, reason: str
) -> None:
    suppress(runtime, at, Entry(ADA, reason, "campaign 7"))
    wish = reason in ("unsubscribed", "complained")
    with runtime.db.begin() as conn:
        conn.execute(text("INSERT INTO soft_bounce SELECT min(id), 1, 1, now() FROM lead"))
    if wish:
        with pytest.raises(Invalid, match="They asked for this themselves"):
            suppressions.remove(runtime, at.organisation_id, ADA, user_id=at.user_id)
        assert (len(rows(runtime, at)), statuses(runtime)) == (1, ["unsubscribed", "active"])
    suppressions.remove(runtime, at.organisation_id, ADA, consent=wish, user_id=at.user_id)
    assert (rows(runtime, at), statuses(runtime)) == ([], ["active", "active"])
    with runtime.db.begin() as conn:
        (removed,) = suppression.find_removed(conn, at.organisation_id, ADA)
        assert conn.execute(text("SELECT count(*) FROM soft_bounce")).scalar_one() == 0
    assert (removed.reason, removed.source, removed.removed_by) == (reason, "campaign 7", "Owner")
    with pytest.raises(NotFound):
        suppressions.remove(runtime, at.organisation_id, ADA)


def test_who_has_unsubscribed_besides_is_not_mailed_again_without_consent(runtime: Runtime, at: World) -> None:
    suppress(runtime, at, Entry(ADA, "manual"))
    with runtime.db.begin() as conn:
        conn.execute(text("UPDATE lead SET status = 'unsubscribed' WHERE email = :email"), {"email": ADA})
    with pytest.raises(Invalid):
        suppressions.remove(runtime, at.organisation_id, ADA)


def test_nobody_takes_back_what_is_another_organisations_or_another_senders(runtime: Runtime, at: World) -> None:
    other = world.build(runtime.db, secret_key=runtime.settings.secret_key, name="Second")
    suppress(runtime, at, Entry(ADA, "manual"), Entry(ADA, "manual", sender_id=at.sender_id))
    with pytest.raises(NotFound):
        suppressions.remove(runtime, other.organisation_id, ADA)
    suppressions.remove(runtime, at.organisation_id, ADA, sender_id=at.sender_id)
    assert rows(runtime, at) == [(ADA, 0, "manual", "")]


def test_a_lead_that_comes_later_is_closed_only_by_what_is_for_everybody(runtime: Runtime, at: World) -> None:
    suppress(runtime, at, Entry("a@x.de", "unsubscribed", sender_id=at.sender_id), Entry("b@x.de", "soft_bounced"))
    with runtime.db.begin() as conn:
        for email in ("a@x.de", "b@x.de"):
            made = create(runtime, at.organisation_id, LeadEntry(email))
            status = conn.execute(text("SELECT status FROM lead WHERE id = :id"), {"id": made}).scalar_one()
            assert status == {"a@x.de": "active", "b@x.de": "invalid"}[email]


def test_another_address_begins_without_the_old_ones_bounces(runtime: Runtime, at: World) -> None:
    with runtime.db.begin() as conn:
        ada, bo = conn.execute(text("SELECT id FROM lead ORDER BY id")).scalars()
        conn.execute(text("INSERT INTO soft_bounce SELECT id, 1, 1, now() FROM lead"))
    update(runtime, at.organisation_id, ada, LeadEntry("ada@x.de"))
    update(runtime, at.organisation_id, bo, LeadEntry(BO, "Europe/Berlin"))
    with runtime.db.begin() as conn:
        assert conn.execute(text("SELECT lead_id FROM soft_bounce")).scalars().all() == [bo]


# -- Files -------------------------------------------------------------------------------------------------------------


def test_an_export_read_again_is_the_same_and_safe_in_a_spreadsheet(runtime: Runtime, at: World) -> None:
    when = datetime(2026, 3, 1, 12, 30, 15, 250, tzinfo=UTC)
    suppress(
        runtime,
        at,
        Entry(ADA, "complained", "campaign 7", at=when),
        Entry("+cmd|x@example.com", "bounced", "=HYPERLINK(1)", at=when),
        Entry(BO, "unsubscribed", 'a, "b"\nc', at.sender_id, when),
        Entry(BO, "soft_bounced", "", at=when),
    )
    before = rows(runtime, at)
    exported = "".join(suppressions.export(runtime, at.organisation_id))
    assert exported.startswith("email,sender,reason,source,since\r\n'+cmd|x@example.com,,bounced,'=HYPERLINK(1),")
    with runtime.db.begin() as conn:
        conn.execute(text("DELETE FROM suppression"))
    done, rejects = read(runtime, at, exported)
    assert (done, rejects) == (Imported(rows=4, added=4), [])
    after = [(*row[:3], "" if row[3] == "list.csv" else row[3]) for row in rows(runtime, at)]
    assert after == before
    with runtime.db.begin() as conn:
        assert set(conn.execute(text("SELECT happened_at FROM suppression")).scalars()) == {when}
    assert read(runtime, at, exported)[0].known == 4


@pytest.mark.parametrize(
    ("file", "found"),
    [
        ("a@x.de\nb@x.de\n", {"a@x.de": "manual", "b@x.de": "manual"}),  # a plain list
        (
            "Email;Reason\r\nA@X.DE;Hard bounce\r\nb@x.de;Spam Complaint\r\n",
            {"a@x.de": "bounced", "b@x.de": "complained"},
        ),
        ("status,reason,email,created\n5.1.1,550 no such user,a@x.de,1700000000\n", {"a@x.de": "manual"}),
        ("\ufeffRecipient\tType\na@x.de\tHardBounce\n", {"a@x.de": "bounced"}),
        ("name,address\nAda,a@x.de\nBo,\n", {"a@x.de": "manual"}),
    ],
)
def test_lists_from_elsewhere_are_understood(runtime: Runtime, at: World, file: str, found: dict[str, str]) -> None:
    read(runtime, at, file)
    assert {email: reason for email, _, reason, _ in rows(runtime, at)} == found


def test_rows_that_are_none_are_told_with_their_line_and_the_others_are_taken(runtime: Runtime, at: World) -> None:
    file = "email,reason,sender\na@x.de,,\nnonsense,,\nb@x.de,,Nobody\nc@x.de,bounced,NEWS@example.com\n\xff@x,,\n"
    done, rejects = read(runtime, at, file.encode("latin-1"), Options("unsubscribed", source="from the old system"))
    assert (done.rows, done.added, done.rejected) == (5, 2, 3)
    assert [(each.line, each.cells[0]) for each in rejects][:2] == [(3, "nonsense"), (4, "b@x.de")]
    assert rejects[1].reason == "There is no sender Nobody."
    assert rows(runtime, at) == [
        ("a@x.de", 0, "unsubscribed", "from the old system"),
        ("c@x.de", at.sender_id, "bounced", "from the old system"),
    ]


@pytest.mark.parametrize("file", [b"", b"PK\x03\x04", b"name,age\nAda,3\n", b"\0\0\0\0"])
def test_what_is_no_list_is_refused_whole(runtime: Runtime, at: World, file: bytes) -> None:
    with pytest.raises(Invalid):
        read(runtime, at, file)
    assert rows(runtime, at) == []


def test_a_large_file_is_read_in_pieces(runtime: Runtime, at: World) -> None:
    file = "email,reason\n" + "".join(f"lead{n}@example.org,bounced\n" for n in range(60_000)) + "lead0@example.org,\n"
    done, _ = read(runtime, at, file)
    assert done == Imported(rows=60_001, added=60_000)
    assert done.known == 1


def test_a_list_that_is_read_beside_a_file_of_leads_is_read_whole(runtime: Runtime, at: World) -> None:
    done: list[Imported] = []
    file = f"email,reason\n{ADA},bounced\n{BO},bounced\n"
    reading = threading.Thread(target=lambda: done.append(read(runtime, at, file)[0]))
    change = text("UPDATE lead SET updated_at = now() WHERE email = :email")
    with runtime.db.begin() as conn:
        conn.execute(change, {"email": BO})
        reading.start()
        while not conn.execute(text("SELECT count(*) FROM pg_locks WHERE NOT granted")).scalar_one():
            conn.execute(text("SELECT pg_sleep(0.01)"))
        conn.execute(change, {"email": ADA})  # each waits for the other now: who waits longest is ended
    reading.join()
    assert done == [Imported(rows=2, added=2)]
    assert statuses(runtime) == ["invalid", "invalid"]


# -- Commands ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def command(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[CliRunner]:
    monkeypatch.setenv("DATABASE_URL", settings.database_url)
    monkeypatch.setenv("REDIS_URL", settings.redis_url)
    monkeypatch.setenv("SECRET_KEY", settings.secret_key)
    monkeypatch.setenv("MILLRACE_HOME", str(settings.home))
    yield CliRunner()


def test_the_commands_do_what_the_pages_do(runtime: Runtime, at: World, command: CliRunner, tmp_path: Path) -> None:
    def millrace(*words: str, **options: str) -> tuple[int, str]:
        result = command.invoke(main, ["suppressions", *words], **options)  # type: ignore[arg-type]
        return result.exit_code, result.output

    assert millrace("add", ADA, BO) == (0, "2 addresses are suppressed now; 0 were already.\n")
    assert millrace("add", ADA, "x")[0] == 1
    assert millrace("add", ADA, "--sender", "99")[0] == 2
    assert millrace("remove", ADA) == (0, f"{ADA} may be mailed again.\n")
    assert millrace("remove", ADA) == (1, "Error: This address is not suppressed.\n")
    suppress(runtime, at, Entry(ADA, "unsubscribed"))
    assert millrace("remove", ADA)[0] == 1
    assert millrace("remove", ADA, "--consented")[0] == 0
    out, bad = tmp_path / "out.csv", tmp_path / "bad.csv"
    assert millrace("export", str(out)) == (0, "")
    assert out.read_text().splitlines()[1].startswith(f"{BO},,manual,by command,")
    assert "by command" in millrace("export")[1]
    code, told = millrace("import", "-", "--json", "--rejects", str(bad), "--reason", "bounced", input="a@x.de\nx\n")
    assert (code, json.loads(told)) == (1, {"rows": 2, "added": 1, "rejected": 1, "known": 0})
    assert bad.read_text("utf-8-sig").splitlines()[1].startswith("2,")
    assert millrace("import", str(out)) == (0, "1 rows: 0 added, 1 known already, 0 not taken.\n")
