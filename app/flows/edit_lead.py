"""One lead by hand: added, changed, erased."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from sqlalchemy import Connection, func
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app import cells
from app.addresses import read_address
from app.errors import Fault, Invalid
from app.models import bounce, lead, suppression
from app.models.lead import Lead
from app.runtime import Runtime

TAKEN = "There is a lead with this address already."


@dataclass(frozen=True, slots=True)
class Entry:
    """A lead as a form has it: texts. An attribute that is "" is one that the lead does not have."""

    email: str
    time_zone: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)


def create(runtime: Runtime, organisation_id: int, entry: Entry) -> int:
    """Adds a lead and returns its id; raises Invalid naming "email", "time_zone" or "attributes/<name>".

    An address that is suppressed makes a lead who is not mailed.
    """
    with _taken_meanwhile(), runtime.db.session() as session:
        conn = session.connection()
        made = Lead(organisation_id=organisation_id)
        _write(session, made, organisation_id, entry)
        found = suppression.find(conn, organisation_id, made.email)
        made.status = suppression.STATUS.get(found.reason, "active") if found else "active"
        session.add(made)
        session.flush()
        return made.id


def update(runtime: Runtime, organisation_id: int, lead_id: int, entry: Entry) -> None:
    """Puts `entry` in the place of what was known of a lead; raises NotFound, and Invalid as `create` does.

    Attributes that `entry` does not name are left as they are.
    """
    with _taken_meanwhile(), runtime.db.session() as session:
        known = lead.get(session, organisation_id, lead_id)
        before = known.email
        _write(session, known, organisation_id, entry)
        if known.email != before:  # what came back from the old address says nothing of the new one
            bounce.forget(session.connection(), [lead_id])
            known.address_since = func.now()
        known.updated_at = func.now()


def erase(runtime: Runtime, organisation_id: int, lead_id: int) -> None:
    """Forgets a lead; raises NotFound. A suppression of the address stays."""
    with runtime.db.begin() as conn:
        lead.erase(conn, organisation_id, lead_id)


@contextmanager
def _taken_meanwhile() -> Iterator[None]:
    try:
        yield
    except IntegrityError as error:
        raise Invalid.one("email", TAKEN) from error


def _write(session: Session, known: Lead, organisation_id: int, entry: Entry) -> None:
    """All of `entry` into the lead, or Invalid with every fault."""
    conn = session.connection()
    faults: list[Fault] = []
    email, domain = _read_email(conn, organisation_id, known.id, entry.email, faults)
    zone = _read_zone(conn, entry.time_zone, faults)
    attributes = _read_attributes(conn, organisation_id, entry.attributes, faults)
    if faults:
        raise Invalid(faults)
    known.email, known.time_zone = email, zone
    known.domain_id = lead.number_domains(conn, [domain])[domain]
    known.attributes = {
        name: value for name, value in {**(known.attributes or {}), **attributes}.items() if value is not None
    }


def _read_email(
    conn: Connection, organisation_id: int, own_id: int | None, raw: str, faults: list[Fault]
) -> tuple[str, str]:
    try:
        email, domain = read_address(raw)
    except Invalid as error:
        faults.extend(error.faults)
        return "", ""
    if lead.find_id(conn, organisation_id, email) not in (None, own_id):
        faults.append(Fault("email", TAKEN))
    return email, domain


def _read_zone(conn: Connection, raw: str, faults: list[Fault]) -> str | None:
    wanted = raw.strip().lower()
    zone = lead.load_time_zones(conn).get(wanted) if wanted else None
    if wanted and zone is None:
        faults.append(Fault("time_zone", f"There is no time zone {cells.shorten(raw.strip())} (as in Europe/Berlin)."))
    return zone


def _read_attributes(
    conn: Connection, organisation_id: int, given: Mapping[str, str], faults: list[Fault]
) -> dict[str, cells.Value | None]:
    types = lead.load_attributes(conn, organisation_id)
    values: dict[str, cells.Value | None] = {}
    for name, raw in given.items():
        try:
            values[name] = cells.read(types[name], raw.strip()) if raw.strip() else None
        except KeyError:
            faults.append(Fault(f"attributes/{name}", "There is no such attribute."))
        except ValueError as error:
            faults.append(Fault(f"attributes/{name}", f"The value {error}."))
    return values
