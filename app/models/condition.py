"""Segment conditions: react-querybuilder's JSON read into groups of rules, every fault named by its JSON pointer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

import orjson

from app.errors import Fault, Invalid
from app.models.field import Fields
from app.models.operand import Unfit
from app.models.rule import RULE_KEYS, Rule, printed, read_rule

DEPTH: Final = 5  # groups within groups, the outermost counted
RULES: Final = 100
BYTES: Final = 256 * 1_024
FAULTS: Final = 20  # enough to mend; a body of a thousand faults gets no answer of a megabyte
NAME: Final = 200  # characters of a key or an id

GROUP_KEYS: Final = frozenset({"combinator", "not", "rules", "id"})
# Keys of react-querybuilder that change what a condition means, and that are not understood here.
REFUSED_KEYS: Final[Mapping[str, str]] = {
    "disabled": "A disabled part would be saved without effect: remove it.",
    "muted": "A muted part would be saved without effect: remove it.",
    "valueSource": "A field is compared with a value; comparing two fields is not supported.",
    "lhs": "Expressions on the left side are not supported: name a field.",
    "match": "Match modes are not supported.",
}


@dataclass(frozen=True, slots=True)
class Group:
    """Rules and groups joined by one word, perhaps denied as a whole. Only the outermost may be empty: every lead."""

    combinator: Literal["and", "or"]
    negated: bool
    rules: tuple[Rule | Group, ...]


Condition = Group


def parse_json(body: str | bytes, fields: Fields) -> tuple[dict[str, object], Condition]:
    """The JSON text of a condition as an object (to be stored) and parsed. Raises Invalid."""
    if len(body) > BYTES:
        raise Invalid.one("", f"The condition is too large: at most {BYTES // 1_024} kB.")
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Invalid.one("", f"This is not JSON: {error.msg} (line {error.lineno}, column {error.colno}).") from None
    return document, parse(document, fields)


def parse(document: object, fields: Fields) -> Condition:
    """A condition from decoded JSON. Raises Invalid; pointers are JSON pointers (RFC 6901), "" for the whole."""
    reading = _Reading(fields)
    try:
        condition = reading.group(document, "", 1)
    except _Stop:
        raise Invalid(reading.faults) from None
    if reading.faults:
        raise Invalid(reading.faults)
    if len(orjson.dumps(document)) > BYTES:
        raise Invalid.one("", f"The condition is too large: at most {BYTES // 1_024} kB.")
    return condition


class _Stop(Exception):
    """Nothing further is read: there are too many rules, or enough faults."""


@dataclass(slots=True)
class _Reading:
    """One pass over a document. Bounded: it goes no deeper than DEPTH and stops after RULES rules or FAULTS faults."""

    fields: Fields
    faults: list[Fault] = field(default_factory=list)
    rules_left: int = RULES

    def group(self, node: object, pointer: str, depth: int) -> Group:
        """The group as far as it could be read; what could not is among the faults."""
        combinator, negated, nodes = self._frame(node, pointer, depth)
        parts = [self._part(part, f"{pointer}/rules/{index}", depth) for index, part in enumerate(nodes)]
        return Group(combinator, negated, tuple(part for part in parts if part is not None))

    def _frame(self, node: object, pointer: str, depth: int) -> tuple[Literal["and", "or"], bool, list[object]]:
        if not isinstance(node, dict) or not isinstance(node.get("rules"), list):
            self._fault(pointer, 'This is no group: write {"combinator": "and", "rules": [ … ]}.')
            return "and", False, []
        if depth > DEPTH:
            self._fault(pointer, f"Groups are nested too deep: at most {DEPTH} levels.")
            return "and", False, []
        self._keys(node, GROUP_KEYS, pointer)
        combinator, negated, nodes = node.get("combinator"), node.get("not", False), node["rules"]
        if combinator not in ("and", "or"):
            self._fault(f"{pointer}/combinator", 'The combinator says how the rules are joined: "and" or "or".')
        if not isinstance(negated, bool):
            self._fault(f"{pointer}/not", '"not" is true or false.')
        if not nodes and (depth > 1 or negated):
            self._fault(f"{pointer}/rules", "This group has no rules: add one, or remove the group.")
        return "or" if combinator == "or" else "and", negated is True, nodes

    def _part(self, node: object, pointer: str, depth: int) -> Rule | Group | None:
        if isinstance(node, dict) and "rules" in node:
            return self.group(node, pointer, depth + 1)
        if self.rules_left == 0:
            self._fault(pointer, f"There are too many rules: at most {RULES}.")
            raise _Stop
        self.rules_left -= 1
        try:
            if isinstance(node, dict):
                self._keys(node, RULE_KEYS, pointer)
            return read_rule(node, self.fields)
        except Unfit as error:
            self._fault(pointer + error.at, str(error))
            return None

    def _keys(self, node: dict[object, object], known: frozenset[str], pointer: str) -> None:
        for key, value in node.items():
            if not isinstance(key, str) or len(key) > NAME or not key.isprintable():
                self._fault(pointer, "There is a key here that nobody knows.")
            elif key not in known:
                at = key.replace("~", "~0").replace("/", "~1")
                self._fault(f"{pointer}/{at}", REFUSED_KEYS.get(key) or f'Nobody knows the key "{printed(key)}".')
            elif key == "id" and not (isinstance(value, str) and len(value) <= NAME and value.isprintable()):
                self._fault(f"{pointer}/id", f"An id is a text of at most {NAME} printable characters.")

    def _fault(self, pointer: str, message: str) -> None:
        self.faults.append(Fault(pointer, message))
        if len(self.faults) >= FAULTS:
            raise _Stop
