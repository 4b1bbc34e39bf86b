"""Compiled segment conditions: they choose exactly the leads that a plain reading of the condition chooses."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, func, select, text

from app.db import Database
from app.models import segment
from app.models.field import ATTRIBUTE, COLUMNS, Field
from app.models.lead import Domain, Lead
from app.models.operators import OPERATORS, suiting
from tests.segment_truth import Person, matches

TYPES = {
    "attributes.city": "text",
    "attributes.nick": "text",
    "attributes.age": "number",
    "attributes.vip": "boolean",
    "attributes.born": "date",
    "attributes.seen": "date",
}
FIELDS = {f.name: f for f in COLUMNS} | {name: Field(name, kind, name[11:].title()) for name, kind in TYPES.items()}
INJECTIONS = (
    "' OR 1=1 --",
    "'; DROP TABLE lead; --",
    "%' OR '1'='1",
    "\\' OR 1=1 --",
    "$$; SELECT pg_sleep(9); $$",
    "%(param_1)s",
    ":organisation_id",
    "x'::regclass::text--",
    '") = 1 OR ("',
    "1) UNION SELECT 1 --",
    "{{7*7}}",
    "$1",
)

# A small stock, so that rules and leads meet; LIKE's own characters, letters with odd cases, and free text besides.
# Free text stays below U+A000: Unicode goes on giving letters cases, and servers follow at their own pace.
STOCK = (
    "a",
    "A",
    "ab",
    "B",
    "ä",
    "Ä",
    "ß",
    "ẞ",
    "İ",
    "i",
    "Σ",
    "ς",
    "50%",
    "5_",
    "a_b",
    "a%b",
    "\\",
    "a\\",
    "%",
    "_",
    "日本",
    "😀",
    " x ",
)
free_text = st.text(st.characters(max_codepoint=0x9FFF, exclude_characters="\0", exclude_categories=["Cs"]), max_size=6)
words = st.sampled_from(STOCK + INJECTIONS) | free_text
numbers = st.integers(-3, 3) | st.sampled_from([0.1, 0.5, -2.5, 1e15, 10**15, 1e-9]) | st.floats(-100, 100)
DAYS = ("2024-02-28", "2024-02-29", "2024-03-01", "0001-01-01", "9999-12-31")
MOMENTS = (
    "2024-02-29T00:00:00Z",
    "2024-02-29T23:59:59.999999Z",
    "2024-02-29 12:30",
    "2024-03-01T01:00:00+02:00",
    "2024-02-28T20:00-0500",
    "2024-02-29T00:00:00+00:00",
)
RELATIVE = (
    "today",
    "yesterday",
    "tomorrow",
    "now",
    "1 day ago",
    "30 days ago",
    "in 2 weeks",
    "1 month ago",
    "in 1 year",
)
RELATIVE += ("2 hours ago", "in 90 minutes", "100 years ago", "11 months ago", "in 13 months")
BROKEN = (
    "2023-02-30",
    "today",
    "infinity",
    "20240229",
    "2024-2-9",
    "2024-02-29 noon",
    "2024-02-29T25:00",
    "-",
    "2024-02-29T01:00+99",
)
NOT_TEXT = (None, [], ["a"], {"a": 1}, {"city": "a"})


def near_now(now: datetime) -> Sequence[str]:
    """Stored dates on both sides of what relative values name."""
    days = [now + timedelta(days=d) for d in (-366, -365, -31, -30, -29, -1, 0, 1, 14)]
    moments = [now + timedelta(minutes=m) for m in (-121, -119, 0, 89, 91)]
    return [f"{day:%Y-%m-%d}" for day in days] + [moment.isoformat() for moment in moments]


NOW = datetime.now(UTC)
dates = st.sampled_from((*DAYS, *MOMENTS, *near_now(NOW)))
STORED = {"text": words, "number": numbers, "boolean": st.booleans(), "date": dates | st.sampled_from(BROKEN)}
anything = st.one_of(words, numbers, st.booleans(), st.sampled_from(NOT_TEXT), st.sampled_from(BROKEN))
WANTED = {
    "text": words.filter(str.strip),
    "number": numbers,
    "boolean": st.booleans(),
    "date": st.sampled_from((*DAYS, *MOMENTS, *RELATIVE)),
    "timestamp": st.sampled_from((*DAYS, *MOMENTS, *RELATIVE)),
}
LOCAL = ("a", "b", "anna", "50%off", "x_y", "o'neil", "a+b")
DOMAINS = ("example.com", "a.example.com", "example.org")


@st.composite
def people(draw: st.DrawFn) -> Person:
    attributes = {}
    for name, kind in TYPES.items():
        if draw(st.integers(0, 3)):
            attributes[name.removeprefix(ATTRIBUTE)] = draw(STORED[kind] if draw(st.integers(0, 5)) else anything)
    moment = datetime.fromisoformat(draw(st.sampled_from([*MOMENTS[:2], "2024-02-28T23:59:59Z", *near_now(NOW)])))
    return Person(
        email=f"{draw(st.sampled_from(LOCAL))}@{draw(st.sampled_from(DOMAINS))}",
        status=draw(st.sampled_from(["active", "unsubscribed", "invalid"])),
        time_zone=draw(st.sampled_from([None, "Europe/Berlin", "UTC"])),
        created_at=moment if moment.tzinfo else moment.replace(tzinfo=UTC),
        attributes=attributes,
    )


@st.composite
def rules(draw: st.DrawFn) -> dict[str, Any]:
    field = FIELDS[draw(st.sampled_from(sorted(FIELDS)))]
    operator = draw(st.sampled_from(suiting(field)))
    rule: dict[str, Any] = {"field": field.name, "operator": operator}
    wanted = wanted_by(field)
    match OPERATORS[operator].takes:
        case "one":
            rule["value"] = draw(wanted)
        case "pair":
            rule["value"] = [draw(wanted), draw(wanted)]
        case "list":
            rule["value"] = draw(st.lists(wanted, min_size=1, max_size=12))
    return rule


def wanted_by(field: Field) -> st.SearchStrategy[Any]:
    if field.choices:
        return st.sampled_from(field.choices)
    known = {
        "email": [f"{local}@{DOMAINS[0]}" for local in LOCAL] + ["A@EXAMPLE.COM ", "%", "@", "_"],
        "domain": [*DOMAINS, "EXAMPLE", ".com", "%"],
        "time_zone": ["Europe/Berlin", "utc", "/"],
    }
    return st.sampled_from(known[field.name]) if field.name in known else WANTED[field.type]


def groups(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    shape = {"combinator": st.sampled_from(["and", "or"]), "rules": st.lists(inner, min_size=1, max_size=4)}
    return st.fixed_dictionaries(shape, optional={"not": st.booleans()})


crowds = st.lists(people(), min_size=1, max_size=8, unique_by=lambda person: person.email)
conditions = groups(rules() | groups(rules() | groups(rules())))


@pytest.fixture
def db(database_url: str) -> Iterator[Database]:
    database = Database(database_url, size=2)
    with database.begin() as conn:
        conn.execute(text("INSERT INTO organisation (name) VALUES ('ours')"))
        for name in DOMAINS:
            conn.execute(text("INSERT INTO domain (name) VALUES (:name)"), {"name": name})
        for name, kind in TYPES.items():
            key = {"name": name.removeprefix(ATTRIBUTE), "type": kind}
            conn.execute(text("INSERT INTO attribute (organisation_id, name, type) VALUES (1, :name, :type)"), key)
    yield database
    database.close()


def add(conn: Connection, persons: Sequence[Person]) -> None:
    """Insert straight into the table, past every check of ours; ids are the positions from 1 on."""
    rows = [
        {
            "id": index,
            "email": person.email,
            "domain": person.email.rpartition("@")[2],
            "status": person.status,
            "time_zone": person.time_zone,
            "attributes": json.dumps(person.attributes),
            "created_at": person.created_at,
        }
        for index, person in enumerate(persons, 1)
    ]
    conn.execute(
        text(
            "INSERT INTO lead (id, organisation_id, domain_id, email, status, time_zone, attributes, created_at)"
            " OVERRIDING SYSTEM VALUE SELECT :id, 1, d.id, :email, :status, :time_zone, CAST(:attributes AS jsonb),"
            " :created_at FROM domain AS d WHERE d.name = :domain"
        ),
        rows,
    )


def chosen(conn: Connection, condition: Mapping[str, Any]) -> dict[int, bool | None]:
    clause = segment.compile(segment.parse(condition, FIELDS), FIELDS)
    return {row.id: row.holds for row in conn.execute(select(Lead.id, clause.label("holds")))}


def one(field: str, operator: str, value: Any = None) -> dict[str, Any]:
    return {"combinator": "and", "rules": [{"field": field, "operator": operator, "value": value}]}


def parsed(condition: Mapping[str, Any]) -> segment.Condition | None:
    try:
        return segment.parse(condition, FIELDS)
    except segment.Invalid as error:  # drawn bounds may stand the wrong way round, and nothing else may be wrong
        assert all("above the second" in fault.message for fault in error.faults), error
        return None


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(condition=conditions, persons=crowds)
def test_compiled_conditions_choose_what_a_plain_reading_chooses(
    db: Database, condition: dict[str, Any], persons: list[Person]
) -> None:
    compiled = parsed(condition)
    if compiled is None:
        return
    with db.engine.connect() as conn:
        add(conn, persons)
        now = conn.execute(select(func.now())).scalar_one().astimezone(UTC)
        expected = {i: matches(condition, TYPES, person, now) for i, person in enumerate(persons, 1)}
        assert chosen(conn, condition) == expected
        clause = segment.compile(compiled, FIELDS)
        assert segment.count(conn, 1, clause) == sum(expected.values())
        conn.rollback()


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(rule=rules(), persons=crowds)
def test_a_negative_operator_chooses_exactly_those_whom_its_positive_does_not(
    db: Database, rule: dict[str, Any], persons: list[Person]
) -> None:
    denied = OPERATORS[rule["operator"]].denies
    if denied is None or parsed({"combinator": "and", "rules": [rule]}) is None:
        return
    with db.engine.connect() as conn:
        add(conn, persons)
        negative = chosen(conn, {"combinator": "and", "rules": [rule]})
        positive = chosen(conn, {"combinator": "and", "rules": [rule | {"operator": denied}]})
        conn.rollback()
    assert {i: not holds for i, holds in positive.items()} == negative


@pytest.mark.parametrize("payload", INJECTIONS)
def test_what_looks_like_sql_is_only_a_text(db: Database, payload: str) -> None:
    born = datetime(2024, 1, 1, tzinfo=UTC)
    persons = [
        Person("a@example.com", "active", None, born, {"city": payload}),
        Person("b@example.com", "active", None, born, {"city": "elsewhere"}),
    ]
    with db.engine.connect() as conn:
        add(conn, persons)
        for operator in suiting(FIELDS["attributes.city"]):
            takes = OPERATORS[operator].takes
            value = {"one": payload, "list": [payload], "pair": [payload, payload], "nothing": None}[takes]
            condition = one("attributes.city", operator, value)
            rendered = str(segment.compile(segment.parse(condition, FIELDS), FIELDS))
            assert payload not in rendered
            assert chosen(conn, condition) == {
                i: matches(condition, TYPES, person, born) for i, person in enumerate(persons, 1)
            }
        conn.rollback()


def test_an_attribute_name_is_bound_and_never_part_of_the_statement(db: Database) -> None:
    """The registry refuses such names; should one get in all the same, it is still only a key that no lead has."""
    for payload in INJECTIONS:
        name = ATTRIBUTE + payload
        for kind in ("text", "number", "boolean", "date"):
            fields = {name: Field(name, kind, "Odd")}
            condition = {"combinator": "and", "rules": [{"field": name, "operator": "notNull"}]}
            clause = segment.compile(segment.parse(condition, fields), fields)
            assert payload not in str(clause)
            with db.begin() as conn:
                assert segment.count(conn, 1, clause) == 0


def test_days_do_not_depend_on_the_session_s_time_zone(db: Database) -> None:
    persons = [
        Person(
            "a@example.com", "active", None, datetime(2024, 2, 29, 23, 59, tzinfo=UTC), {"seen": "2024-02-29T23:59"}
        ),
        Person("b@example.com", "active", None, datetime(2024, 3, 1, tzinfo=UTC), {"seen": "2024-03-01"}),
    ]
    with db.engine.connect() as conn:
        add(conn, persons)
        for zone in ("Pacific/Kiritimati", "Etc/GMT+12"):  # at any hour one of them has another day than UTC
            conn.execute(text(f"SET LOCAL TIME ZONE '{zone}'"))
            assert chosen(conn, one("created_at", "=", "2024-02-29")) == {1: True, 2: False}
            assert chosen(conn, one("attributes.seen", "<", "2024-03-01T00:00:00Z")) == {1: True, 2: False}
        conn.rollback()


def test_today_is_the_day_in_utc_whatever_the_session_s_time_zone(db: Database) -> None:
    with db.engine.connect() as conn:
        for zone in ("Pacific/Kiritimati", "Etc/GMT+12"):  # at any hour one of them has another day than UTC
            conn.execute(text(f"SET LOCAL TIME ZONE '{zone}'"))
            now = conn.execute(select(func.now())).scalar_one().astimezone(UTC)
            add(conn, [Person("a@example.com", "active", None, now, {"seen": f"{now:%Y-%m-%d}"})])
            for field in ("created_at", "attributes.seen"):
                assert chosen(conn, one(field, "=", "today")) == {1: True}
            conn.rollback()


def test_distances_are_counted_from_when_the_condition_is_evaluated(db: Database) -> None:
    """The same compiled clause, asked on two days of the server's, gives two answers."""
    clause = segment.compile(segment.parse(one("created_at", ">=", "1 hour ago"), FIELDS), FIELDS)
    with db.begin() as conn:
        add(conn, [Person("a@example.com", "active", None, datetime.now(UTC), {})])
        assert segment.count(conn, 1, clause) == 1
    with db.begin() as conn:
        conn.execute(text("UPDATE lead SET created_at = created_at - interval '61 minutes'"))
    with db.begin() as conn:
        assert segment.count(conn, 1, clause) == 0


