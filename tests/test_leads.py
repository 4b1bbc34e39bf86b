"""Leads one by one, their list, suppressions, the demo's leads, and cells that are safe in a spreadsheet."""

from __future__ import annotations

from datetime import date

import pytest
from sqlalchemy import text

from app import cells
from app.addresses import read_address
from app.csv_text import safe_cell
from app.errors import Invalid, NotFound
from app.flows import edit_lead
from app.flows.demo_leads import COLUMNS, generate_rows
from app.flows.edit_lead import Entry
from app.models import lead, suppression
from app.runtime import Runtime
from tests import world


@pytest.fixture
def organisation_id(runtime: Runtime) -> int:
    with runtime.db.begin() as conn:
        made = int(conn.execute(text("INSERT INTO organisation (name) VALUES ('One') RETURNING id")).scalar_one())
        lead.register_attributes(conn, made, {"name": "text", "age": "number", "vip": "boolean"})
    return made


def add(runtime: Runtime, organisation_id: int, *emails: str) -> list[int]:
    return [edit_lead.create(runtime, organisation_id, Entry(email)) for email in emails]


def test_a_lead_is_added_in_the_one_form(runtime: Runtime, organisation_id: int) -> None:
    entry = Entry(" Anna@BÜCHER.de", "europe/berlin", {"name": " Anna ", "age": "30", "vip": ""})
    made = edit_lead.create(runtime, organisation_id, entry)
    with runtime.db.session() as session:
        found = lead.get(session, organisation_id, made)
        assert (found.email, found.time_zone, found.status) == ("anna@xn--bcher-kva.de", "Europe/Berlin", "active")
        assert found.attributes == {"name": "Anna", "age": 30}
        assert session.get_one(lead.Domain, found.domain_id).name == "xn--bcher-kva.de"


def test_every_fault_of_a_lead_is_named_and_nothing_is_kept(runtime: Runtime, organisation_id: int) -> None:
    add(runtime, organisation_id, "ben@x.de")
    wrong = Entry("ben@x.de", "Mars/Base", {"age": "old", "shoe": "42"})
    with pytest.raises(Invalid) as refused:
        edit_lead.create(runtime, organisation_id, wrong)
    assert [fault.pointer for fault in refused.value.faults] == [
        "email",
        "time_zone",
        "attributes/age",
        "attributes/shoe",
    ]
    with runtime.db.begin() as conn:
        assert [row.email for row in lead.find_page(conn, organisation_id, "", None, 10)] == ["ben@x.de"]


def test_a_change_leaves_what_it_does_not_name_and_drops_what_it_empties(
    runtime: Runtime, organisation_id: int
) -> None:
    before = Entry("anna@x.de", "UTC", {"name": "Anna", "age": "30"})
    made = edit_lead.create(runtime, organisation_id, before)
    edit_lead.update(runtime, organisation_id, made, Entry("ann@y.de", "", {"age": "", "vip": "yes"}))
    with runtime.db.session() as session:
        found = lead.get(session, organisation_id, made)
        assert (found.email, found.time_zone) == ("ann@y.de", None)
        assert found.attributes == {"name": "Anna", "vip": True}
        assert session.get_one(lead.Domain, found.domain_id).name == "y.de"
        assert found.updated_at > found.created_at


def test_another_organisation_s_lead_is_not_found(runtime: Runtime, organisation_id: int) -> None:
    (made,) = add(runtime, organisation_id, "anna@x.de")
    other = organisation_id + 1
    with pytest.raises(NotFound):
        edit_lead.update(runtime, other, made, Entry("a@x.de"))
    with pytest.raises(NotFound):
        edit_lead.erase(runtime, other, made)
    with runtime.db.begin() as conn:
        assert lead.find_page(conn, other, "", None, 10) == []


def test_who_was_erased_is_gone_and_stays_suppressed(runtime: Runtime, organisation_id: int) -> None:
    (made,) = add(runtime, organisation_id, "anna@x.de")
    with runtime.db.begin() as conn:
        suppression.suppress(conn, organisation_id, ["anna@x.de"], "unsubscribed", "campaign 1")
    edit_lead.erase(runtime, organisation_id, made)
    with pytest.raises(NotFound):
        edit_lead.erase(runtime, organisation_id, made)
    (again,) = add(runtime, organisation_id, "anna@x.de")
    with runtime.db.session() as session:
        assert lead.get(session, organisation_id, again).status == "unsubscribed"


def test_the_list_is_paged_by_address_and_searched_by_how_an_address_begins(
    runtime: Runtime, organisation_id: int
) -> None:
    emails = ["ab@x.de", "a_b@x.de", "abc@x.de", "b@x.de", "a%c@x.de", "ab@y.de"]
    add(runtime, organisation_id, *emails)
    with runtime.db.begin() as conn:
        seen: list[str] = []
        after: int | None = None
        while page := lead.find_page(conn, organisation_id, "", after, 2):
            seen += [row.email for row in page]
            after = page[-1].id
        assert seen == sorted(emails)
        for search, found in {
            "ab": ["ab@x.de", "ab@y.de", "abc@x.de"],
            " AB@": ["ab@x.de", "ab@y.de"],
            "a_": ["a_b@x.de"],
            "%": [],
            "x.de": [],
            "a\0b": ["ab@x.de", "ab@y.de", "abc@x.de"],
        }.items():
            assert [row.email for row in lead.find_page(conn, organisation_id, search, None, 10)] == found


