"""Who a campaign would go to, and who is left out for which reason: one pass over the leads that a segment matches.

Two leads never share an address (a unique index says so), so nobody is left out as a duplicate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ClauseElement,
    ColumnElement,
    Connection,
    Executable,
    Select,
    Text,
    and_,
    case,
    column,
    func,
    literal,
    null,
    or_,
    select,
    table,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import aliased
from sqlalchemy.sql.compiler import SQLCompiler

from app.db import Statements
from app.models.lead import Lead
from app.models.suppression import EVERYBODY, Suppression
from app.models.template import LeadView

SQL = Statements("audience")
NOBODY = -1  # no sender's number

# The temporary table of a launch: every matched lead, why it is left out (NULL: it is not), and its time zone (NULL
# where it has none, and where that is not asked for).
CHOSEN = table("chosen", column("id"), column("reason"), column("time_zone"))


class _CreateChosen(Executable, ClauseElement):
    """CREATE TABLE … AS with bound parameters (SQLAlchemy's own renders them into the text)."""

    inherit_cache = False

    def __init__(self, matched: Select[Any]) -> None:
        self.matched = matched


@compiles(_CreateChosen)
def _create_chosen(element: _CreateChosen, compiler: SQLCompiler, **kw: Any) -> str:
    return f"CREATE TEMPORARY TABLE chosen ON COMMIT DROP AS {compiler.process(element.matched, **kw)}"


@dataclass(frozen=True, slots=True)
class Audience:
    """Leads included, and leads excluded by reason."""

    included: int
    excluded: dict[str, int]


def count(conn: Connection, organisation_id: int, sender_id: int | None, clause: ColumnElement[bool]) -> Audience:
    """The audience as it would be now; `sender_id`: None while none is chosen."""
    matched = _matched(organisation_id, sender_id, clause).subquery()
    return _read(conn, select(matched.c.reason, func.count().label("leads")).group_by(matched.c.reason))


def first(
    conn: Connection, organisation_id: int, sender_id: int | None, clause: ColumnElement[bool]
) -> LeadView | None:
    """Some lead that would get it, whichever the database comes upon first; None for an empty audience."""
    more = (Lead.email, Lead.time_zone, Lead.attributes)
    matched = _matched(organisation_id, sender_id, clause, *more).subquery()
    row = conn.execute(select(matched).where(matched.c.reason.is_(None)).limit(1)).first()
    return None if row is None else LeadView(row.id, row.email, row.time_zone, row.attributes)


def choose(
    conn: Connection,
    organisation_id: int,
    sender_id: int | None,
    clause: ColumnElement[bool],
    *,
    zones: bool = False,
) -> Audience:
    """Put the audience into the temporary table `chosen`, which lives until the transaction ends.

    With their time zones where `zones` says so.
    A table and not one big INSERT … SELECT, because PostgreSQL plans no parallel scan under a statement that writes.
    """
    conn.execute(SQL.room_to_sort)
    zone = Lead.time_zone if zones else null().cast(Text)
    conn.execute(_CreateChosen(_matched(organisation_id, sender_id, clause, zone.label("time_zone"))))
    return _read_chosen(conn)


def leave_out_sent(conn: Connection, origin_id: int) -> Audience:
    """Leave out of the audience that was chosen last who got another campaign made of the same one; what is left."""
    conn.execute(SQL.leave_out_sent, {"origin_id": origin_id})
    return _read_chosen(conn)


def _read_chosen(conn: Connection) -> Audience:
    return _read(conn, select(CHOSEN.c.reason, func.count().label("leads")).group_by(CHOSEN.c.reason))


def count_zones(conn: Connection) -> dict[str | None, int]:
    """Leads of the audience that was chosen last, by time zone as they have it."""
    counted = select(CHOSEN.c.time_zone, func.count().label("leads")).where(CHOSEN.c.reason.is_(None))
    return {row.time_zone: row.leads for row in conn.execute(counted.group_by(CHOSEN.c.time_zone))}


def _matched(organisation_id: int, sender_id: int | None, clause: ColumnElement[bool], *more: Any) -> Select[Any]:
    """Two joins by the whole key, since one that took either sender's row would give a lead twice who has both."""
    by_all, by_sender = aliased(Suppression), aliased(Suppression)
    reason = case(
        (Lead.status != "active", Lead.status),
        (or_(by_all.email.is_not(None), by_sender.email.is_not(None)), "suppressed"),
    )
    return (
        select(Lead.id, reason.label("reason"), *more)
        .outerjoin(by_all, _suppresses(by_all, EVERYBODY))
        .outerjoin(by_sender, _suppresses(by_sender, sender_id or NOBODY))
        .where(Lead.organisation_id == organisation_id, clause)
    )


def _suppresses(row: type[Suppression], sender_id: int) -> ColumnElement[bool]:
    return and_(
        row.organisation_id == Lead.organisation_id, row.email == Lead.email, row.sender_id == literal(sender_id)
    )


def _read(conn: Connection, statement: Select[Any]) -> Audience:
    leads = {row.reason: row.leads for row in conn.execute(statement)}
    return Audience(leads.pop(None, 0), leads)
