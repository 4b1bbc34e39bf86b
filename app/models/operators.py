"""The operators of segment conditions, in one table: what each takes, which fields it suits, and how it reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from app.models.field import Field, Type

Takes = Literal["nothing", "one", "pair", "list"]

ALL: Final[frozenset[Type]] = frozenset({"text", "number", "boolean", "date", "timestamp"})
ORDERED: Final[frozenset[Type]] = ALL - {"boolean"}
LISTED: Final[frozenset[Type]] = frozenset({"text", "number"})
TEXT: Final[frozenset[Type]] = frozenset({"text"})
TIME: Final[frozenset[Type]] = frozenset({"date", "timestamp"})


@dataclass(frozen=True, slots=True)
class Operator:
    """`denies` names the operator of which this one is the exact complement: every lead matches one of the two."""

    takes: Takes
    types: frozenset[Type]
    words: str
    time_words: str = ""
    denies: str | None = None

    def reads(self, field: Field) -> str:
        """How it is said in a sentence about `field`."""
        return self.time_words if self.time_words and field.type in TIME else self.words


OPERATORS: Final[Mapping[str, Operator]] = {
    "=": Operator("one", ALL, "is"),
    "!=": Operator("one", ALL, "is not", denies="="),
    "<": Operator("one", ORDERED, "is below", "is before"),
    "<=": Operator("one", ORDERED, "is at most", "is on or before"),
    ">": Operator("one", ORDERED, "is above", "is after"),
    ">=": Operator("one", ORDERED, "is at least", "is on or after"),
    "between": Operator("pair", ORDERED, "is between"),
    "notBetween": Operator("pair", ORDERED, "is not between", denies="between"),
    "in": Operator("list", LISTED, "is one of"),
    "notIn": Operator("list", LISTED, "is none of", denies="in"),
    "contains": Operator("one", TEXT, "contains"),
    "doesNotContain": Operator("one", TEXT, "does not contain", denies="contains"),
    "beginsWith": Operator("one", TEXT, "begins with"),
    "doesNotBeginWith": Operator("one", TEXT, "does not begin with", denies="beginsWith"),
    "endsWith": Operator("one", TEXT, "ends with"),
    "doesNotEndWith": Operator("one", TEXT, "does not end with", denies="endsWith"),
    "notNull": Operator("nothing", ALL, "is known"),
    "null": Operator("nothing", ALL, "is not known", denies="notNull"),
}
CHOOSING: Final = ("=", "!=", "in", "notIn")  # all that makes sense where the values are few and fixed


def suiting(field: Field) -> tuple[str, ...]:
    """The operators that work on `field`, in the table's order."""
    if field.choices:
        return CHOOSING
    return tuple(name for name, operator in OPERATORS.items() if field.type in operator.types)
