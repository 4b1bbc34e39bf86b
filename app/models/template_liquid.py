"""Our dialect of Liquid: python-liquid with few tags, our own filters, every limit set; output escaped for its place.

Nothing is marked as safe: a value is escaped once, where it is written. Templates can load nothing, and reach plain
values only: items of mappings, never an attribute or a method of a Python object.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Final, TextIO

from liquid import BoundTemplate, Environment, Mode, RenderContext
from liquid.ast import Node
from liquid.builtin import content, illegal
from liquid.builtin.expressions import Path
from liquid.builtin.expressions.logical import EqExpression, NeExpression
from liquid.builtin.expressions.primitive import Blank, Empty
from liquid.builtin.output import Output, OutputNode
from liquid.builtin.tags import assign_tag, case_tag, comment_tag, for_tag, if_tag, inline_comment_tag, unless_tag
from liquid.exceptions import LiquidError, OutputStreamLimitError
from liquid.expression import Expression
from liquid.stream import TokenStream
from liquid.tag import Tag
from liquid.token import Token

from app.errors import Invalid, Unrenderable
from app.models.template_filters import FILTERS, LONGEST, text_of
from app.models.template_html import SAFE_SCHEME
from app.models.template_source import Source

MOST_TURNS: Final = 100  # of one loop
MOST_WRITTEN: Final = 1_000_000  # bytes, by one block

_SPECIAL = re.compile("[&<>\"']").search
_LINE_BREAKS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_INVISIBLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def escape_html(value: str) -> str:
    """For text and quoted attributes."""
    # most values have nothing to escape: one search instead of five replacements
    return html.escape(value) if _SPECIAL(value) else value


def escape_url(value: str) -> str:
    """For a field that begins an address: "#" for none; raises Unrenderable for a scheme that is not safe."""
    if not value:
        return "#"
    if not SAFE_SCHEME.match(value):
        raise Unrenderable(
            f"a link would lead to {value[:80]!r}: it must begin with https://, http://, mailto: or tel:"
        )
    return html.escape(value.strip())


def clean_text(value: str) -> str:
    """For the text part: line breaks stay, other control characters go."""
    return value if value.isprintable() else _INVISIBLE.sub("", value.replace("\r\n", "\n"))


def clean_line(value: str) -> str:
    """For the subject: one line, whatever the value holds (RFC 5322 §2.2: a line break would begin another header)."""
    return value if value.isprintable() else _LINE_BREAKS.sub(" ", value)


# The places that a value can be written to, by the words that compiled content keeps.
PLACES: Final[Mapping[str, Callable[[str], str]]] = {
    "html": escape_html,
    "url": escape_url,
    "text": clean_text,
    "subject": clean_line,
}


class PlacedNode(OutputNode):
    """`{{ … }}`, which escapes what it writes for the place that it was found in."""

    __slots__ = ("place",)
    place: str

    def render_to_output(self, context: RenderContext, buffer: TextIO) -> int:
        value = text_of(self.expression.evaluate(context))
        if len(value) > LONGEST:
            raise Unrenderable(f"{self.expression} is longer than {LONGEST:,} characters")
        return buffer.write(PLACES[self.place](value))


class _Blank(Blank):
    """`blank` and `empty`, equal to a missing value too: `!= blank` is how people ask whether there is one."""

    def __eq__(self, other: object) -> bool:
        return other is None or super().__eq__(other)

    __hash__ = None  # type: ignore[assignment]


class _Located(Tag):
    """A tag whose faults know where they are: the library's own are lost where an expression ends too early."""

    def get_node(self, stream: TokenStream) -> Node:
        token = stream.current
        try:
            return super().get_node(stream)
        except LiquidError as error:
            if error.token is None or error.token.start_index < 0:
                error.token = token
            raise


class _Field(_Located, Output):
    node_class = PlacedNode


class _If(_Located, if_tag.IfTag):
    mode = Mode.STRICT


class _Unless(_Located, unless_tag.UnlessTag):
    mode = Mode.STRICT


class _Case(_Located, case_tag.CaseTag):
    pass


class _For(_Located, for_tag.ForTag):
    pass


class _Assign(_Located, assign_tag.AssignTag):
    pass


class _Context(RenderContext):
    """A rendering that counts every turn of its loops: the library's own limit is on loops inside each other only."""

    __slots__ = ()

    def raise_for_loop_limit(self, length: int = 1) -> None:
        if length > MOST_TURNS:
            raise Unrenderable(f"a loop would go round {length} times: {MOST_TURNS} is the most")
        super().raise_for_loop_limit(length)


class _Template(BoundTemplate):
    context_class = _Context