def test_a_clause_on_the_domain_holds_in_a_query_that_joins_domains_itself(db: Database) -> None:
    condition = one("domain", "=", "example.org")
    clause = segment.compile(segment.parse(condition, FIELDS), FIELDS)
    with db.begin() as conn:
        born = datetime(2024, 1, 1, tzinfo=UTC)
        add(conn, [Person(f"a@{name}", "active", None, born, {}) for name in DOMAINS])
        joined = select(Lead.email).join(Domain, Domain.id == Lead.domain_id).where(clause)
        assert conn.execute(joined).scalars().all() == ["a@example.org"]


def disagreements(db: Database, persons: Sequence[Person], rules: Sequence[dict[str, Any]]) -> list[object]:
    """Rules, with the ids of the leads, on which SQL and plain reading differ."""
    wrong: list[object] = []
    with db.engine.connect() as conn:
        add(conn, persons)
        now = conn.execute(select(func.now())).scalar_one().astimezone(UTC)
        for rule in rules:
            found = chosen(conn, {"combinator": "and", "rules": [rule]})
            wrong += [(rule, i) for i, p in enumerate(persons, 1) if found[i] is not matches(rule, TYPES, p, now)]
        conn.rollback()
    return wrong


def test_every_kind_of_date_is_compared_rightly_with_every_kind_of_value(db: Database) -> None:
    stored = [*DAYS, *MOMENTS, *near_now(datetime.now(UTC)), *BROKEN]
    moments = [datetime.fromisoformat(m) for m in (*MOMENTS, *near_now(NOW), "2024-03-01", "9999-12-31")]
    times = [m if m.tzinfo else m.replace(tzinfo=UTC) for m in moments]
    persons = [
        Person(f"{i}@example.com", "active", None, times[i % len(times)], {"seen": value})
        for i, value in enumerate(stored)
    ]
    rules = [
        {"field": field, "operator": operator, "value": value}
        for field in ("attributes.seen", "created_at")
        for operator in ("=", "!=", "<", "<=", ">", ">=")
        for value in (*DAYS, *MOMENTS, *RELATIVE)
    ]
    assert disagreements(db, persons, rules) == []


