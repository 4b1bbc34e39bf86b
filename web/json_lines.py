"""Where in a JSON text a JSON pointer (RFC 6901) leads: people look for lines, not for pointers."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+')


@dataclass(slots=True)
class _Open:
    """A group or list that is being read: what its next value is called."""

    pointer: str
    is_object: bool
    name: str = ""
    index: int = 0
    at_key: bool = True

    def child(self) -> str:
        return f"{self.pointer}/{self.name if self.is_object else self.index}"


def lines_of(text: str) -> dict[str, int]:
    """JSON pointer → line (from 1) of every value; what is no JSON gives what can be read of it. Never raises."""
    found: dict[str, int] = {}
    stack: list[_Open] = []
    line, position = 1, 0
    for match in TOKEN.finditer(text):
        line += text.count("\n", position, match.start())
        position = match.start()
        _read(match[0], line, stack, found)
    return found


def _read(word: str, line: int, stack: list[_Open], found: dict[str, int]) -> None:
    top = stack[-1] if stack else None
    if word in "}]":
        if stack:
            stack.pop()
    elif word == ",":
        if top:
            top.index, top.at_key = top.index + 1, True
    elif word == ":":
        if top:
            top.at_key = False
    elif top and top.is_object and top.at_key and word.startswith('"'):
        top.name = _escaped(word)
        found[top.child()] = line
    else:
        pointer = top.child() if top else ""
        found.setdefault(pointer, line)
        if word in "{[":
            stack.append(_Open(pointer, word == "{"))


def _escaped(word: str) -> str:
    try:
        name = str(json.loads(word))
    except ValueError:
        name = word.strip('"')
    return name.replace("~", "~0").replace("/", "~1")
