"""Leads: the people who may be mailed, the attributes they have, and the domains that receive for them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Connection, FetchedValue
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.db import Base, Statements, copy
from app.errors import NotFound

SQL = Statements("lead")
TYPES = ("text", "number", "boolean", "date")
STATUSES = ("active", "unsubscribed", "invalid")
LAST_CHARACTER = "\U0010ffff"  # sorts after everything that begins with the same prefix (collation "C")


class Domain(Base):
    """A receiving domain by number: an event carries four bytes instead of a name."""

    __tablename__ = "domain"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Lead(Base):
    """A person who may be mailed. `email` is ASCII, trimmed, in small letters; an attribute not known has no key."""

    __tablename__ = "lead"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    organisation_id: Mapped[int]
    domain_id: Mapped[int]
    email: Mapped[str]
    status: Mapped[str] = mapped_column(default="active")
    time_zone: Mapped[str | None]
    attributes: Mapped[dict[str, Any]] = mapped_column(JSONB, default=dict)
    created_at: Mapped[datetime] = mapped_column(server_default=FetchedValue())
    updated_at: Mapped[datetime] = mapped_column(server_default=FetchedValue())
    address_since: Mapped[datetime | None]  # where a person has mended the address


class Attribute(Base):
    """What an organisation's leads may have, and what its values are: one of TYPES."""

    __tablename__ = "attribute"

    organisation_id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    type: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=FetchedValue())


@dataclass(frozen=True, slots=True)
class Row:
    """A lead as lists show it."""

    id: int
    email: str
    status: str
    time_zone: str | None
    attributes: Mapping[str, object]
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Merged:
    """What became of a batch of incoming leads: the ids of those added, changed, and found to be the same already."""

    added: Sequence[int]
    changed: Sequence[int]
    same: Sequence[int]


NOTHING = Merged((), (), ())


def find_page(conn: Connection, organisation_id: int, search: str, after_id: int | None, limit: int) -> list[Row]:
    """Leads by address, at most `limit`, from behind the lead `after_id` on.

    `search` finds the addresses that begin with it, "" all of them. Both run along one index, whatever the number of
    leads; what is inside or at the end of an address is a segment's question.
    """
    prefix = search.strip().lower().replace("\0", "")
    low = prefix if after_id is None else max(prefix, _email_of(conn, organisation_id, after_id) or "")
    values = {"organisation_id": organisation_id, "low": low, "high": prefix + LAST_CHARACTER}
    rows = conn.execute(SQL.find_page, values | {"after_id": after_id or 0, "limit": limit})
    return [Row(**row._mapping) for row in rows]


def _email_of(conn: Connection, organisation_id: int, lead_id: int) -> str | None:
    email: str | None = conn.execute(
        SQL.find_email, {"organisation_id": organisation_id, "lead_id": lead_id}
    ).scalar_one_or_none()
    return email


def get(session: Session, organisation_id: int, lead_id: int) -> Lead:
    """One lead; raises NotFound when there is none such, or it is another organisation's."""
    found = session.get(Lead, lead_id)
    if found is None or found.organisation_id != organisation_id:
        raise NotFound("There is no such lead.")
    return found


def find_id(conn: Connection, organisation_id: int, email: str) -> int | None:
    """The lead with this address (in the form that `app.addresses` gives), if there is one."""
    found: int | None = conn.execute(
        SQL.find_id, {"organisation_id": organisation_id, "email": email}
    ).scalar_one_or_none()
    return found


def find_status(conn: Connection, organisation_id: int, email: str) -> str | None:
    """The status of the lead with this address, if there is one."""
    status: str | None = conn.execute(
        SQL.find_status, {"organisation_id": organisation_id, "email": email}
    ).scalar_one_or_none()
    return status


def find_neighbours(conn: Connection, organisation_id: int, lead_id: int) -> tuple[int | None, int | None]:
    """The leads before and behind this one by address; None at either end."""
    row = conn.execute(SQL.find_neighbours, {"organisation_id": organisation_id, "lead_id": lead_id}).first()
    return (None, None) if row is None else (row.previous, row.next)


def find_ids(conn: Connection, organisation_id: int, emails: Sequence[str]) -> Sequence[int]:
    """The leads with these addresses, as far as there are any."""
    values = {"organisation_id": organisation_id, "emails": list(emails)}
    return conn.execute(SQL.find_ids, values).scalars().all()


def find_ids_of(conn: Connection, organisation_id: int, emails: Sequence[str]) -> dict[str, int]:
    """Address → its lead, as far as there are any."""
    values = {"organisation_id": organisation_id, "emails": list(emails)}
    return {row.email: row.id for row in conn.execute(SQL.find_ids_of, values)}


def erase(conn: Connection, organisation_id: int, lead_id: int) -> None:
    """Forgets a lead; raises NotFound. If its address is suppressed it stays so, or it might be mailed again."""
    if conn.execute(SQL.erase, {"organisation_id": organisation_id, "lead_id": lead_id}).rowcount == 0:
        raise NotFound("There is no such lead.")


def load_attributes(conn: Connection, organisation_id: int) -> dict[str, str]:
    """The registry: name → type, by name."""
    return {row.name: row.type for row in conn.execute(SQL.load_attributes, {"organisation_id": organisation_id})}


def register_attributes(conn: Connection, organisation_id: int, types: Mapping[str, str]) -> dict[str, str]:
    """Enters attributes that are new, and gives the whole registry: whoever came first has decided a type."""
    names = sorted(types)
    values = {"organisation_id": organisation_id, "names": names, "types": [types[name] for name in names]}
    conn.execute(SQL.register_attributes, values)
    return load_attributes(conn, organisation_id)


def number_domains(conn: Connection, names: Iterable[str]) -> dict[str, int]:
    """Domain → its number, for every one of `names`; new ones are entered."""
    wanted = sorted(set(names))  # in one order, or two imports would wait for each other
    conn.execute(SQL.insert_domains, {"names": wanted})
    return {row.name: row.id for row in conn.execute(SQL.find_domains, {"names": wanted})}


def find_domain(conn: Connection, name: str) -> int | None:
    """The number of a domain that leads have, or None."""
    row = conn.execute(SQL.find_domains, {"names": [name.strip().lower()]}).first()
    return None if row is None else int(row.id)


def load_time_zones(conn: Connection) -> dict[str, str]:
    """The time zones that the database can reckon in: name in small letters → name. Takes about 0.1 s."""
    return {row.name.lower(): row.name for row in conn.execute(SQL.load_time_zones)}


def stage(conn: Connection, lines: Iterable[str]) -> None:
    """Puts a batch of leads, each address once, where its transaction alone sees it: `merge` follows.

    `lines` are COPY's: email, domain_id, time_zone, attributes (JSON).
    """
    conn.execute(SQL.create_incoming)
    copy(conn, "incoming (email, domain_id, time_zone, attributes)", lines)


def merge(conn: Connection, organisation_id: int) -> Merged:
    """Merges what this transaction has staged.

    New addresses are added; of known ones the attributes and the time zone that are given replace what was there, and
    where nothing differs nothing is written. The status of a lead that exists is never touched.
    Raises IntegrityError when somebody else adds one of the addresses at the same moment: roll back and do it again.
    """
    conn.execute(SQL.plan_by_index)
    row = conn.execute(SQL.merge_incoming, {"organisation_id": organisation_id}).one()
    return Merged(row.added or (), row.changed or (), row.same or ())
