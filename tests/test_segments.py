"""Segments as rows: saved only when right, listed, kept while campaigns need them; counted within a time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import OperationalError

from app.db import Database
from app.errors import Conflict, Invalid, NotFound
from app.models import segment
from app.models.field import load_fields

OURS, THEIRS = 1, 2
EVERYONE: dict[str, Any] = {"combinator": "and", "rules": []}
PROS = {"combinator": "and", "rules": [{"field": "attributes.plan", "operator": "=", "value": "pro"}]}


@pytest.fixture
def db(database_url: str) -> Iterator[Database]:
    database = Database(database_url, size=3)
    with database.begin() as conn:
        conn.execute(text("INSERT INTO organisation (name) VALUES ('ours'), ('theirs')"))
        conn.execute(text("INSERT INTO domain (name) VALUES ('example.com')"))
        conn.execute(text("INSERT INTO attribute (organisation_id, name, type) VALUES (1, 'plan', 'text')"))
        conn.execute(text("INSERT INTO attribute (organisation_id, name, type) VALUES (2, 'first_name', 'text')"))
    yield database
    database.close()


def add_leads(conn: Connection, organisation_id: int, leads: int) -> None:
    conn.execute(
        text(
            "INSERT INTO lead (organisation_id, domain_id, email, attributes)"
            " SELECT :organisation_id, 1, i || '@example.com', jsonb_build_object('plan', 'pro')"
            " FROM generate_series(1, :leads) AS i"
        ),
        {"organisation_id": organisation_id, "leads": leads},
    )


def clause(conn: Connection, condition: object) -> Any:
    fields = load_fields(conn, OURS)
    return segment.compile(segment.parse(condition, fields), fields)


def faults(error: pytest.ExceptionInfo[Invalid]) -> list[str]:
    return [fault.pointer for fault in error.value.faults]


def test_a_segment_is_saved_as_it_was_written(db: Database) -> None:
    with db.session() as session:
        made = segment.create(session, OURS, " Pros ", '{"combinator": "or", "id": "r", "rules": []}')
    assert (made.name, made.condition) == ("Pros", {"combinator": "or", "id": "r", "rules": []})
    with db.session() as session:
        changed = segment.update(session, OURS, made.id, "Pros", PROS)
    assert changed.updated_at > made.updated_at
    with db.begin() as conn:
        assert segment.load_condition(conn, OURS, made.id) == PROS
        with pytest.raises(NotFound):
            segment.load_condition(conn, THEIRS, made.id)


def test_a_wrong_segment_changes_nothing_and_every_fault_is_named(db: Database) -> None:
    wrong = {"combinator": "and", "rules": [{"field": "attributes.first_name", "operator": "null"}]}
    with db.session() as session, pytest.raises(Invalid) as error:
        segment.create(session, OURS, " ", wrong)
    assert faults(error) == ["name", "/rules/0/field"]  # another organisation's attribute is none of ours
    with db.session() as session, pytest.raises(Invalid) as error:
        segment.create(session, OURS, "x\0", "{")
    assert faults(error) == ["name", "condition"]
    with db.session() as session:
        made = segment.create(session, OURS, "All", EVERYONE)
    with db.session() as session, pytest.raises(Invalid):
        segment.update(session, OURS, made.id, "All of them", wrong)
    with db.begin() as conn:
        assert [listed.name for listed in segment.find_page(conn, OURS)] == ["All"]


def test_two_segments_never_share_a_name(db: Database) -> None:
    with db.session() as session:
        segment.create(session, OURS, "All", EVERYONE)
        segment.create(session, THEIRS, "All", EVERYONE)
        with pytest.raises(Invalid) as error:
            segment.create(session, OURS, "ALL", EVERYONE)
        assert faults(error) == ["name"]
        other = segment.create(session, OURS, "Others", EVERYONE)
        with pytest.raises(Invalid):
            segment.update(session, OURS, other.id, "all", EVERYONE)
        assert segment.get(session, OURS, other.id).name == "Others"  # and the transaction goes on


def test_what_is_not_yours_is_not_found(db: Database) -> None:
    with db.session() as session:
        made = segment.create(session, OURS, "All", EVERYONE)
        for act in (
            lambda: segment.get(session, THEIRS, made.id),
            lambda: segment.update(session, THEIRS, made.id, "Mine", EVERYONE),
            lambda: segment.delete(session, THEIRS, made.id),
            lambda: segment.get(session, OURS, made.id + 1),
        ):
            with pytest.raises(NotFound):
                act()


def test_lists_are_paged_by_name_and_count_campaigns(db: Database) -> None:
    with db.session() as session:
        made = [segment.create(session, OURS, name, EVERYONE) for name in ("b", "A", "c", "D")]
        segment.create(session, THEIRS, "B", EVERYONE)
        add_campaign(session.connection(), made[0].id)
    with db.begin() as conn:
        first = segment.find_page(conn, OURS, limit=3)
        assert [(listed.name, listed.campaigns) for listed in first] == [("A", 0), ("b", 1), ("c", 0)]
        assert [listed.name for listed in segment.find_page(conn, OURS, after=first[-1].name)] == ["D"]


def test_a_segment_stays_while_a_campaign_refers_to_it(db: Database) -> None:
    with db.session() as session:
        made = segment.create(session, OURS, "All", EVERYONE)
        add_campaign(session.connection(), made.id)
    with db.session() as session:
        with pytest.raises(Conflict, match="Spring"):
            segment.delete(session, OURS, made.id)
        session.execute(text("DELETE FROM campaign"))
        segment.delete(session, OURS, made.id)
    with db.begin() as conn:
        assert segment.find_page(conn, OURS) == []


def add_campaign(conn: Connection, segment_id: int) -> None:
    conn.execute(
        text("INSERT INTO \"user\" (organisation_id, email, name, password_hash) VALUES (1, 'a@example.com', 'A', '')")
    )
    conn.execute(
        text(
            "INSERT INTO campaign (organisation_id, owner_id, segment_id, name)"
            " SELECT 1, id, :segment_id, 'Spring' FROM \"user\""
        ),
        {"segment_id": segment_id},
    )


def test_counts_and_samples_see_one_organisation_only(db: Database) -> None:
    with db.begin() as conn:
        add_leads(conn, THEIRS, 50)
        add_leads(conn, OURS, 30)
        for condition in (EVERYONE, PROS):
            assert segment.count(conn, OURS, clause(conn, condition)) == 30
            assert segment.count(conn, THEIRS, clause(conn, condition)) == 50
        sample = segment.sample(conn, OURS, clause(conn, PROS))
        assert len(sample) == 10
        assert all(lead.id > 50 and lead.attributes == {"plan": "pro"} for lead in sample)


def test_a_count_that_takes_too_long_is_given_up_and_the_transaction_goes_on(db: Database) -> None:
    slow = text("pg_sleep(0.05) IS NOT NULL")
    with db.begin() as conn:
        add_leads(conn, OURS, 100)
        conn.execute(text("SET LOCAL statement_timeout = '1s'"))
        began = time.monotonic()
        assert segment.count_within(conn, OURS, slow, 0.2) is None  # type: ignore[arg-type]
        assert segment.sample_within(conn, OURS, slow, 0.1) is None  # type: ignore[arg-type]
        assert segment.preview(conn, OURS, slow, 0.1) == segment.Preview(None, None)  # type: ignore[arg-type]
        assert time.monotonic() - began < 2
        assert segment.count_within(conn, OURS, clause(conn, PROS), 5) == 100
        assert len(segment.sample_within(conn, OURS, clause(conn, PROS), 5, limit=3) or ()) == 3
        assert conn.execute(text("SHOW statement_timeout")).scalar_one() == "1s"
        assert (
            conn.execute(text("SHOW jit")).scalar_one()
            == conn.execute(text("SELECT reset_val FROM pg_settings WHERE name = 'jit'")).scalar_one()
        )
        with pytest.raises(OperationalError):
            segment.count(conn, OURS, text("pg_sleep(0.05) IS NOT NULL"))  # type: ignore[arg-type]
    with db.begin() as conn:
        assert segment.preview(conn, OURS, clause(conn, EVERYONE), 5) == segment.Preview(0, [])
        assert segment.count(conn, OURS, clause(conn, EVERYONE)) == 0  # that limit was the transaction's own