def test_a_search_and_a_page_read_one_index(runtime: Runtime, organisation_id: int) -> None:
    with runtime.db.begin() as conn:
        numbers = lead.number_domains(conn, ["x.de"])
        lines = [f"lead{n:06}@x.de\t{numbers['x.de']}\t\\N\t{{}}\n" for n in range(30_000)]
        world.merge(conn, organisation_id, lines)
    with runtime.db.begin() as conn:
        conn.execute(text("ANALYZE lead"))
        values = {"organisation_id": organisation_id, "low": "lead0", "high": "lead0\U0010ffff", "after_id": 0}
        plan = conn.execute(text(f"EXPLAIN {lead.SQL.find_page}"), values | {"limit": 50}).scalars().all()
    assert "lead_email" in "".join(plan)
    assert "Sort" not in "".join(plan)


def test_a_suppression_closes_the_lead_and_has_the_gravest_reason(runtime: Runtime, organisation_id: int) -> None:
    ids = add(runtime, organisation_id, "a@x.de", "b@x.de", "c@x.de")
    with runtime.db.begin() as conn:
        assert suppression.suppress(conn, organisation_id, ["a@x.de", "b@x.de"], "bounced", "sink") == 2
        assert suppression.suppress(conn, organisation_id, ["b@x.de", "z@x.de"], "unsubscribed") == 1
        assert suppression.suppress(conn, organisation_id, ["b@x.de", "c@x.de"], "manual") == 1
        assert suppression.suppress(conn, organisation_id, ["b@x.de"], "bounced") == 0
        rows = suppression.find_page(conn, organisation_id, "", ("a@x.de", 0), 10)
        assert [(row.email, row.reason) for row in rows] == [
            ("b@x.de", "unsubscribed"),
            ("c@x.de", "manual"),
            ("z@x.de", "unsubscribed"),
        ]
        assert suppression.is_suppressed(conn, organisation_id, "a@x.de")
        assert not suppression.is_suppressed(conn, organisation_id + 1, "a@x.de")
    with runtime.db.session() as session:
        statuses = [lead.get(session, organisation_id, each).status for each in ids]
    assert statuses == ["invalid", "unsubscribed", "active"]


def test_demo_leads_are_nobody_and_each_is_one(runtime: Runtime) -> None:
    rows = list(generate_rows(3000, today=date(2026, 11, 22)))
    assert rows == list(generate_rows(3000, today=date(2026, 11, 22)))
    assert {len(row) for row in rows} == {len(COLUMNS)}
    assert len({row[0] for row in rows}) == 3000
    with runtime.db.begin() as conn:
        zones = set(lead.load_time_zones(conn).values())
    for row in rows:
        email, domain = read_address(row[0])
        assert email == row[0]
        assert domain.partition(".")[2] in ("example.com", "example.net", "example.org")
        assert row[5] in zones
    assert 0 < sum(row[1] == "" for row in rows) < 400


@pytest.mark.parametrize(
    ("kind", "cell", "value"),
    [
        ("number", "+007", 7),
        ("number", "-1.50", -1.5),
        ("boolean", "YES", True),
        ("boolean", "0", False),
        ("date", "2026-02-28", "2026-02-28"),
        ("date", "2026-02-28T23:30-02:00", "2026-03-01T01:30:00+00:00"),
        ("date", "2026-02-28 10:00", "2026-02-28T10:00:00+00:00"),
        ("text", "007", "007"),
    ],
)
def test_a_cell_means_a_value_of_its_type(kind: str, cell: str, value: object) -> None:
    assert cells.read(kind, cell) == value


@pytest.mark.parametrize(
    ("kind", "cell"),
    [
        ("number", "1e5"),
        ("number", "1,000"),
        ("number", "NaN"),
        ("number", "1234567890123456"),
        ("number", "٣"),
        ("boolean", "maybe"),
        ("date", "2026-02-29"),
        ("date", "20260228"),
        ("date", "0001-01-01T00:00:00+14:00"),
        ("text", "a\0b"),
        ("text", "x" * 10_001),
    ],
)
def test_a_cell_that_does_not_fit_its_type_is_refused(kind: str, cell: str) -> None:
    with pytest.raises(ValueError, match=r"^(is|has|contains) "):
        cells.read(kind, cell)


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        (["1", "", "-2.5"], "number"),
        (["1", "01"], "text"),
        (["+49"], "text"),
        (["12345678901234567"], "text"),
        (["true", "False"], "boolean"),
        (["1", "0"], "number"),
        (["yes", "no"], "text"),
        (["2026-01-01", "2026-01-01T10:00Z"], "date"),
        (["2026-01-01", "soon"], "text"),
        (["", ""], "text"),
        ([], "text"),
    ],
)
def test_a_new_attribute_s_type_is_the_narrowest_that_all_cells_fit(column: list[str], kind: str) -> None:
    assert cells.suggest(column) == kind


@pytest.mark.parametrize(
    "cell", ["=1+1", " =1", "\t=1", "\r=1", "\n=1", "+cmd|' /C calc'!A0", "-A1", "@SUM(1)", "＝1+1", "\t"]
)
def test_a_cell_that_a_spreadsheet_would_reckon_with_is_neutralised(cell: str) -> None:
    assert safe_cell(cell) == f"'{cell}"


@pytest.mark.parametrize("cell", ["", "Anna", "-12.50", "+49 40 123-456", "(040) 1", "a=b", "1-2", "2026-01-01"])
def test_numbers_telephones_and_words_stay_as_they_are(cell: str) -> None:
    assert safe_cell(cell) == cell
