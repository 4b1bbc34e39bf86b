"""Shaping: "this reply from this receiver: that rate for that long". Rules, and what is in effect because of them.

Patterns are RE2's: their time grows with the reply's length and with nothing else, whatever somebody writes.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import re2
from sqlalchemy import Connection

from app.db import Statements, array
from app.errors import Fault, Invalid, NotFound
from app.models.limit import FASTEST
from app.models.receiver import RECEIVERS

SQL = Statements("shaping")
ANY: Final = "*"  # whichever receiver
LONGEST: Final = 300  # characters of a pattern
SHORTEST: Final = 3
MINUTES: Final = (1, 7 * 24 * 60)
MOST_UNKNOWN: Final = 30  # receivers that nobody knows, in effect for one pool at a time
KNOWN: Final = sorted(RECEIVERS)
_DOMAIN: Final = re.compile(r"(?=.{1,253}\Z)([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?\.)+[a-z0-9-]{2,63}")


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. `key`: of a shipped one its name, of an own one its number. `per_second`: None: nothing goes at all.

    `changed`: it is a shipped one that the organisation has changed. `why` and `source` are the shipped one's.
    """

    key: str
    receiver: str
    pattern: str
    per_second: float | None
    seconds: int
    enabled: bool = True
    shipped: bool = False
    changed: bool = False
    why: str = ""
    source: str = ""

    def fits(self, receiver: str, domain: str) -> bool:
        """Whether it is about this receiver, or this domain of it."""
        return self.receiver in (ANY, receiver, domain)

    def matches(self, reply: str) -> bool:
        return bool(compiled(self.pattern).search(reply))


@dataclass(frozen=True, slots=True)
class Line:
    """Something that a reply has brought about, as a pool's page shows it; `ended_at` is None while it is in effect."""

    id: int
    receiver: str
    rule: str
    pattern: str
    reply: str
    per_second: float | None
    began_at: datetime
    seen_at: datetime
    until: datetime
    replies: int
    ended_at: datetime | None
    lifted_by: str | None


def _read() -> dict[str, Rule]:
    known = tomllib.loads(Path(__file__).with_name("shaping.toml").read_text())
    return {
        key: Rule(
            key,
            each["receiver"],
            each["pattern"],
            each.get("rate"),
            each["minutes"] * 60,
            shipped=True,
            why=each["why"],
            source=each["source"],
        )
        for key, each in known.items()
    }


SHIPPED: Final[Mapping[str, Rule]] = _read()


@lru_cache(maxsize=1000)
def compiled(pattern: str) -> Any:
    """The pattern, whatever the case. Raises re2.error."""
    options = re2.Options()
    options.case_sensitive = False
    options.log_errors = False
    options.max_mem = 1 << 20
    return re2.compile(pattern, options)


def list_rules(conn: Connection, organisation_id: int) -> list[Rule]:
    """An organisation's rules in the order in which they are asked: its own, then the shipped ones as it has them."""
    own: list[Rule] = []
    changed: dict[str, Rule] = {}
    for row in conn.execute(SQL.list_rules, {"organisation_id": organisation_id}):
        values = (row.receiver, row.pattern, row.per_second, row.seconds, row.enabled)
        shipped = SHIPPED.get(row.shipped)
        if row.shipped is None:
            own.append(Rule(str(row.id), *values))
        elif shipped is not None:
            more: dict[str, Any] = {"why": shipped.why, "source": shipped.source}
            changed[row.shipped] = Rule(row.shipped, *values, shipped=True, changed=True, **more)
    return own + [changed.get(key, rule) for key, rule in SHIPPED.items()]


def find_rule(conn: Connection, organisation_id: int, key: str) -> Rule:
    """One of `list_rules`. Raises NotFound."""
    for rule in list_rules(conn, organisation_id):
        if rule.key == key:
            return rule
    raise NotFound("There is no such rule.")


def set_rule(conn: Connection, organisation_id: int, rule: Rule) -> None:
    """Keep a rule: a new one (its key is ""), one of one's own, or a shipped one as the organisation wants it.

    Raises Invalid naming "receiver", "pattern", "per_second" or "minutes"; NotFound.
    """
    faults = _faults(rule)
    if faults:
        raise Invalid(faults)
    shipped = rule.key if rule.key in SHIPPED else None
    values: dict[str, object] = {"organisation_id": organisation_id, "shipped": shipped, "receiver": rule.receiver}
    values |= {"pattern": rule.pattern, "per_second": rule.per_second, "seconds": rule.seconds, "enabled": rule.enabled}
    if rule.key and shipped is None:
        if conn.execute(SQL.change_rule, values | {"id": _number(rule.key)}).first() is None:
            raise NotFound("There is no such rule.")
    else:
        conn.execute(SQL.add_rule, values)


