"""Segments: named conditions over leads, checked when saved, counted and sampled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeVar, cast

from psycopg.errors import QueryCanceled, UniqueViolation
from sqlalchemy import ColumnElement, Connection, func, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.db import Base, Statements
from app.errors import Conflict, Fault, Invalid, NotFound
from app.models.clause import compile as compile
from app.models.condition import Condition as Condition
from app.models.condition import parse as parse
from app.models.condition import parse_json as parse_json
from app.models.condition_schema import json_schema as json_schema
from app.models.field import Fields, load_fields
from app.models.lead import Lead, Row
from app.models.sentence import describe as describe

SQL = Statements("segment")
NAME: Final = 200  # characters
Found = TypeVar("Found")


class Segment(Base):
    """One segment. `condition` is the JSON as it was written: parse it before use, for attributes come and go."""

    __tablename__ = "segment"
    __mapper_args__ = {"eager_defaults": True}  # or updated_at could not be read once the session is closed

    id: Mapped[int] = mapped_column(primary_key=True)
    organisation_id: Mapped[int]
    name: Mapped[str]
    condition: Mapped[dict[str, Any]] = mapped_column(JSONB)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now(), onupdate=func.now())


@dataclass(frozen=True, slots=True)
class Preview:
    """What a condition means now. None where there was not enough time: say that it is still being counted."""

    leads: int | None
    sample: list[Row] | None


@dataclass(frozen=True, slots=True)
class Listed:
    """A segment in a list; `campaigns` counts those that use it."""

    id: int
    name: str
    condition: Mapping[str, object]
    updated_at: datetime
    campaigns: int


def create(session: Session, organisation_id: int, name: str, condition: object) -> Segment:
    """A new segment. `condition` is JSON text, or decoded. Raises Invalid: "name", or the condition's JSON pointers."""
    checked = _checked(session.connection(), organisation_id, name, condition)
    segment = Segment(organisation_id=organisation_id)
    _save(session, segment, *checked)
    return segment


def update(session: Session, organisation_id: int, segment_id: int, name: str, condition: object) -> Segment:
    """Change a segment; campaigns that were launched keep the condition they were launched with. Raises as `create`."""
    segment = get(session, organisation_id, segment_id)
    _save(session, segment, *_checked(session.connection(), organisation_id, name, condition))
    return segment


def get(session: Session, organisation_id: int, segment_id: int) -> Segment:
    """The segment. Raises NotFound."""
    segment = session.get(Segment, segment_id)
    if segment is None or segment.organisation_id != organisation_id:
        raise NotFound("There is no such segment.")
    return segment


def exists(session: Session, organisation_id: int, segment_id: int) -> bool:
    """Whether there is such a segment."""
    segment = session.get(Segment, segment_id)
    return segment is not None and segment.organisation_id == organisation_id


def find_page(conn: Connection, organisation_id: int, *, after: str = "", limit: int = 50) -> list[Listed]:
    """Segments by name, from the first name behind `after` on."""
    found = conn.execute(SQL.find_page, {"organisation_id": organisation_id, "after": after, "limit": limit})
    return [Listed(row.id, row.name, row.condition, row.updated_at, row.campaigns) for row in found]


def delete(session: Session, organisation_id: int, segment_id: int) -> None:
    """Remove a segment. Raises Conflict while a campaign, in whatever state, refers to it."""
    segment = get(session, organisation_id, segment_id)
    try:
        with session.begin_nested():
            session.delete(segment)
    except IntegrityError:  # the foreign key sees campaigns that are being saved at this moment too
        key = {"organisation_id": organisation_id, "segment_id": segment_id}
        names = ", ".join(f"“{row.name}”" for row in session.execute(SQL.find_campaigns, key))
        raise Conflict(f"Campaigns use this segment: {names or 'one of somebody else'}.") from None


