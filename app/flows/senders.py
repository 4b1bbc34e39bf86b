"""Senders: the identities that email comes from, each through a pool, and through a second one when that is broken."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.orm import Session

from app.addresses import read_address
from app.errors import Conflict, Fault, Invalid, NotFound
from app.models import account, pool, sender
from app.models.pool import Pool
from app.models.sender import Sender
from app.runtime import Runtime


@dataclass(frozen=True, slots=True)
class Identity:
    """What a sender is made of, as it was typed. `second_pool_id`: None where there is none to fall back on.

    `transactional_pool_id`: None where messages go the way of campaigns.
    """

    pool_id: int | None
    name: str
    address: str
    reply_to: str | None = None
    second_pool_id: int | None = None
    transactional_pool_id: int | None = None


def add_sender(
    runtime: Runtime, organisation_id: int, pool_id: int | None, name: str, address: str, reply_to: str | None = None
) -> int:
    """Add a From identity that has one pool; its id. Raises as `add`."""
    return add(runtime, organisation_id, Identity(pool_id, name, address, reply_to))


def add(runtime: Runtime, organisation_id: int, identity: Identity) -> int:
    """Add a From identity; its id. Raises Invalid naming "name", "address", "reply_to" or a pool."""
    return _write(runtime, organisation_id, Sender(organisation_id=organisation_id), identity)


def edit(runtime: Runtime, organisation_id: int, sender_id: int, identity: Identity) -> None:
    """Change a sender; campaigns that are being sent use it from their next page on. Raises NotFound, or as `add`."""
    _write(runtime, organisation_id, find(runtime, organisation_id, sender_id), identity)


def find(runtime: Runtime, organisation_id: int, sender_id: int) -> Sender:
    """One sender. Raises NotFound."""
    with runtime.db.session() as session:
        found = session.get(Sender, sender_id)
    if found is None or found.organisation_id != organisation_id:
        raise NotFound("There is no such sender.")
    return found


def delete(runtime: Runtime, organisation_id: int, sender_id: int) -> None:
    """Take away a sender that no campaign is from. Raises NotFound, Conflict."""
    find(runtime, organisation_id, sender_id)
    with runtime.db.begin() as conn:
        if not sender.delete(conn, organisation_id, sender_id):
            raise Conflict("Campaigns are from this sender: choose another one in those that are drafts.")


def _write(runtime: Runtime, organisation_id: int, found: Sender, identity: Identity) -> int:
    """The id of the sender that was written."""
    faults: list[Fault] = []
    name = identity.name.strip()
    if not name or any(ord(character) < 32 for character in name):
        faults.append(Fault("name", "Say in one line who the email is from."))
    address = _read("address", identity.address, faults)
    reply_to = _read("reply_to", identity.reply_to, faults) if identity.reply_to else None
    with runtime.db.session() as session:
        account.hold(session.connection(), organisation_id)

        def ours(pool_id: int | None) -> bool:
            through = session.get(Pool, pool_id) if pool_id is not None else None
            return through is not None and through.organisation_id == organisation_id

        if not ours(identity.pool_id):
            faults.append(Fault("pool", "Choose a pool to send through."))
        if identity.second_pool_id is not None and not ours(identity.second_pool_id):
            faults.append(Fault("second_pool", "Choose one of your pools, or none."))
        elif identity.second_pool_id is not None and identity.second_pool_id == identity.pool_id:
            faults.append(Fault("second_pool", "Choose another pool than the first one, or none."))
        if identity.transactional_pool_id is not None and not ours(identity.transactional_pool_id):
            faults.append(Fault("transactional_pool", "Choose one of your pools, or none."))
        faults.extend([] if faults else _purpose_faults(session, identity, found.id))
        if faults or address is None or identity.pool_id is None:
            raise Invalid(faults)
        namesake = sender.find_named(session, organisation_id, address, name)
        if namesake is not None and namesake.id != found.id:
            raise Invalid.one("address", "There is a sender with this name and address already.")
        found = session.merge(found)
        found.pool_id, found.second_pool_id = identity.pool_id, identity.second_pool_id
        found.transactional_pool_id = identity.transactional_pool_id
        found.name, found.address, found.reply_to = name, address, reply_to
        session.flush()
        return found.id


def _purpose_faults(session: Session, identity: Identity, sender_id: int | None) -> list[Fault]:
    """Pools that are there for something else, or for somebody else."""
    faults = []
    chosen = (
        ("pool", identity.pool_id, "transactional", "This pool is for messages alone: choose another for campaigns."),
        ("second_pool", identity.second_pool_id, "transactional", "This pool is for messages alone."),
        ("transactional_pool", identity.transactional_pool_id, "marketing", "This pool is for campaigns alone."),
    )
    for field, pool_id, unfit, said in chosen:
        through = session.get(Pool, pool_id) if pool_id is not None else None
        if through is None:
            continue
        if through.purpose == unfit:
            faults.append(Fault(field, said))
        if through.purpose == "dedicated" and pool.find_users(session.connection(), through.id, sender_id).senders:
            faults.append(Fault(field, "This pool is dedicated to another sender."))
    return faults + _message_faults(session, identity, sender_id)


def _message_faults(session: Session, identity: Identity, sender_id: int | None) -> list[Fault]:
    """Who sends messages has a pool that may carry them; what an older version let be is asked once it is changed."""
    known, first = session.get(Sender, sender_id or 0), session.get(Pool, identity.pool_id)
    if known is None or identity.transactional_pool_id is not None or first is None or first.purpose != "marketing":
        return []
    if (known.pool_id, known.transactional_pool_id) == (identity.pool_id, identity.transactional_pool_id):
        return []
    if not sender.sends_messages(session.connection(), known.id):
        return []
    said = f"This sender sends messages, and the pool {first.name} is for campaigns alone: choose one for messages."
    return [Fault("transactional_pool", said)]


def _read(pointer: str, address: str, faults: list[Fault]) -> str | None:
    try:
        return read_address(address)[0]
    except Invalid as error:
        faults.extend(Fault(pointer, fault.message) for fault in error.faults)
        return None
