"""Compiled content as a provider's template, where a bulk call carries one body for all: slots become variables.

A letter's values were escaped for their places when they were rendered: a provider that escapes what it puts in must be
asked, in its own way, not to.
"""

from __future__ import annotations

from collections.abc import Callable

from app.mail import Letter, Parts


def template(parts: Parts, name: Callable[[int], str], escape: Callable[[str], str] = str) -> str:
    """The text with `name(slot)`, a whole placeholder, for each slot.

    `escape` is given each piece of static text and gives it so that the provider sees no placeholder in it. The end of
    a piece may touch a placeholder, and so may its beginning: what would melt into one there is for `escape` as well.
    """
    pieces = [""] * (2 * len(parts.slots) + 1)
    pieces[0::2] = [escape(static) for static in parts.static]
    pieces[1::2] = [name(slot) for slot in parts.slots]
    return "".join(pieces)


def values(letter: Letter) -> list[str]:
    """The letter's strings by slot number, as they are to appear: `values(letter)[slot]` belongs to `name(slot)`."""
    return list(letter.values)