def drop_rule(conn: Connection, organisation_id: int, key: str) -> None:
    """Take away an own rule; of a shipped one what was changed of it. Raises NotFound."""
    shipped = key if key in SHIPPED else None
    values = {"organisation_id": organisation_id, "shipped": shipped, "id": 0 if shipped else _number(key)}
    if conn.execute(SQL.drop_rule, values).first() is None and shipped is None:
        raise NotFound("There is no such rule.")


def find_domains(conn: Connection, ids: Collection[int]) -> dict[int, tuple[str, str | None]]:
    """domain -> its name, and whose servers take its mail, "" where nobody's that we know, None: not asked yet."""
    rows = conn.execute(SQL.find_domains, {"ids": array(sorted(ids))})
    return {row.id: (row.name, row.receiver) for row in rows}


def begin(conn: Connection, pool_id: int, receiver: str, rule: Rule, reply: str, replies: int) -> bool:
    """A reply has brought a rule into effect; or so many more of them keep it so. `apply` makes it act.

    False where it is a receiver that nobody knows, and there are too many of these.
    """
    values: dict[str, object] = {"pool_id": pool_id, "receiver": receiver, "rule": rule.key, "pattern": rule.pattern}
    values |= {"reply": reply, "per_second": rule.per_second, "seconds": rule.seconds, "replies": replies}
    return conn.execute(SQL.begin, values | {"known": KNOWN, "most": MOST_UNKNOWN}).rowcount > 0


def apply(conn: Connection, pool_id: int, receivers: Collection[str]) -> None:
    """Make what is in effect for these receivers act. Locks their limits until the transaction ends, in their order."""
    for receiver in sorted(receivers):
        values = {"pool_id": pool_id, "receiver": receiver}
        conn.execute(SQL.apply, values)
        conn.execute(SQL.relax, values)
        conn.execute(SQL.clear, values)


def end_due(conn: Connection) -> list[tuple[int, str]]:
    """End what has come to its end; (pool, receiver) of each."""
    return [(row.pool_id, row.receiver) for row in conn.execute(SQL.end_due)]


def lift(conn: Connection, organisation_id: int, pool_id: int, shaping_id: int, user_id: int) -> str:
    """A person ends it; its receiver. Raises NotFound where it is over already."""
    values = {"organisation_id": organisation_id, "pool_id": pool_id, "id": shaping_id, "user_id": user_id}
    receiver = conn.execute(SQL.lift, values).scalar()
    if receiver is None:
        raise NotFound("That is over already.")
    return str(receiver)


def find_lines(conn: Connection, pool_id: int, limit: int = 20) -> list[Line]:
    """What is in effect for a pool, then what was, the newest first."""
    return [Line(*row) for row in conn.execute(SQL.find_lines, {"pool_id": pool_id, "limit": limit})]


def forget(conn: Connection) -> None:
    """Drop what was over months ago."""
    conn.execute(SQL.forget)


def _faults(rule: Rule) -> Sequence[Fault]:
    faults = []
    if rule.receiver != ANY and rule.receiver not in RECEIVERS and not _DOMAIN.fullmatch(rule.receiver):
        faults.append(Fault("receiver", "Choose a receiver, write a domain like example.com, or * for any."))
    if not SHORTEST <= len(rule.pattern) <= LONGEST:
        faults.append(Fault("pattern", f"Write {SHORTEST} to {LONGEST} characters of the reply."))
    elif (fault := _pattern_fault(rule.pattern)) is not None:
        faults.append(Fault("pattern", fault))
    if rule.per_second is not None and not 0.0001 <= rule.per_second <= FASTEST:
        faults.append(Fault("per_second", "It must be between 0.0001 and 1,000,000 emails a second."))
    if not MINUTES[0] <= rule.seconds / 60 <= MINUTES[1]:
        faults.append(Fault("minutes", f"It must be between {MINUTES[0]} and {MINUTES[1]:,} minutes: a week."))
    return faults


def _pattern_fault(pattern: str) -> str | None:
    try:
        found = compiled(pattern)
    except re2.error as error:
        said = error.args[0] if error.args else "it cannot be read"
        return f"This is no regular expression: {said.decode() if isinstance(said, bytes) else said}."
    return "This fits every reply." if found.search("") else None


def _number(key: str) -> int:
    if not key.isdecimal() or int(key) >= 2**31:
        raise NotFound("There is no such rule.")
    return int(key)