def test_characters_that_like_would_interpret_mean_themselves(db: Database) -> None:
    words = ("%", "_", "\\", "50%", "a_b", "a\\b", "a\\%", "\\_", "", "x", "50x", "axb", "ab", "A_B", "100% of a_b")
    born = datetime(2024, 1, 1, tzinfo=UTC)
    persons = [Person(f"{i}@example.com", "active", None, born, {"city": word}) for i, word in enumerate(words)]
    persons += [Person(f"{name}@example.com", "active", None, born, {}) for name in ("50%off", "50xoff", "x_y", "xzy")]
    rules = [
        {"field": field, "operator": operator, "value": word}
        for field in ("attributes.city", "email")
        for operator in ("contains", "beginsWith", "endsWith", "doesNotContain", "doesNotBeginWith", "doesNotEndWith")
        for word in filter(None, words)
    ]
    assert disagreements(db, persons, rules) == []


def test_what_is_stored_in_another_type_is_not_known_and_never_raises(db: Database) -> None:
    stored = ("x", "5", "", 5, 0.5, True, False, None, [], [5], {}, {"a": 5}, "2024-02-29", "true", "null")
    born = datetime(2024, 1, 1, tzinfo=UTC)
    names = [name.removeprefix(ATTRIBUTE) for name in TYPES]
    persons = [Person(f"{i}@example.com", "active", None, born, dict.fromkeys(names, v)) for i, v in enumerate(stored)]
    wanted = {"text": "5", "number": 5, "boolean": True, "date": "2024-02-29"}
    rules = []
    for name, kind in TYPES.items():
        for operator in suiting(FIELDS[name]):
            shape = {"one": wanted[kind], "list": [wanted[kind]], "pair": [wanted[kind]] * 2, "nothing": None}
            rules.append({"field": name, "operator": operator, "value": shape[OPERATORS[operator].takes]})
    assert disagreements(db, persons, rules) == []
