"""News: events that an organisation's endpoints are still to be told of, kept by the transaction that appends them.

A row holds the very lines that went into the record by COPY, so that exactly what is committed is told. Who listens is
known in each process from a look every two seconds: where nobody does, an append pays for a dictionary's look-up.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary

import orjson
from sqlalchemy import Connection, Engine

from app.db import Statements, array

SQL = Statements("news")

FRESH: Final = 2.0  # seconds that a process goes by what it knows of who listens
KEPT: Final = 7  # days that what waits for an endpoint is kept
_LISTENING: Final[WeakKeyDictionary[Engine, _Listening]] = WeakKeyDictionary()


class _Listening(NamedTuple):
    """Who listened at a time (monotonic): organisation -> the kinds that any endpoint of it wants."""

    at: float
    kinds: Mapping[int, frozenset[str]]


@dataclass(frozen=True, slots=True)
class Row:
    """Lines of events, taken from those that waited; `time` is theirs where they begin with none."""

    id: int
    time: datetime
    timed: bool
    lines: str


class Item(NamedTuple):
    """One event as it stands in the record. `detail` holds reason, bounce and url, those that it has."""

    id: str
    at: datetime
    kind: str
    weight: int
    lead_id: int
    domain_id: int
    user_id: int
    campaign_id: int
    pool_id: int
    variant: int
    run: int
    link_id: int
    machine: bool
    detail: Mapping[str, Any]


def keep(conn: Connection, organisation_id: int, lines: Sequence[str], *, timed: bool = False) -> None:
    """Keep those of these lines of COPY that some endpoint wants to hear of, in the transaction that appends them.

    `timed`: each begins with its event's time. An endpoint that was just added is heard of within two seconds.
    """
    kinds = listening(conn).get(organisation_id)
    if kinds is None:
        return
    place = 3 if timed else 2
    wanted = [line for line in lines if line.split("\t", place + 1)[place] in kinds]
    if wanted:
        conn.execute(SQL.keep, {"organisation_id": organisation_id, "timed": timed, "lines": "".join(wanted)})


def listening(conn: Connection) -> Mapping[int, frozenset[str]]:
    """Organisation -> the kinds of events that its endpoints want, as of two seconds ago at most."""
    known = _LISTENING.get(conn.engine)
    if known is None or time.monotonic() - known.at > FRESH:
        rows = conn.execute(SQL.listening, {"days": KEPT})
        known = _Listening(time.monotonic(), {row.organisation_id: frozenset(row.kinds) for row in rows})
        _LISTENING[conn.engine] = known
    return known.kinds


def forget(engine: Engine) -> None:
    """Look anew who listens at this process's next append: an endpoint was changed here."""
    _LISTENING.pop(engine, None)


def find_organisations(conn: Connection) -> list[int]:
    """Those of whom news waits."""
    return list(conn.execute(SQL.find_organisations).scalars())


def take(conn: Connection, organisation_id: int, rows: int, size: int) -> list[Row]:
    """The oldest news of an organisation, which then waits no more: up to so many rows, and about `size` bytes."""
    values = {"organisation_id": organisation_id, "rows": rows, "bytes": size}
    return [Row(**row._mapping) for row in conn.execute(SQL.take, values)]


def read(row: Row) -> Iterator[Item]:
    """The events of a row. Each has an id of its own, the same for every endpoint."""
    for place, line in enumerate(row.lines.split("\n")[:-1]):  # a reason may hold what else splits lines
        at = row.time
        if row.timed:
            told, _, line = line.partition("\t")
            at = datetime.fromisoformat(told)
        lead, domain, kind, weight, detail, _, user, campaign, pool, variant, run, link, machine, _ = line.split("\t")
        yield Item(
            id=f"{row.id}.{place}",
            at=at.astimezone(UTC),
            kind=kind,
            weight=int(weight),
            lead_id=int(lead),
            domain_id=int(domain),
            user_id=int(user),
            campaign_id=int(campaign),
            pool_id=int(pool),
            variant=int(variant),
            run=int(run),
            link_id=int(link),
            machine=machine == "t",
            detail={} if detail == "\\N" else orjson.loads(detail.replace("\\\\", "\\")),
        )


def drop_old(conn: Connection) -> int:
    """Drop what no worker made posts of for as long as posts would have been kept; how many rows."""
    return conn.execute(SQL.drop_old, {"days": KEPT}).rowcount


def find_domains(conn: Connection, ids: Iterable[int]) -> dict[int, str]:
    """Number -> name."""
    return {row.id: row.name for row in conn.execute(SQL.find_domains, {"ids": array(set(ids))})}


def find_links(conn: Connection, ids: Iterable[int]) -> dict[int, str]:
    """Number -> URL."""
    return {row.id: row.url for row in conn.execute(SQL.find_links, {"ids": array(set(ids))})}