def _nothing(*_: object, **__: object) -> None:
    """What a known field that this lead lacks is: unknown ones were refused when the template was saved."""


class Dialect(Environment):
    """The environment that templates are parsed and rendered in."""

    block_nesting_limit = 16
    context_depth_limit = 30
    loop_iteration_limit = 1_000
    local_namespace_limit = 100_000
    output_stream_limit = MOST_WRITTEN
    template_class = _Template

    def __init__(self) -> None:
        super().__init__(tolerance=Mode.STRICT, strict_filters=True, autoescape=False)
        self.undefined = _nothing  # type: ignore[assignment]

    def setup_tags_and_filters(self, *, extra: bool = False) -> None:
        for tag in (
            content.Literal,
            _Field,
            illegal.Illegal,
            _If,
            _Unless,
            _Case,
            _For,
            _Assign,
            comment_tag.CommentTag,
            inline_comment_tag.InlineCommentTag,
        ):
            self.add_tag(tag)
        for name, each in FILTERS.items():
            self.add_filter(name, each.apply)


@cache
def dialect() -> Dialect:
    """The one environment of the process; rendering keeps its state elsewhere, so threads may share it."""
    return Dialect()


def parse(source: Source) -> list[Node]:
    """A part's nodes. Raises Invalid with the line of the first syntax error."""
    try:
        nodes = dialect().from_string(source.lexed).nodes
    except LiquidError as error:
        place = error.token.start_index if isinstance(error.token, Token) else -1
        raise Invalid([source.fault(place, _sentence(error))]) from error
    for node in walk(nodes):
        for expression in expressions(node):
            if isinstance(expression, EqExpression | NeExpression):
                expression.left, expression.right = _blank(expression.left), _blank(expression.right)
    return nodes


def _blank(expression: Expression) -> Expression:
    return _Blank(expression.token) if isinstance(expression, Blank | Empty) else expression


def walk(nodes: list[Node]) -> Iterator[Node]:
    """Every node of a tree, parents first."""
    for node in nodes:
        yield node
        yield from walk(children(node))


def children(node: Node) -> list[Node]:
    """What stands directly in a node."""
    return list(node.children(_no_context()))


@cache
def _no_context() -> RenderContext:
    return RenderContext(_Template(dialect(), []))  # asked for by nodes that load others: we have none


def expressions(node: Node) -> Iterator[Expression]:
    """Every expression of one node, parents first; not those of its children."""
    waiting = list(node.expressions())
    while waiting:
        expression = waiting.pop(0)
        yield expression
        waiting += expression.children()


def render(nodes: list[Node], values: Mapping[str, object]) -> str:
    """Render nodes with plain values. Raises Unrenderable, and nothing else."""
    try:
        return _Template(dialect(), nodes).render(values)
    except Unrenderable:
        raise
    except OutputStreamLimitError as error:
        raise Unrenderable(f"a block would be longer than {MOST_WRITTEN:,} bytes") from error
    except LiquidError as error:
        raise Unrenderable(str(error.message)) from error
    except Exception as error:  # a fault of the library's with one lead's values: the others must still be sent
        raise Unrenderable(f"{type(error).__name__}: {error}") from error


def path_of(expression: Expression) -> str | None:
    """`lead.first_name` of a plain path; None for anything else, indexes too."""
    if isinstance(expression, Path) and all(isinstance(segment, str) for segment in expression.path):
        return ".".join(str(segment) for segment in expression.path)
    return None


_REFUSED_TAGS = {
    "include": "templates cannot load other templates",
    "render": "templates cannot load other templates",
    "capture": "capture is not supported: use assign inside a block",
}
# The library's words, and what they mean to whoever wrote the template.
_WORDS = {
    "a primitive expression": "a value",
    "end of expression": "the end",
    "missing expression": "something is missing after this tag's name",
    "disallowed not operator in logical expression": "not is not supported: use unless, or compare with false",
    "disallowed parentheses in logical expression": "parentheses are not supported: nest one if in another",
    "'='": "=, which is written == in a condition",
    "dpipe": "||",
    "expected tag endif, found tag": "this block had its else already",
    "expected tag endunless, found tag": "this block had its else already",
    "expected word": "expected a filter's name",
}


def _sentence(error: LiquidError) -> str:
    message = str(error.message or "this cannot be read").rstrip("?.")
    found = re.fullmatch(r"unexpected tag '(\w*)'", message)
    if found:
        message = _REFUSED_TAGS.get(found[1], f"there is no tag named {found[1]}: use if, unless, case, for or assign")
    for theirs, ours in _WORDS.items():
        message = message.replace(theirs, ours)
    return message[0].upper() + message[1:] + "."
