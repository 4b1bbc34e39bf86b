"""Limits: how fast a pool may send, in all and to each receiver, a second and in any 24 hours.

What a second allows is counted in Redis (app/buckets.py); what a day allows here, so that it outlives Redis. A limit
that is used up has `paced_until`: until then nothing is claimed for it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Connection

from app.db import Statements
from app.errors import Fault, Invalid
from app.models.receiver import OTHERS, RECEIVERS

SQL = Statements("limit")
WHOLE: Final = OTHERS  # the receiver of the limit that holds for all of a pool's emails
ACCOUNT: Final = "@"  # beside receivers whose day is spent: so is that of the account, which other pools share
FASTEST: Final = 1_000_000.0  # a second
GREATEST: Final = 2**31 - 1
MOST_CONNECTIONS: Final = 100
_DOMAIN: Final = re.compile(r"(?=.{1,253}\Z)([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?\.)+[a-z0-9-]{2,63}")


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit of a pool. `receiver`: a key of RECEIVERS, a domain, or "" for all of its emails.

    `per_second` with at most `burst` at once, and `per_day` in any 24 hours; None: no such limit. A receiver's emails
    take at most so many `connections` of an SMTP pool's, each with at most so many `messages`; None: as the pool.
    """

    receiver: str = WHOLE
    per_second: float | None = None
    burst: int = 1
    per_day: int | None = None
    connections: int | None = None
    messages: int | None = None

    @property
    def empty(self) -> bool:
        """Whether it limits nothing."""
        return (self.per_second, self.per_day, self.connections, self.messages) == (None, None, None, None)


@dataclass(frozen=True, slots=True)
class Left:
    """A limit and what is left of its day (None: it has no daily limit); `frees_in` seconds some more is.

    Nothing is left where a receiver's reply has stopped it for a while (app/models/shaping.py).

    `changed_at` tells it from the one that takes its place when somebody changes it. `account_id`: it is that of an
    account which other pools speak with too, and holds for all emails of all of them (app/models/account.py).
    """

    receiver: str
    per_second: float | None
    burst: int
    left: int | None
    frees_in: float
    changed_at: datetime
    account_id: int | None = None


def name_of(receiver: str) -> str:
    """A limit's receiver for people."""
    return "All emails" if receiver == WHOLE else RECEIVERS[receiver].name if receiver in RECEIVERS else receiver


def list_limits(conn: Connection, pool_id: int) -> list[Limit]:
    """A pool's limits, the one for all of its emails first."""
    return [Limit(*row) for row in conn.execute(SQL.list_limits, {"pool_id": pool_id})]


def set_limits(conn: Connection, pool_id: int, limits: Sequence[Limit]) -> None:
    """Give a pool these limits and no others, in effect with the commit; what was sent today still counts.

    One that limits nothing is left out. Raises Invalid naming "<number>.receiver", "<number>.per_second",
    "<number>.burst", "<number>.per_day", "<number>.connections" or "<number>.messages", counted from 0.
    """
    faults = [fault for number, each in enumerate(limits) for fault in _faults(number, each, limits[:number])]
    if faults:
        raise Invalid(faults)
    kept = [each for each in limits if not each.empty]
    conn.execute(SQL.drop_limits, {"pool_id": pool_id})
    conn.execute(SQL.empty_limits, {"pool_id": pool_id})
    values = {
        "pool_id": pool_id,
        "receivers": [each.receiver for each in kept],
        "per_second": [None if each.per_second is None else float(each.per_second) for each in kept],
        "bursts": [each.burst for each in kept],
        "per_day": [each.per_day for each in kept],
        "connections": [each.connections for each in kept],
        "messages": [each.messages for each in kept],
    }
    conn.execute(SQL.add_limits, values)


def find_left(conn: Connection, pool_id: int) -> list[Left]:
    """A pool's limits as they are now, with what is left of their days; that of an account it shares is one of them."""
    return [Left(*row) for row in conn.execute(SQL.find_left, {"pool_id": pool_id})]


