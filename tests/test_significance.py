"""What a test's figures tell: held against published figures, and against chance itself."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.models.significance import CERTAIN, Share, chance_of, compare, emails_needed
from app.models.variant import judge

SHARES = st.builds(Share, st.integers(0, 500), st.integers(0, 500))


# Newcombe, Two-sided confidence intervals for the single proportion (1998), table I, method 3.
@pytest.mark.parametrize(
    ("hits", "of", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_intervals_are_those_of_the_paper(hits: int, of: int, low: float, high: float) -> None:
    assert Share(hits, of).interval == pytest.approx((low, high), abs=5e-5)


@given(SHARES)
def test_an_interval_holds_its_rate_and_never_leaves_nothing_and_all(share: Share) -> None:
    low, high = share.interval
    assert 0 <= low <= share.rate <= high <= 1
    assert not share.of or (low == 0) == (share.hits == 0)


def test_the_difference_of_two_shares_is_the_pooled_z_test() -> None:
    assert chance_of(Share(200, 1000), Share(240, 1000)) == pytest.approx(0.030837, abs=1e-6)  # z = 2.1592
    assert chance_of(Share(240, 1000), Share(200, 1000)) == chance_of(Share(200, 1000), Share(240, 1000))
    assert chance_of(Share(50, 1000), Share(50, 1000)) == 1


@pytest.mark.parametrize(
    ("one", "other"), [(Share(0, 500), Share(4, 500)), (Share(3, 9), Share(1, 9)), (Share(0, 0), Share(9, 99))]
)
def test_too_few_tell_nothing(one: Share, other: Share) -> None:
    assert chance_of(one, other) is None


@given(st.dictionaries(st.integers(0, 4), SHARES, min_size=2))
def test_every_pair_is_compared_once_and_the_better_one_is_named_first(shares: dict[int, Share]) -> None:
    found = compare(shares)
    assert len(found) == len(shares) * (len(shares) - 1) // 2
    assert all(shares[each.better].rate >= shares[each.worse].rate for each in found)
    assert all(each.chance is None or 0 <= each.chance <= 1 for each in found)


@pytest.mark.parametrize("variants", [2, 5])
def test_of_variants_that_are_as_good_as_each_other_hardly_ever_one_is_called_better(variants: int) -> None:
    """In a thousand tests without any difference some pair is called clear in 5 of 100 at most: what is promised."""
    drawn = random.Random(7)
    tests, rate, leads = 1000, 0.1, 400
    called = 0
    for _ in range(tests):
        shares = {n: Share(sum(drawn.random() < rate for _ in range(leads)), leads) for n in range(variants)}
        called += compare(shares)[0].certain
    assert called / tests < CERTAIN + 0.015


def test_a_difference_that_is_there_is_found_as_often_as_said() -> None:
    drawn = random.Random(7)
    leads = emails_needed(0.1, 0.14)
    assert leads is not None and 1000 < leads < 1100
    found = sum(
        compare(
            {n: Share(sum(drawn.random() < rate for _ in range(leads)), leads) for n, rate in enumerate((0.1, 0.14))}
        )[0].certain
        for _ in range(300)
    )
    assert 0.74 < found / 300 < 0.86
    assert emails_needed(0.1, 0.1) is None
    assert (emails_needed(0.1, 0.14, 10) or 0) > leads


@pytest.mark.parametrize(
    ("shares", "winner", "best", "nothing"),
    [
        ([(5, 100), (6, 100)], 1, (1,), False),
        ([(5, 100), (10, 200)], 0, (0, 1), False),  # as good as each other
        ([(1, 100), (3, 100), (3, 100)], 1, (1, 2), False),
        ([(0, 100), (0, 100)], 0, (0, 1), True),
        ([(0, 0), (0, 0)], 0, (0, 1), True),
        ([(0, 0), (1, 100)], 1, (1,), False),
        ([(10**9 // 3, 10**9), (10**9 // 3 + 1, 10**9)], 1, (1,), False),
    ],
)
def test_the_greatest_share_wins_and_of_equals_the_first(
    shares: list[tuple[int, int]], winner: int, best: tuple[int, ...], nothing: bool
) -> None:
    verdict = judge({number: Share(*share) for number, share in enumerate(shares)})
    assert (verdict.winner, verdict.best, verdict.nothing) == (winner, best, nothing)
