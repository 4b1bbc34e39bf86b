"""A mutation: one defence, what takes it away, and the tests that must fail then; and the files that most are in."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mutation:
    """One defence taken away. `defence` says what stands there; each swap's first text is in the file exactly once."""

    name: str
    defence: str
    file: str
    swaps: tuple[tuple[str, str], ...]
    tests: tuple[str, ...]

    def apply(self, source: str) -> str:
        """The file's text without the defence. Raises ValueError where it no longer stands there."""
        for old, new in self.swaps:
            if source.count(old) != 1:
                raise ValueError(f"{self.name}: {self.file} has {source.count(old)} times {old!r}")
            source = source.replace(old, new)
        return source

    @property
    def line(self) -> str:
        """Its row in docs/reliability.md."""
        tests = ", ".join(f"`{test.removeprefix('tests/')}`" for test in self.tests)
        return f"| {self.defence} | `{self.name}` in `{self.file}` | {tests} |"


OUTBOX, HANDOFF = "app/models/outbox.sql", "app/models/handoff.sql"
SEND, SETTLE, ANSWERS = "app/flows/send_range.py", "app/flows/settle.py", "app/flows/answers.py"
REPEAT, RESOLVE, UNKNOWNS = "app/flows/repeat.py", "app/flows/resolve.py", "app/flows/unknowns.py"
CLAIM, SENDING, FAULTS = "tests/test_claim.py", "tests/test_sending.py", "tests/test_sending_faults.py"
DEFENCES, CLOSING, PAGES = "tests/test_defences.py", "tests/test_closing.py", "tests/test_pages_in_hand.py"
