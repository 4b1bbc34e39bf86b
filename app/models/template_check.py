"""What is checked when a template is saved, so that a send has nothing left to complain about.

Every name is known, every filter is given what it takes, both sides of a comparison are of one kind. The work that a
rendering can be is counted beforehand: loops are over ranges, and what stands in them costs its number of turns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from itertools import islice
from typing import Final

from liquid.ast import Node
from liquid.builtin.expressions import (
    Filter,
    FilteredExpression,
    KeywordArgument,
    Path,
    StringLiteral,
)
from liquid.builtin.expressions.logical import (
    ContainsExpression,
    EqExpression,
    GeExpression,
    GtExpression,
    LeExpression,
    LtExpression,
    NeExpression,
)
from liquid.builtin.expressions.primitive import (
    FalseLiteral,
    FloatLiteral,
    IntegerLiteral,
    RangeLiteral,
    TrueLiteral,
)
from liquid.builtin.tags.assign_tag import AssignNode
from liquid.builtin.tags.case_tag import CaseNode, MultiExpressionBlockNode
from liquid.builtin.tags.for_tag import ForNode
from liquid.expression import Expression

from app.errors import Fault
from app.models.field import Fields
from app.models.template_data import DATA, is_data
from app.models.template_filters import FILTERS, bad_date_format
from app.models.template_html import Spot
from app.models.template_liquid import MOST_TURNS, PlacedNode, children, expressions, path_of, walk
from app.models.template_source import Source

MOST_WORK: Final = 20_000  # nodes and expressions of one part, each as often as it may be reached
MOST_FAULTS: Final = 20
DATA_TURNS: Final = 30  # of a loop over what a message brings are reckoned with; those of one in another stop at 1,000

# Paths that every template knows, and their kinds; a lead's attributes are added.
KNOWN: Final[Mapping[str, str]] = {
    "lead.email": "text",
    "lead.time_zone": "text",
    "unsubscribe_url": "text",
    "campaign.name": "text",
    "sender.name": "text",
}
# And those that a message's template knows: the addressee, and under `data` whatever the message brings.
KNOWN_OF_MESSAGES: Final[Mapping[str, str]] = {
    DATA: "any",
    "to": "text",
    "unsubscribe_url": "text",
    "campaign.name": "text",
    "sender.name": "text",
}
_ROOTS = frozenset(("lead", "campaign", "sender", "unsubscribe_url", "forloop", DATA, "to"))
_LOOP = {f"forloop.{name}": "number" for name in ("index", "index0", "rindex", "rindex0", "length")}
_LOOP |= {f"forloop.{name}": "boolean" for name in ("first", "last")}
_LITERALS: Mapping[type[Expression], str] = {
    StringLiteral: "text",
    IntegerLiteral: "number",
    FloatLiteral: "number",
    TrueLiteral: "boolean",
    FalseLiteral: "boolean",
}
_SHOWN = {"text": "text", "number": "a number", "boolean": "true or false", "date": "a date"}
_ORDERINGS = (LtExpression, GtExpression, LeExpression, GeExpression)
_EQUALITIES = (EqExpression, NeExpression)


def known_paths(fields: Fields) -> dict[str, str]:
    """path -> kind of everything that a merge field may name: `lead.<attribute>` and the few that all know."""
    known = {f"lead.{field.attribute}": str(field.type) for field in fields.values() if field.attribute}
    return {**known, **KNOWN}


def check(source: Source, nodes: Sequence[Node], known: Mapping[str, str], spots: Mapping[int, Spot]) -> list[Fault]:
    """The first faults of a part; none for one that can be sent."""
    checker = _Checker(source, known, spots)
    for node in nodes:
        checker.check_top(node)
        if len(checker.faults) >= MOST_FAULTS:
            break
    if not checker.faults and sum(_work(node) for node in nodes) > MOST_WORK:
        checker.faults.append(Fault(source.pointer, "This would be too much work for every email: make loops smaller."))
    return checker.faults[:MOST_FAULTS]


def _work(node: Node) -> int:
    inside = sum(_work(child) for child in children(node))
    own = 1 + sum(1 for _ in expressions(node))
    return own + inside * (_turns(node) if isinstance(node, ForNode) else 1)


def _turns(node: ForNode) -> int:
    iterable = node.expression.iterable
    if isinstance(iterable, RangeLiteral):
        first, last = iterable.start, iterable.stop
        if isinstance(first, IntegerLiteral) and isinstance(last, IntegerLiteral):
            return max(last.value - first.value + 1, 0)
    return DATA_TURNS if isinstance(iterable, Path) else MOST_TURNS


class _Checker:
    """Goes through the nodes of one part and gathers faults. Names made by assign and for live in one outer block."""

    def __init__(self, source: Source, known: Mapping[str, str], spots: Mapping[int, Spot]) -> None:
        self.source = source
        self.spots = spots
        self.known = known
        self.scope: dict[str, str] = {}
        self.faults: list[Fault] = []

    def check_top(self, node: Node) -> None:
        if isinstance(node, AssignNode):
            self._fault(node, "assign works inside a block only: each block (if, unless, case, for) is made by itself.")
        self.scope = dict(self.known)
        for each in walk([node]):
            self._learn_names(each)
        for each in walk([node]):
            self._check_node(each)
            if len(self.faults) >= MOST_FAULTS:
                return

    def _learn_names(self, node: Node) -> None:
        name = node.name if isinstance(node, AssignNode) else ""
        if isinstance(node, ForNode):
            self.scope |= _LOOP
            name = node.expression.identifier
        if name in _ROOTS:
            self._fault(node, f"{name} is taken: choose another name.")
        elif name:
            counts = isinstance(node, ForNode) and isinstance(node.expression.iterable, RangeLiteral)
            kind = "number" if counts else "any"
            self.scope[name] = kind if self.scope.get(name, kind) == kind else "any"

    def _check_node(self, node: Node) -> None:
        for expression in expressions(node):
            self._check_expression(expression)
        if isinstance(node, ForNode):
            self._check_loop(node)
        elif isinstance(node, CaseNode):
            self._check_case(node)
        elif isinstance(node, PlacedNode):
            spot = self.spots.get(node.token.start_index)
            if spot is not None and spot.style and self._kind(node.expression) != "number":
                self._fault(node, "Only a number can stand in a style: anything else could rewrite it.")

    def _check_loop(self, node: ForNode) -> None:
        if node.expression.limit or node.expression.offset or node.expression.cols:
            self._fault(node, "Change the loop's range instead of giving it a limit or an offset.")
        iterable = node.expression.iterable
        if isinstance(iterable, Path) and DATA in self.known:
            return  # how often it goes round is counted when it does
        if not isinstance(iterable, RangeLiteral):
            self._fault(node, "A loop goes over a range of numbers only, like (1..5) or (1..lead.stars).")
        elif (turns := _turns(node)) > MOST_TURNS:
            times = f"{turns:,}" if turns < 1e9 else "more than a billion"
            self._fault(node, f"This loop would go round {times} times: {MOST_TURNS} is the most.")

    def _check_case(self, node: CaseNode) -> None:
        for block in node.blocks:
            if isinstance(block, MultiExpressionBlockNode):
                for expression in block.expression.expressions:
                    self._check_equality(expression, node.expression, expression)

    def _check_expression(self, expression: Expression) -> None:
        match expression:
            case Path():
                self._check_path(expression)
            case FilteredExpression():
                for each in expression.filters or ():
                    self._check_filter(each)
                if isinstance(expression.left, RangeLiteral):
                    self._fault(expression, "A range of numbers can stand in a for only.")
            case LtExpression() | GtExpression() | LeExpression() | GeExpression():
                self._check_ordering(expression, expression.left, expression.right)
            case EqExpression() | NeExpression():
                self._check_equality(expression, expression.left, expression.right)
            case ContainsExpression() if self._kind(expression.left) not in ("text", "any"):
                self._fault(expression, "contains looks for text in text.")

    def _check_path(self, path: Path) -> None:
        name = path_of(path)
        if name is None:
            self._fault(path, "Write a merge field with dots, like lead.first_name.")
        elif name not in self.scope and not is_data(name, self.scope):
            by_name = {known.removeprefix("lead."): known for known in islice(self.scope, 500)}
            near = get_close_matches(name.removeprefix("lead.")[:64], by_name, 1)
            hint = f" Did you mean {by_name[near[0]]}?" if near else _hint(name, self.known)
            self._fault(path, f"There is no {name[:80]}.{hint}")

    def _check_filter(self, given: Filter) -> None:
        rule = FILTERS.get(given.name)
        if rule is None:
            near = get_close_matches(given.name[:64], FILTERS, 1)
            hint = f"Did you mean {near[0]}?" if near else f"There are {', '.join(sorted(FILTERS))}."
            self._fault(given, f"There is no filter named {given.name[:80]}. {hint}")
            return
        if not rule.least <= len(given.args) <= len(rule.takes):
            self._fault(given, f"{given.name} takes {_count(rule.least, len(rule.takes))}.")
            return
        for argument, kind in zip(given.args, rule.takes, strict=False):
            if isinstance(argument, KeywordArgument):
                self._fault(given, f"{given.name} takes no argument named {argument.name[:80]}.")
            elif (
                kind == "number" and self._kind(argument.value) == "text" and isinstance(argument.value, StringLiteral)
            ):
                self._fault(given, f"{given.name} takes a number here, not text: leave the quotes away.")
        if given.name == "date":
            self._check_date(given)

    def _check_date(self, given: Filter) -> None:
        shape = given.args[0].value
        wrong = (
            bad_date_format(shape.value)
            if isinstance(shape, StringLiteral)
            else 'Write out the format: date: "%d %B %Y".'
        )
        if wrong:
            self._fault(given, wrong)

    def _check_ordering(self, where: Expression, left: Expression, right: Expression) -> None:
        kinds = {self._kind(left), self._kind(right)} - {"", "any"}
        if "boolean" in kinds or len(kinds) > 1:
            self._fault(
                where, "Only two numbers, two texts or two dates can be compared by size. " + self._says(left, right)
            )

    def _check_equality(self, where: Expression, left: Expression, right: Expression) -> None:
        if len({self._kind(left), self._kind(right)} - {"", "any"}) > 1:
            self._fault(where, "These are never equal. " + self._says(left, right))

    def _says(self, *sides: Expression) -> str:
        said = (f"{str(side)[:80]} is {_SHOWN.get(self._kind(side), 'something')}" for side in sides)
        return ", ".join(said) + "."

    def _kind(self, expression: Expression) -> str:
        """text, number, boolean, any, or "" for nil and blank, which go with all. Dates are compared as text."""
        if isinstance(expression, FilteredExpression):
            return self._kind_filtered(expression)
        if isinstance(expression, Path):
            kind = self.scope.get(path_of(expression) or "", "any")
            return "text" if kind in ("date", "timestamp") else kind
        return _LITERALS.get(type(expression), "")

    def _kind_filtered(self, expression: FilteredExpression) -> str:
        kind = self._kind(expression.left)
        for each in expression.filters or ():
            rule = FILTERS.get(each.name)
            if each.name == "default" and each.args:
                kind = kind if kind == self._kind(each.args[0].value) else "any"
            elif rule is not None and rule.makes != "any":
                kind = rule.makes
        return kind

    def _fault(self, where: Node | Expression | Filter, message: str) -> None:
        self.faults.append(self.source.fault(where.token.start_index, message))


def _hint(name: str, known: Mapping[str, str]) -> str:
    if DATA in known:
        return " What a message brings is written data.<name>."
    return " A lead's attributes are written lead.<name>." if not name.startswith("lead.") else ""


def _count(least: int, most: int) -> str:
    if most == 0:
        return "no argument"
    amount = str(most) if least == most else f"{least} to {most}"
    return f"{amount} argument{'s' if most > 1 else ''}"