def find_slots(conn: Connection, pool_id: int, receiver: str = WHOLE) -> list[tuple[float, int]]:
    """(begin of a step in seconds since 1970, emails in it) that a pool's limit by day counts now, the oldest first."""
    rows = conn.execute(SQL.find_slots, {"pool_id": pool_id, "receiver": receiver})
    return [(row.slot, row.spent) for row in rows]


def spend(conn: Connection, pool_id: int, emails: Mapping[str, int]) -> bool:
    """Count receiver -> emails for the day; False, and nothing is counted, where one of the limits has less left.

    Locks the limits until the transaction ends: of two pages at the end of a day one gets what is left. With ACCOUNT
    among the receivers, what is shared with other pools is locked, too, last, as by who changes limits.
    """
    receivers = sorted(emails.keys() - {ACCOUNT})
    conn.execute(SQL.lock, {"pool_id": pool_id, "receivers": receivers})
    if ACCOUNT in emails:
        conn.execute(SQL.lock_account, {"pool_id": pool_id})
    values = {"pool_id": pool_id, "receivers": receivers, "emails": [emails[each] for each in receivers]}
    return conn.execute(SQL.spend, values).rowcount == len(receivers)


def give_back(conn: Connection, pool_id: int, emails: Mapping[str, int]) -> None:
    """Take back what was spent on emails that never left us."""
    receivers = sorted(emails.keys() - {ACCOUNT})
    conn.execute(SQL.lock, {"pool_id": pool_id, "receivers": receivers})
    values = {"pool_id": pool_id, "receivers": receivers, "emails": [emails[each] for each in receivers]}
    conn.execute(SQL.give_back, values)


def wait(conn: Connection, pool_id: int, waits: Sequence[tuple[Left, float]]) -> None:
    """These limits are used up: claim nothing for them for so many seconds. One that was changed meanwhile is not."""
    for each, seconds in sorted(waits, key=lambda wait: wait[0].receiver):
        values: dict[str, object] = {"seconds": seconds, "changed_at": each.changed_at}
        if each.account_id is not None:
            conn.execute(SQL.wait_for_account, values | {"account_id": each.account_id})
        else:
            conn.execute(SQL.wait, values | {"pool_id": pool_id, "receiver": each.receiver})


def forget_spent(conn: Connection) -> None:
    """Drop what no day counts any more."""
    conn.execute(SQL.forget_spent)


def _faults(number: int, each: Limit, before: Sequence[Limit]) -> list[Fault]:
    faults = []
    if each.receiver != WHOLE and each.receiver not in RECEIVERS and not _DOMAIN.fullmatch(each.receiver):
        faults.append(Fault(f"{number}.receiver", "Choose a receiver, or write a domain: example.com."))
    if each.receiver in {other.receiver for other in before}:
        faults.append(Fault(f"{number}.receiver", f"There is a limit for {name_of(each.receiver)} above already."))
    if each.per_second is not None and not 0.0001 <= each.per_second <= FASTEST:
        faults.append(Fault(f"{number}.per_second", "It must be between 0.0001 and 1,000,000 emails a second."))
    if not 1 <= each.burst <= 1_000_000:
        faults.append(Fault(f"{number}.burst", "It must be between 1 and 1,000,000 emails at once."))
    if each.per_day is not None and not 1 <= each.per_day <= GREATEST:
        faults.append(Fault(f"{number}.per_day", f"It must be between 1 and {GREATEST:,} emails a day."))
    if each.connections is not None and not 1 <= each.connections <= MOST_CONNECTIONS:
        faults.append(Fault(f"{number}.connections", f"It must be between 1 and {MOST_CONNECTIONS} connections."))
    if each.messages is not None and not 1 <= each.messages <= 100_000:
        faults.append(Fault(f"{number}.messages", "It must be between 1 and 100,000 emails."))
    return faults
