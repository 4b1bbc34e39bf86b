"""What a test's figures say, in words, and what they do not say: for pages and commands alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from app.models.significance import FEWEST, Share, compare, emails_needed
from app.models.variant import LETTERS, Standing, Tally, judge, tested

DID: Final = {"clicked": "clicked", "opened": "opened it"}


@dataclass(frozen=True, slots=True)
class Conclusion:
    """`level` is clear, unclear or nothing; `said` one sentence; `why` what it is to be taken with.

    `leader` is None while nobody leads.
    """

    level: str
    said: str
    why: tuple[str, ...] = ()
    leader: int | None = None


def conclude(test: Standing, tallies: list[Tally]) -> Conclusion:
    """What the test's own leads tell, by its goal."""
    shares = {number: each.share(test.goal) for number, each in tested(tallies, test.variants).items()}
    if not any(share.of for share in shares.values()):
        return Conclusion("nothing", "No email of the test has gone yet.")
    verdict = judge(shares)
    if verdict.nothing:
        return Conclusion("nothing", f"Nobody has {DID[test.goal]} yet.", (LEVEL.format("A"),))
    if len(verdict.best) > 1:
        level = f"{_listed(verdict.best)} are level."
        return Conclusion("nothing", level, (LEVEL.format(LETTERS[verdict.winner]),))
    return _lead(verdict.winner, shares)


LEVEL: Final = "If it stays so, {} wins: of equals the first."
MANY: Final = (
    "There are {pairs} pairs to compare, and among many one seems to differ by chance alone: each is held to a measure"
    " {pairs} times as strict."
)
FEW: Final = "That says too little: fewer than about ten people did anything so far."
UNSURE: Final = (
    "Between two that are as good, chance brings such a difference in {} tests: too often to be sure. The rest gets {}"
    " all the same: nothing speaks for another."
)


def _lead(leader: int, shares: dict[int, Share]) -> Conclusion:
    """One is ahead: of which others that is more than chance."""
    mine = [each for each in compare(shares) if each.better == leader]
    pairs = len(shares) * (len(shares) - 1) // 2
    caution = (MANY.format(pairs=pairs),) if pairs > 1 else ()
    letter = LETTERS[leader]
    unclear = sorted(each.worse for each in mine if not each.certain)
    if not unclear:
        others = "A" if len(shares) == 2 and leader else "B" if len(shares) == 2 else "all others"
        chance = max(each.chance or 0.0 for each in mine)
        how = f"Between two that are as good, chance brings such a difference in {_of_hundred(chance)} tests."
        return Conclusion("clear", f"{letter} does better than {others}.", (how, *caution), leader)
    if all(each.chance is None for each in mine):
        return Conclusion("unclear", f"{letter} is ahead, but there is not enough to tell.", (FEW, *caution), leader)
    clear = sorted(each.worse for each in mine if each.certain)
    said = f"{letter} is ahead, but there is not enough to tell it from {_listed(unclear, 'or')}."
    if clear:
        said = (
            f"{letter} does better than {_listed(clear)}; there is not enough to tell it from {_listed(unclear, 'or')}."
        )
    near = max(unclear, key=lambda number: shares[number].rate)
    nearest = next(each.chance for each in mine if each.worse == near)
    why = FEW if nearest is None else UNSURE.format(_of_hundred(nearest), letter)
    return Conclusion("unclear", said, (why, *_needed(shares[leader], shares[near], pairs), *caution), leader)


def _needed(one: Share, other: Share, pairs: int) -> tuple[str, ...]:
    needed = emails_needed(one.rate, other.rate, pairs)
    most = max(one.of, other.of)
    if needed is None or needed <= most:
        return ()
    if needed > 1_000_000:
        return ("If they differ at all, it is by so little that no test would show it.",)
    return (f"To tell a difference like this it takes about {_round(needed):,} emails of each; there were {most:,}.",)


def _round(number: int) -> int:
    """Two digits: the rest would pretend to know more."""
    step: int = 10 ** max(0, len(str(number)) - 2)
    return -(-number // step) * step


def _of_hundred(chance: float) -> str:
    if chance < 0.001:
        return "fewer than 1 of 1,000"
    if chance < 0.01:
        return f"{max(1, round(chance * 1000))} of 1,000"
    return f"{max(1, round(chance * 100))} of 100"


def _listed(numbers: list[int] | tuple[int, ...], word: str = "and") -> str:
    letters = [LETTERS[number] for number in numbers]
    return letters[0] if len(letters) == 1 else f"{', '.join(letters[:-1])} {word} {letters[-1]}"


def told_apart(audience: int, test_share: int, variants: int, rate: float = 0.05) -> float | None:
    """The next rate above `rate` that a test of this size tells from it in four of five cases; None where none is."""
    emails, pairs = audience * test_share // 100 // variants, variants * (variants - 1) // 2
    low, high = rate, 1.0
    if emails < 1 or (emails_needed(rate, high, pairs) or 0) > emails:
        return None
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if (emails_needed(rate, middle, pairs) or 2**62) > emails else (low, middle)
    return high if emails * (rate + high) / 2 >= FEWEST else None
