"""What the docs draw and list from the tables that code and tests go by: `python -m tests.diagrams` writes it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from app.models import campaign, handoff, outbox, standing
from tests.mutations import MUTATIONS

DOCS: Final = Path(__file__).parent.parent / "docs"
COMMAND: Final = "python -m tests.diagrams"

Moves = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Block:
    """A piece of a page between two marks: what it shows, what that is made from, and its text."""

    name: str
    page: str
    source: str
    text: str

    @property
    def whole(self) -> str:
        """The block as it must stand in the page."""
        return f"{self.begin}\n\n{self.text}\n\n{self.end}"

    @property
    def begin(self) -> str:
        return f"<!-- {self.name}: from {self.source}, by `{COMMAND}` -->"

    @property
    def end(self) -> str:
        return f"<!-- end of {self.name} -->"


def draw(moves: Moves, first: str) -> str:
    """A Mermaid state diagram; a state without a way out is an end."""
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {first}"]
    for state, targets in moves.items():
        lines += [f"    {state} --> {target}: {why}" for target, why in targets.items()]
        if not targets:
            lines.append(f"    {state} --> [*]")
    return "\n".join([*lines, "```"])


def list_mutations() -> str:
    """A table of the defences with what takes each away and the tests that fail then."""
    return "\n".join(["| defence | taken away by | caught by |", "|---|---|---|", *(each.line for each in MUTATIONS)])


def put(page: str, block: Block) -> str:
    """A page with the block as it must be. Raises ValueError where the page has no marks for it."""
    if page.count(block.begin) != 1 or page.count(block.end) != 1:
        raise ValueError(f"docs/{block.page} needs these two lines: {block.begin} {block.end}")
    marked = re.compile(f"{re.escape(block.begin)}.*?{re.escape(block.end)}", re.DOTALL)
    return marked.sub(lambda _: block.whole, page)


BLOCKS: Final = (
    Block("states of a campaign", "architecture.md", "app/models/campaign.py", draw(campaign.MOVES, "draft")),
    Block("states of a range", "reliability.md", "app/models/outbox.py", draw(outbox.MOVES, "ready")),
    Block("states of a hand-off", "reliability.md", "app/models/handoff.py", draw(handoff.MOVES, "handed")),
    Block("standing of a sender", "reputation.md", "app/models/standing.py", draw(standing.MOVES, "good")),
    Block("defences", "reliability.md", "tests/mutations", list_mutations()),
)


def main() -> None:
    for block in BLOCKS:
        page = DOCS / block.page
        page.write_text(put(page.read_text(), block))


if __name__ == "__main__":
    main()
