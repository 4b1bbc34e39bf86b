"""What a segment's condition means, said again in plain Python: the compiled SQL must agree with it lead by lead."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

OPPOSITES = {
    "!=": "=",
    "notIn": "in",
    "notBetween": "between",
    "doesNotContain": "contains",
    "doesNotBeginWith": "beginsWith",
    "doesNotEndWith": "endsWith",
    "null": "notNull",
}
TIME = re.compile(r"[T ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d(:?\d\d)?)?", re.ASCII)


@dataclass(frozen=True)
class Person:
    """A lead as it is stored."""

    email: str
    status: str
    time_zone: str | None
    created_at: datetime
    attributes: Mapping[str, Any]


def matches(node: Mapping[str, Any], types: Mapping[str, str], person: Person, now: datetime) -> bool:
    """Whether the group or rule `node` holds for `person`; `types` are the attributes' registered types."""
    if "rules" not in node:
        return _rule(node, types, person, now)
    parts = [matches(part, types, person, now) for part in node["rules"]]
    joined = not parts or (all(parts) if node["combinator"] == "and" else any(parts))
    return joined != node.get("not", False)


def _rule(rule: Mapping[str, Any], types: Mapping[str, str], person: Person, now: datetime) -> bool:
    operator = rule["operator"]
    holds = _holds(OPPOSITES.get(operator, operator), rule, types, person, now)
    return not holds if operator in OPPOSITES else holds


def _holds(operator: str, rule: Mapping[str, Any], types: Mapping[str, str], person: Person, now: datetime) -> bool:
    name, wanted = rule["field"], rule.get("value")
    if name.startswith("attributes."):
        kind, stored = types[name], person.attributes.get(name.removeprefix("attributes."))
    else:
        kind, stored = ("timestamp" if name == "created_at" else "text"), _column(person, name)
    if operator == "between":
        return all(_compare(o, kind, stored, w, name, now) for o, w in zip((">=", "<="), wanted, strict=True))
    if operator == "in":
        return any(_compare("=", kind, stored, item, name, now) for item in wanted)
    return _compare(operator, kind, stored, wanted, name, now)


def _column(person: Person, name: str) -> Any:
    return person.email.rpartition("@")[2] if name == "domain" else getattr(person, name)


def _compare(operator: str, kind: str, stored: Any, wanted: Any, name: str, now: datetime) -> bool:
    match kind:
        case "text":
            if not isinstance(stored, str):
                return False
            return _compare_text(
                operator, stored, wanted.strip().lower() if wanted and name in ("email", "domain") else wanted
            )
        case "number":
            known = isinstance(stored, int | float) and not isinstance(stored, bool)
            return known and (operator == "notNull" or _ordered(operator, stored, wanted))
        case "boolean":
            return isinstance(stored, bool) and (operator == "notNull" or stored is wanted)
        case _:
            return _compare_time(operator, stored, wanted, now)


def _compare_text(operator: str, stored: str, wanted: Any) -> bool:
    match operator:
        case "notNull":
            return stored != ""
        case "contains":
            return _small(wanted) in _small(stored)
        case "beginsWith":
            return _small(stored).startswith(_small(wanted))
        case "endsWith":
            return _small(stored).endswith(_small(wanted))
        case _:
            return _ordered(operator, stored, wanted)


def _small(text: str) -> str:
    """Letter by letter, as Unicode's simple mapping does: no letter becomes two, no sigma is final."""
    return "".join(letter.lower()[0] for letter in text)


def _compare_time(operator: str, stored: Any, wanted: Any, now: datetime) -> bool:
    if isinstance(stored, datetime):  # a column: a day is the whole of it
        if operator == "notNull":
            return True
        bound = _bound(wanted, now)
        return _ordered(operator, stored.astimezone(UTC).date() if type(bound) is date else stored, bound)
    day = _written_day(stored)
    if operator == "notNull" or day is None:
        return day is not None
    bound = _bound(wanted, now)
    if type(bound) is date:
        return _ordered(operator, day, bound)
    moment = _written_moment(stored)
    return moment is not None and _ordered(operator, moment, bound)


def _ordered(operator: str, stored: Any, wanted: Any) -> bool:
    match operator:
        case "=":
            return bool(stored == wanted)
        case "<":
            return bool(stored < wanted)
        case "<=":
            return bool(stored <= wanted)
        case ">":
            return bool(stored > wanted)
        case ">=":
            return bool(stored >= wanted)
    raise AssertionError(operator)


def _written_day(stored: Any) -> date | None:
    if not isinstance(stored, str) or not re.match(r"\d{4}-\d\d-\d\d", stored, re.ASCII):
        return None
    try:
        return date.fromisoformat(stored[:10])
    except ValueError:
        return None


def _written_moment(stored: str) -> datetime | None:
    if stored[10:] and not TIME.fullmatch(stored[10:]):
        return None
    try:
        moment = datetime.fromisoformat(stored)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _bound(wanted: str, now: datetime) -> date | datetime:
    """A day or a moment from a rule's value."""
    today = now.date()
    named = {"today": today, "yesterday": today - timedelta(1), "tomorrow": today + timedelta(1), "now": now}
    if wanted in named:
        return named[wanted]
    words = wanted.split()
    if words[0] == "in" or words[-1] == "ago":
        count, unit = (int(words[1]), words[2]) if words[0] == "in" else (-int(words[0]), words[1])
        return _distance(count, unit.rstrip("s"), now)
    if len(wanted) == 10:
        return date.fromisoformat(wanted)
    return _written_moment(wanted) or _fail(wanted)


def _distance(count: int, unit: str, now: datetime) -> date | datetime:
    match unit:
        case "minute" | "hour":
            return now + timedelta(minutes=count * (60 if unit == "hour" else 1))
        case "day" | "week":
            return now.date() + timedelta(days=count * (7 if unit == "week" else 1))
        case _:
            return _months_away(now.date(), count * (12 if unit == "year" else 1))


def _months_away(day: date, count: int) -> date:
    year, month = divmod(day.year * 12 + day.month - 1 + count, 12)
    for last in (day.day, 30, 29, 28):
        if last <= day.day:
            try:
                return date(year, month + 1, last)
            except ValueError:
                continue
    raise AssertionError(day)


def _fail(wanted: str) -> datetime:
    raise AssertionError(wanted)
