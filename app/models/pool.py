"""Pools: provider accounts, and their circuit breakers: while a provider is down its ranges wait, and now and then one
batch tries it.

closed: `active`. open: `paused` until `resume_at`. half-open: that time has come, and whoever sets `probe_until` sends
one batch. Paused without a time: a person must act.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, func, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.db import Base, Statements
from app.errors import NotFound
from app.models import alert

SQL = Statements("pool")

FIRST: Final = 30.0  # seconds until a provider that was found down is tried again; twice as long each time
LONGEST: Final = 900.0
# Tries in a row that find a provider down before somebody is told: with the waits above, after about four minutes.
TELL_AFTER: Final = 4


# What a pool may carry, for people. A dedicated one is one sender's alone.
PURPOSES: Final[Mapping[str, str]] = {
    "any": "Anything",
    "marketing": "Campaigns alone",
    "transactional": "Messages alone",
    "dedicated": "One sender alone",
}
# Of these, what the pool for quarantine may be, where all of a sender's mail goes, and what the better one may be.
QUARANTINES: Final = frozenset({"any"})
BETTERS: Final = frozenset({"any", "marketing"})


class Pool(Base):
    """A provider account. `url` is encrypted (app.signing.Vault); `shown_url` has no credentials. `account` is the same
    where two speak with the same one (app/models/account.py).
    """

    __tablename__ = "pool"

    id: Mapped[int] = mapped_column(primary_key=True)
    organisation_id: Mapped[int]
    name: Mapped[str]
    provider: Mapped[str]
    url: Mapped[bytes]
    shown_url: Mapped[str]
    batch: Mapped[int] = mapped_column(default=50)
    state: Mapped[str] = mapped_column(default="active")
    reason: Mapped[str | None]
    resume_at: Mapped[datetime | None]
    checked_at: Mapped[datetime | None]
    check_said: Mapped[str | None]
    check_good: Mapped[bool | None]
    purpose: Mapped[str] = mapped_column(default="any")
    account: Mapped[bytes | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


def get(session: Session, organisation_id: int, pool_id: int) -> Pool:
    """The pool; raises NotFound where it does not exist or is another organisation's."""
    pool = session.get(Pool, pool_id)
    if pool is None or pool.organisation_id != organisation_id:
        raise NotFound("There is no such pool.")
    return pool


def find_named(session: Session, organisation_id: int, name: str) -> Pool | None:
    """The pool of that name, whatever its case."""
    return session.scalars(
        select(Pool).where(Pool.organisation_id == organisation_id, func.lower(Pool.name) == name.lower())
    ).first()


def list_all(session: Session, organisation_id: int) -> list[Pool]:
    """Every pool of an organisation."""
    return list(session.scalars(select(Pool).where(Pool.organisation_id == organisation_id)))


@dataclass(frozen=True, slots=True)
class Users:
    """How many senders' campaigns go through a pool (first, second, or moved there), how many senders' messages do, and
    all senders that name it. `quarantines`, `betters`: the standing of senders names it for that.
    """

    campaigns: int
    messages: int
    senders: int
    quarantines: bool = False
    betters: bool = False


def find_users(conn: Connection, pool_id: int, but: int | None = None) -> Users:
    """Who uses a pool, one sender left out."""
    return Users(*conn.execute(SQL.find_users, {"pool_id": pool_id, "but": but or 0}).one())


def find_purposes(conn: Connection, organisation_id: int) -> dict[int, str]:
    """Every pool of an organisation -> what it is there for."""
    rows = conn.execute(SQL.find_purposes, {"organisation_id": organisation_id})
    return {row.id: row.purpose for row in rows}


def misuse(users: Users, purpose: str) -> str:
    """Why a pool with these users cannot be there for something, in a sentence; "" where it can."""
    if users.quarantines and purpose not in QUARANTINES:
        return "It is the pool for quarantine, which carries anything: choose another one under Standing first."
    if users.betters and purpose not in BETTERS:
        return "It is the better pool, for campaigns of many senders: choose another one under Standing first."
    count, what = {
        "transactional": (users.campaigns, "campaigns"),
        "marketing": (users.messages, "messages"),
        "dedicated": (users.senders if users.senders > 1 else 0, ""),
    }.get(purpose, (0, ""))
    if not count:
        return ""
    if count == 1:
        return f"One sender sends its {what} through it: choose another pool for it first."
    said = f"send their {what} through it" if what else "use it"
    return f"{count:,} senders {said}: choose another pool for them first."


def note_check(conn: Connection, pool_id: int, url: bytes, good: bool | None, said: str) -> None:
    """Keep what the provider said of the account that is behind this URL; another one, by now, was not asked."""
    conn.execute(SQL.note_check, {"pool_id": pool_id, "url": url, "good": good, "said": said})


def delete(conn: Connection, organisation_id: int, pool_id: int) -> bool:
    """Take a pool away; False where a sender or a hand-off refers to it."""
    values = {"organisation_id": organisation_id, "pool_id": pool_id}
    if conn.execute(SQL.delete, values).first() is None:
        return False
    conn.execute(SQL.delete_posts, values)
    return True


def break_off(conn: Connection, pool_id: int, reason: str, seconds: float | None, *, probe: bool) -> None:
    """The provider is down: claim nothing for the pool, for `seconds` where it named a time. A `probe` may say so."""
    values = {"pool_id": pool_id, "reason": reason, "seconds": seconds, "probe": probe}
    row = conn.execute(SQL.break_off, values | {"first": FIRST, "longest": LONGEST}).first()
    if row is None and seconds is not None:
        conn.execute(SQL.wait_longer, {"pool_id": pool_id, "seconds": seconds})
    if row is not None and row.failures >= TELL_AFTER:
        alert.raise_alert(conn, alert.Kind.POOL_DOWN, pool_id, f"The provider is down: {reason}")


def pause(conn: Connection, pool_id: int, reason: str) -> None:
    """Our account is refused: claim nothing for the pool until a person acts."""
    conn.execute(SQL.pause, {"pool_id": pool_id, "reason": reason})
    alert.raise_alert(conn, alert.Kind.POOL_REFUSED, pool_id, reason)


def begin_probe(conn: Connection, pool_id: int, lease: float) -> bool:
    """Whether this worker may try a paused pool whose time has come; nobody else does for `lease` seconds then."""
    return conn.execute(SQL.begin_probe, {"pool_id": pool_id, "lease": lease}).first() is not None


def end_probe(conn: Connection, pool_id: int) -> None:
    """A probe came to nothing, neither good nor bad: another may try."""
    conn.execute(SQL.end_probe, {"pool_id": pool_id})


def revive(conn: Connection, pool_id: int) -> None:
    """A probe was answered: everybody may send again."""
    if conn.execute(SQL.revive, {"pool_id": pool_id}).first() is not None:
        alert.clear(conn, alert.Kind.POOL_DOWN, pool_id)


def resume(conn: Connection, organisation_id: int, pool_id: int) -> None:
    """A person says that the pool may send again. Raises NotFound."""
    if conn.execute(SQL.resume, {"organisation_id": organisation_id, "pool_id": pool_id}).first() is None:
        raise NotFound("There is no such pool.")
    for kind in (alert.Kind.POOL_DOWN, alert.Kind.POOL_REFUSED):
        alert.clear(conn, kind, pool_id)
