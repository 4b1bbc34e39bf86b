"""What shares of a test tell, and what they do not: intervals, differences, and how many emails it would take.

Shares are counts of leads, `hits` of `of`. Everything is for 95 % certainty.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from math import ceil, erfc, sqrt
from typing import Final, NamedTuple

Z: Final = 1.959963984540054  # two-sided, 95 %
POWER: Final = 0.8416212335729143  # one-sided, 80 %: how often a difference that is there would be found
CERTAIN: Final = 0.05
# Below so many expected on either side the normal distribution says nothing about counts (Cochran 1954).
FEWEST: Final = 5.0


class Share(NamedTuple):
    """So many leads of so many. More hits than leads, as while calls are unknown, are all of them."""

    hits: int
    of: int

    @property
    def rate(self) -> float:
        """From 0 to 1; 0 of nobody."""
        return min(1.0, self.hits / self.of) if self.of else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """Where the true rate lies, as far as these leads tell: Wilson's interval; anywhere, of nobody.

        Wilson 1927; Newcombe 1998 (method 3) holds it against others: it never leaves 0 to 1, and says something of
        few leads and of no hits at all.
        """
        if not self.of:
            return 0.0, 1.0
        square = Z * Z / self.of
        middle = (self.rate + square / 2) / (1 + square)
        half = Z / (1 + square) * sqrt(self.rate * (1 - self.rate) / self.of + square / (4 * self.of))
        return (max(0.0, middle - half) if self.rate > 0 else 0.0), (min(1.0, middle + half) if self.rate < 1 else 1.0)


@dataclass(frozen=True, slots=True)
class Difference:
    """One variant against another. `chance`: how often a difference as large, or larger, would be seen between two that
    are as good as each other, looked at together with all the other pairs; None where there are too few to say."""

    better: int
    worse: int
    chance: float | None

    @property
    def certain(self) -> bool:
        return self.chance is not None and self.chance < CERTAIN


def chance_of(one: Share, other: Share) -> float | None:
    """The two-proportion z test, pooled and two-sided; None where so few are expected that it says nothing."""
    if not one.of or not other.of:
        return None
    pooled = Share(min(one.hits, one.of) + min(other.hits, other.of), one.of + other.of).rate
    if min(one.of, other.of) * min(pooled, 1 - pooled) < FEWEST:
        return None
    error = sqrt(pooled * (1 - pooled) * (1 / one.of + 1 / other.of))
    return erfc(abs(one.rate - other.rate) / error / sqrt(2))


def compare(shares: dict[int, Share]) -> list[Difference]:
    """Every pair, the clearest difference first. Of many pairs one seems to differ by chance alone, so each must differ
    so much more (Bonferroni): `chance` is that of the pair times the number of pairs, 1 at most."""
    pairs = list(combinations(sorted(shares), 2))
    found = []
    for one, other in pairs:
        better, worse = (one, other) if shares[one].rate >= shares[other].rate else (other, one)
        chance = chance_of(shares[one], shares[other])
        found.append(Difference(better, worse, None if chance is None else min(1.0, chance * len(pairs))))
    return sorted(found, key=lambda each: (each.chance is None, each.chance or 0.0, each.better, each.worse))


def emails_needed(one: float, other: float, pairs: int = 1) -> int | None:
    """Emails of each of two variants with these true rates, so that four of five such tests find the difference.

    None where there is no difference. With several `pairs` each is held to a stricter measure.
    """
    if one == other:
        return None
    z = Z if pairs == 1 else _quantile(CERTAIN / pairs)
    return ceil((z + POWER) ** 2 * (one * (1 - one) + other * (1 - other)) / (one - other) ** 2)


def _quantile(two_sided: float) -> float:
    """The z beyond which so much of the normal distribution lies on both sides together."""
    low, high = 0.0, 40.0
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if erfc(middle / sqrt(2)) > two_sided else (low, middle)
    return high
