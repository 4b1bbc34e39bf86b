"""Events: facts that are appended to the record, and never changed.

They go in by COPY, in whole pages. The line of each is put together here with as little Python as possible: it is the
one row that an email costs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

import orjson
from sqlalchemy import Connection

from app.db import Statements, copy
from app.mail import Kind
from app.models import news

SQL = Statements("event")

TARGET = (
    "event (lead_id, domain_id, kind, weight, detail,"
    " organisation_id, user_id, campaign_id, pool_id, variant, run, link_id, machine, message)"
)
TIMED = TARGET.replace("event (", "event (time, ")
_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


@dataclass(frozen=True, slots=True)
class Source:
    """What all events of a page have in common. `user_id` is the campaign's owner."""

    organisation_id: int
    user_id: int
    campaign_id: int
    pool_id: int
    variant: int = 0
    run: int = 1
    link_id: int = 0
    machine: bool = False
    message: bool = False

    @property
    def tail(self) -> str:
        """The end of every line."""
        return (
            f"\t{self.organisation_id}\t{self.user_id}\t{self.campaign_id}\t{self.pool_id}\t{self.variant}\t{self.run}"
            f"\t{self.link_id}\t{'t' if self.machine else 'f'}\t{'t' if self.message else 'f'}\n"
        )


class Fact(NamedTuple):
    """One event of a page; `detail` is kept as JSON: a reason, a provider's answer."""

    lead_id: int
    domain_id: int
    kind: Kind
    detail: Mapping[str, object] | None = None
    weight: int = 1


class Told(NamedTuple):
    """An event that happened at a time of its own, as a provider told it."""

    time: datetime
    source: Source
    fact: Fact


def append(conn: Connection, source: Source, facts: Iterable[Fact]) -> None:
    """Append events, timed with the transaction's now()."""
    tail, ends = source.tail, dict[tuple[Kind, int], str]()
    lines = []
    for lead_id, domain_id, kind, detail, weight in facts:
        if detail is not None:
            end = f"{kind.value}\t{weight}\t{_detail(detail)}{tail}"
        elif (end := ends.get((kind, weight), "")) == "":  # the same for nearly every lead of a page
            end = ends[kind, weight] = f"{kind.value}\t{weight}\t\\N{tail}"
        lines.append(f"{lead_id}\t{domain_id}\t{end}")
    if lines:
        copy(conn, TARGET, ["".join(lines)])
        news.keep(conn, source.organisation_id, lines)


def append_told(conn: Connection, told: Sequence[Told]) -> None:
    """Append events of any campaigns, timed with their own times; in time's order they cost the roll-up least."""
    sources = {id(each.source): each.source for each in told}
    tails = {key: source.tail for key, source in sources.items()}
    times = {time: str(time) for time in {each.time for each in told}}  # many are of the same second
    kinds = {kind: kind.value for kind in Kind}
    lines = [
        f"{times[time]}\t{lead_id}\t{domain_id}\t{kinds[kind]}\t{weight}\t{_detail(detail)}{tails[id(source)]}"
        for time, source, (lead_id, domain_id, kind, detail, weight) in told
    ]
    if lines:
        copy(conn, TIMED, ["".join(lines)])
        _keep_news(conn, told, lines)


def summarise_sent(conn: Connection) -> int:
    """Summarise the newest blocks of the record, so that lookups of sent emails skip them; how many groups of blocks.

    Raises what the driver raises where somebody else tends to the same chunk: try again later.
    """
    conn.execute(SQL.wait_little)
    return int(conn.execute(SQL.summarise_sent).scalar_one())


def _keep_news(conn: Connection, told: Sequence[Told], lines: Sequence[str]) -> None:
    """Keep the lines for those who listen, by organisation; where nobody does, they are not looked at."""
    listening = news.listening(conn)
    heard: defaultdict[int, list[str]] = defaultdict(list)
    if listening:
        for (_, source, _), line in zip(told, lines, strict=True):
            heard[source.organisation_id].append(line)
    for organisation_id, own in heard.items():
        news.keep(conn, organisation_id, own, timed=True)


def _detail(detail: Mapping[str, object] | None) -> str:
    return "\\N" if detail is None else orjson.dumps(detail).decode().translate(_ESCAPES)
