"""Importing leads: what a file does to the leads, and counts that add up however the file is cut into batches."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from app.db import Database
from app.errors import Conflict, Invalid
from app.flows import import_leads
from app.flows.import_leads import Options
from app.models import lead, lead_import, suppression
from app.models.lead_import import LeadImport
from app.runtime import Runtime


@pytest.fixture
def organisation_id(runtime: Runtime) -> int:
    return add_organisation(runtime.db)


def add_organisation(db: Database) -> int:
    with db.begin() as conn:
        return int(conn.execute(text("INSERT INTO organisation (name) VALUES ('One') RETURNING id")).scalar_one())


def run(db: Database, organisation_id: int, file: str | bytes, options: Options | None = None) -> LeadImport:
    """Imports a file and gives its row; its counts add up, whatever it was."""
    data = file.encode() if isinstance(file, str) else file
    done = import_leads.import_stream(db, organisation_id, None, "leads.csv", io.BytesIO(data), options)
    with db.session() as session:
        found = lead_import.get(session, organisation_id, done)
    assert found.rows_read == found.added + found.updated + found.unchanged + found.repeated + found.rejected
    return found


def counts(found: LeadImport) -> tuple[int, int, int, int, int]:
    return found.added, found.updated, found.unchanged, found.repeated, found.rejected


def leads(db: Database, organisation_id: int) -> dict[str, dict[str, object]]:
    with db.begin() as conn:
        rows = lead.find_page(conn, organisation_id, "", None, 10_000)
    return {row.email: dict(row.attributes) for row in rows}


def rejects(db: Database, found: LeadImport) -> list[tuple[int, str]]:
    with db.begin() as conn:
        return [(each.line, each.reason) for each in lead_import.find_rejects(conn, found.id, 0, 10_000)]


def test_a_file_adds_typed_leads_and_their_domains(runtime: Runtime, organisation_id: int) -> None:
    found = run(
        runtime.db,
        organisation_id,
        "E-Mail,First Name,Age,Zip,Pro,signedUp,Zeitzone\n"
        "Anna@Example.com,Anna,30,01067,true,2026-01-31,europe/berlin\n"
        "ben@bücher.de,,4.5,80331,FALSE,2026-02-01T10:00:00+02:00,\n",
    )
    assert (found.state, counts(found)) == ("finished", (2, 0, 0, 0, 0))
    assert leads(runtime.db, organisation_id) == {
        "anna@example.com": {"first_name": "Anna", "age": 30, "zip": "01067", "pro": True, "signed_up": "2026-01-31"},
        "ben@xn--bcher-kva.de": {"age": 4.5, "zip": "80331", "pro": False, "signed_up": "2026-02-01T08:00:00+00:00"},
    }
    with runtime.db.begin() as conn:
        kinds = {"age": "number", "first_name": "text", "pro": "boolean", "signed_up": "date", "zip": "text"}
        assert lead.load_attributes(conn, organisation_id) == kinds
        zones = conn.execute(text("SELECT time_zone, name FROM lead JOIN domain ON domain.id = domain_id ORDER BY 2"))
        assert zones.all() == [("Europe/Berlin", "example.com"), (None, "xn--bcher-kva.de")]


def test_a_second_import_of_the_same_file_changes_nothing(runtime: Runtime, organisation_id: int) -> None:
    file = "email,name,age\na@x.de,Anna,3\nb@x.de,Ben,\na@x.de,Anna,3\nc@,Carla,1\n"
    assert counts(run(runtime.db, organisation_id, file)) == (2, 0, 0, 1, 1)
    with runtime.db.begin() as conn:
        before = conn.execute(text("SELECT id, xmin::text, updated_at FROM lead ORDER BY id")).all()
    assert counts(run(runtime.db, organisation_id, file)) == (0, 0, 2, 1, 1)
    with runtime.db.begin() as conn:
        assert conn.execute(text("SELECT id, xmin::text, updated_at FROM lead ORDER BY id")).all() == before


def test_what_a_file_does_not_give_is_kept(runtime: Runtime, organisation_id: int) -> None:
    run(runtime.db, organisation_id, "email,name,plan,tz\na@x.de,Anna,pro,Europe/Berlin\n")
    found = run(runtime.db, organisation_id, "email,name,plan,city,tz\na@x.de,,basic,Köln,\n")
    assert counts(found) == (0, 1, 0, 0, 0)
    assert leads(runtime.db, organisation_id) == {"a@x.de": {"name": "Anna", "plan": "basic", "city": "Köln"}}
    with runtime.db.begin() as conn:
        assert conn.execute(text("SELECT time_zone FROM lead")).scalar_one() == "Europe/Berlin"


def test_the_last_row_of_an_address_wins_and_the_others_are_repeated(runtime: Runtime, organisation_id: int) -> None:
    found = run(runtime.db, organisation_id, "email,name,plan\nA@x.de,Anna,free\na@x.de,,pro\n a@X.de,Ann,\n")
    assert counts(found) == (1, 0, 0, 2, 0)
    assert leads(runtime.db, organisation_id) == {"a@x.de": {"name": "Ann", "plan": "pro"}}


def test_a_bad_row_is_rejected_with_its_line_and_reason(runtime: Runtime, organisation_id: int) -> None:
    run(runtime.db, organisation_id, "email,age,born,tz\nfirst@x.de,1,2000-01-01,UTC\n")
    found = run(
        runtime.db,
        organisation_id,
        "email,age,born,tz,note\n"
        "anna,1,,,\n"
        "a@x.de,old,,,\n"
        "b@x.de,1,2026-02-30,,\n"
        "c@x.de,1,,Mars/Base,\n"
        "d@x.de,1\n"
        "e@x.de,1,,,,\n"
        "f@x.de,1,,,,surplus\n"
        f"g@x.de,1,,,{'x' * 10_001}\n"
        '"h@x.de\r\nBcc: i@x.de",1,,,\n'
        "j@x.de,1,,,fine\n",
    )
    assert rejects(runtime.db, found) == [
        (2, "An email address must have an @-sign."),
        (3, "age is not a number: 'old'."),
        (4, "born is not a date (as in 2026-11-30): '2026-02-30'."),
        (5, "time_zone is no time zone (as in Europe/Berlin): 'Mars/Base'."),
        (6, "The row has 2 cells, the header has 5."),
        (8, "The row has 6 cells, the header has 5."),
        (9, "note is longer than 10,000 characters."),
        (10, "The part after the @-sign contains invalid characters: ':', '@', SPACE, U+000A, U+000D."),
    ]
    assert counts(found) == (2, 0, 0, 0, 8)
    assert sorted(leads(runtime.db, organisation_id)) == ["e@x.de", "first@x.de", "j@x.de"]


def test_rejects_are_a_csv_file_that_a_spreadsheet_may_open(runtime: Runtime, organisation_id: int) -> None:
    found = run(runtime.db, organisation_id, 'email,tel,note\nanna,+49 40 1234,"=HYPERLINK(""x"")"\nben,-3,@SUM(A1)\n')
    assert list(import_leads.rejects_csv(runtime.db, found.id)) == [
        "line,reason,email,tel,note\r\n",
        '2,An email address must have an @-sign.,anna,+49 40 1234,"\'=HYPERLINK(""x"")"\r\n',
        "3,An email address must have an @-sign.,ben,-3,'@SUM(A1)\r\n",
    ]


def test_a_lead_that_unsubscribed_stays_unsubscribed(runtime: Runtime, organisation_id: int) -> None:
    file = "email,name\na@x.de,Anna\nb@x.de,Ben\nc@x.de,Carla\nd@x.de,David\n"
    run(runtime.db, organisation_id, file)
    with runtime.db.begin() as conn:
        suppression.suppress(conn, organisation_id, ["a@x.de", "d@x.de"], "unsubscribed")
        suppression.suppress(conn, organisation_id, ["b@x.de"], "bounced")
        conn.execute(text("DELETE FROM lead WHERE email <> 'a@x.de'"))
    run(runtime.db, organisation_id, file.replace("Anna", "Ann"))
    with runtime.db.begin() as conn:
        statuses = conn.execute(text("SELECT status, attributes->>'name' FROM lead ORDER BY email")).all()
    assert statuses == [("unsubscribed", "Ann"), ("invalid", "Ben"), ("active", "Carla"), ("unsubscribed", "David")]


def test_organisations_do_not_share_leads(runtime: Runtime, organisation_id: int) -> None:
    other = add_organisation(runtime.db)
    run(runtime.db, organisation_id, "email,name\na@x.de,Anna\n")
    found = run(runtime.db, other, "email,name\na@x.de,Other\n")
    assert counts(found) == (1, 0, 0, 0, 0)
    assert leads(runtime.db, organisation_id) == {"a@x.de": {"name": "Anna"}}


def test_texts_come_back_as_they_were(runtime: Runtime, organisation_id: int) -> None:
    strange = ["\\", "\\N", "a\tb", 'say "hi"', "{},:", "line\nbreak", "\U0001f600", "'; DROP TABLE lead; --", "\x01"]
    rows = "".join('a{}@x.de,"{}"\n'.format(n, value.replace('"', '""')) for n, value in enumerate(strange))
    run(runtime.db, organisation_id, "email,note\n" + rows)
    assert [each["note"] for each in leads(runtime.db, organisation_id).values()] == strange


def test_the_registry_s_type_wins_over_what_a_file_suggests(runtime: Runtime, organisation_id: int) -> None:
    with runtime.db.begin() as conn:
        lead.register_attributes(conn, organisation_id, {"code": "text", "vip": "boolean"})
    run(runtime.db, organisation_id, "email,code,vip\na@x.de,7,yes\n")
    assert leads(runtime.db, organisation_id) == {"a@x.de": {"code": "7", "vip": True}}


def test_a_mapping_decides_what_columns_are(runtime: Runtime, organisation_id: int) -> None:
    options = Options(mapping={"privat": "email", "email": "", "Vorname": "first_name"})
    run(runtime.db, organisation_id, "email,privat,Vorname\nwork@x.de,home@x.de,Anna\n", options)
    assert leads(runtime.db, organisation_id) == {"home@x.de": {"first_name": "Anna"}}


def test_a_column_that_is_not_chosen_as_the_address_is_an_attribute(runtime: Runtime, organisation_id: int) -> None:
    options = Options(mapping={"privat": "email"})
    run(runtime.db, organisation_id, "email,privat\nwork@x.de,home@x.de\n", options)
    assert leads(runtime.db, organisation_id) == {"home@x.de": {"email_1": "work@x.de"}}


@pytest.mark.parametrize(
    ("file", "options", "sentence"),
    [
        ("name\nAnna\n", None, "No column is called email"),
        ("anna@x.de,Anna\n", None, "already is a lead"),
        ("email,e-mail\n", None, "Two columns are 'email': 'email', 'e-mail'"),
        ("email,a b,a-b\n", None, "Two columns are 'a_b'"),
        ("email\n", Options(mapping={"mail": "email"}), "no such column"),
        ("email,x\n", Options(mapping={"x": "X y"}), "'x_y' could"),
    ],
)
def test_a_header_that_does_not_do_is_refused_and_nothing_is_kept(
    runtime: Runtime, organisation_id: int, file: str, options: Options | None, sentence: str
) -> None:
    with pytest.raises(Invalid, match=sentence):
        import_leads.receive(runtime, organisation_id, None, "x.csv", io.BytesIO(file.encode()), options)
    with pytest.raises(Invalid, match=sentence):
        run(runtime.db, organisation_id, file, options)
    with runtime.db.begin() as conn:
        assert conn.execute(text("SELECT count(*) FROM import")).scalar_one() == 0


ROWS = st.lists(
    st.tuples(st.sampled_from(["a@x.de", "b@x.de", "c@x.de", "D@x.de", "bad"]), st.sampled_from(["", "1", "2", "x"])),
    max_size=14,
)


@given(before=ROWS, file=ROWS, size=st.integers(1, 60))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_file_in_any_batches_leaves_the_leads_and_counts_of_a_plain_loop(
    runtime: Runtime, before: list[tuple[str, str]], file: list[tuple[str, str]], size: int
) -> None:
    organisation_id = add_organisation(runtime.db)
    with runtime.db.begin() as conn:
        lead.register_attributes(conn, organisation_id, {"n": "number"})
    known: dict[str, dict[str, object]] = {}
    for rows in (before, file):
        text_of_file = "email,n\n" + "".join(f"{email},{n}\n" for email, n in rows)
        started = dict(known)
        bad = 0
        for email, n in rows:
            if email == "bad" or n == "x":
                bad += 1
            else:
                known[email.lower()] = known.get(email.lower(), {}) | ({"n": int(n)} if n else {})
        met = {email.lower() for email, n in rows if email != "bad" and n != "x"}
        found = run_in_pieces(runtime.db, organisation_id, text_of_file.encode(), size)
        assert leads(runtime.db, organisation_id) == known
        assert found.added == len(met - started.keys())
        assert found.rejected == bad
        assert found.repeated == len(rows) - bad - len(met)
        changed = {email for email in met & started.keys() if known[email] != started[email]}
        # A batch may change a lead, and a later one change it back: then it was updated, and is as it was.
        assert len(changed) <= found.updated
        if all(n for _, n in rows) and len({(e.lower(), n) for e, n in rows}) == len({e.lower() for e, _ in rows}):
            assert found.updated == len(changed)


def run_in_pieces(db: Database, organisation_id: int, data: bytes, size: int) -> LeadImport:
    """The import with a stream that gives `size` bytes at a time, each of which makes a batch."""
    with db.begin() as conn:
        done = lead_import.create(conn, organisation_id, None, "x.csv", {})
        job = lead_import.claim_unstored(conn, done, len(data))

    def source(offset: int) -> Iterator[bytes]:
        return (data[start : start + size] for start in range(offset, len(data), size))

    import_leads._run(db, job, source, lambda *_: None, lambda: False)
    with db.session() as session:
        found = lead_import.get(session, organisation_id, done)
    assert found.state == "finished"
    assert found.rows_read == found.added + found.updated + found.unchanged + found.repeated + found.rejected
    return found


def test_an_upload_is_stored_in_pieces_and_deleted_when_it_is_read(runtime: Runtime, organisation_id: int) -> None:
    rung: list[str] = []
    runtime.use_bell(rung.append)
    data = b"email,note\n" + b"".join(b"a%d@x.de,%s\n" % (n, b"x" * 500) for n in range(5000))
    done = import_leads.receive(runtime, organisation_id, None, "leads.csv", Crumbs(data))
    assert rung == ["import"]
    with runtime.db.begin() as conn:
        sizes = conn.execute(text("SELECT length(bytes) FROM import_piece ORDER BY position")).scalars().all()
    assert sizes == [1 << 20, 1 << 20, len(data) - (2 << 20)]
    assert import_leads.run_waiting(runtime)
    assert not import_leads.run_waiting(runtime)
    with runtime.db.session() as session:
        found = lead_import.get(session, organisation_id, done)
        assert (found.state, counts(found)) == ("finished", (5000, 0, 0, 0, 0))
        assert (found.bytes_read, found.lines_read) == (len(data), 5001)
        assert session.execute(text("SELECT count(*) FROM import_piece")).scalar_one() == 0


class Crumbs(io.BytesIO):
    """A network's stream: never as much as was asked for."""

    def read(self, size: int | None = -1) -> bytes:
        return super().read(min(size or 0, 100_000))


def test_an_upload_beyond_the_limit_is_refused_and_nothing_is_kept(runtime: Runtime, organisation_id: int) -> None:
    data = b"email\n" + b"a@x.de\n" * 400_000
    with pytest.raises(Invalid, match="larger than 2 MB"):
        import_leads.receive(runtime, organisation_id, None, "x.csv", io.BytesIO(data), largest=2 << 20)
    with runtime.db.begin() as conn:
        assert conn.execute(text("SELECT count(*) FROM import_piece")).scalar_one() == 0


def test_an_import_that_has_ended_cannot_be_run_again(runtime: Runtime, organisation_id: int) -> None:
    done = import_leads.receive(runtime, organisation_id, None, "x.csv", io.BytesIO(b"email\na@x.de\n"))
    import_leads.run_import(runtime.db, done)
    with pytest.raises(Conflict):
        import_leads.run_import(runtime.db, done)