def load_condition(conn: Connection, organisation_id: int, segment_id: int) -> dict[str, Any]:
    """The JSON of a segment's condition. Raises NotFound."""
    row = conn.execute(SQL.find_condition, {"organisation_id": organisation_id, "segment_id": segment_id}).first()
    if row is None:
        raise NotFound("There is no such segment.")
    return cast(dict[str, Any], row.condition)


def summary(condition: object, fields: Fields) -> str:
    """A stored condition in a sentence, or, where it does not suit the fields any more, what is wrong with it."""
    try:
        return describe(parse(condition, fields), fields)
    except Invalid as error:
        return f"Needs mending: {error.faults[0].message}"


def count(conn: Connection, organisation_id: int, clause: ColumnElement[bool]) -> int:
    """How many leads match, of every status: a launch leaves out some of them, and says how many."""
    return conn.execute(select(func.count()).select_from(Lead).where(_theirs(organisation_id), clause)).scalar_one()


def count_within(conn: Connection, organisation_id: int, clause: ColumnElement[bool], seconds: float) -> int | None:
    """`count`, or None where it takes longer than `seconds`."""
    return _within(conn, seconds, lambda: count(conn, organisation_id, clause))


def sample(conn: Connection, organisation_id: int, clause: ColumnElement[bool], limit: int = 10) -> list[Row]:
    """Some leads that match, in the order of their ids: whichever the database comes upon first."""
    columns = (Lead.id, Lead.email, Lead.status, Lead.time_zone, Lead.attributes, Lead.created_at)
    # No ORDER BY: with one, the planner walks the index on ids and may pass millions that do not match.
    found = conn.execute(select(*columns).where(_theirs(organisation_id), clause).limit(limit))
    return sorted((Row(**row._mapping) for row in found), key=lambda lead: lead.id)


def sample_within(
    conn: Connection, organisation_id: int, clause: ColumnElement[bool], seconds: float, limit: int = 10
) -> list[Row] | None:
    """`sample`, or None where it takes longer than `seconds`."""
    return _within(conn, seconds, lambda: sample(conn, organisation_id, clause, limit))


def preview(conn: Connection, organisation_id: int, clause: ColumnElement[bool], seconds: float) -> Preview:
    """The count and ten leads, each within `seconds`. Nobody is looked for where the count has found nobody."""
    leads = count_within(conn, organisation_id, clause, seconds)
    return Preview(leads, [] if leads == 0 else sample_within(conn, organisation_id, clause, seconds))


def _theirs(organisation_id: int) -> ColumnElement[bool]:
    return Lead.organisation_id == organisation_id


def _within(conn: Connection, seconds: float, look: Callable[[], Found]) -> Found | None:
    """What `look` finds, or None where time ran out. The transaction and its own time limit stay as they were."""
    savepoint = conn.begin_nested()
    try:
        conn.execute(SQL.limit_time, {"milliseconds": str(max(1, round(seconds * 1_000)))})
        return look()
    except OperationalError as error:
        if isinstance(error.orig, QueryCanceled):
            return None
        raise
    finally:
        savepoint.rollback()  # takes the limit back too; `look` has only read


def _checked(conn: Connection, organisation_id: int, name: str, condition: object) -> tuple[str, dict[str, Any]]:
    name, faults = name.strip(), []
    if not name or len(name) > NAME or not name.isprintable():
        faults.append(Fault("name", f"Give the segment a name of at most {NAME} characters."))
    try:
        fields = load_fields(conn, organisation_id)
        if isinstance(condition, str | bytes):
            condition, _ = parse_json(condition, fields)
        else:
            parse(condition, fields)
    except Invalid as error:
        faults += [Fault(fault.pointer or "condition", fault.message) for fault in error.faults]
    if faults:
        raise Invalid(faults)
    return name, cast(dict[str, Any], condition)


def _save(session: Session, segment: Segment, name: str, condition: dict[str, Any]) -> None:
    try:
        with session.begin_nested():
            segment.name, segment.condition = name, condition
            session.add(segment)
    except IntegrityError as error:
        if isinstance(error.orig, UniqueViolation):
            raise Invalid.one("name", "There is a segment of this name already.") from None
        raise
