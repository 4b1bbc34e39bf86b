"""What a test's figures are said to mean."""

from __future__ import annotations

from datetime import timedelta

import pytest

from app.flows.variant_words import conclude, told_apart
from app.models.significance import emails_needed
from app.models.variant import Standing, Tally


def standing(variants: int) -> Standing:
    return Standing(1, 20, timedelta(hours=1), "clicked", None, None, None, False, None, [], variants)


def tallies(*clicked: tuple[int, int]) -> list[Tally]:
    own = [Tally(number, False, of, of, 0, 0, hits) for number, (hits, of) in enumerate(clicked)]
    return [Tally(-1, False, 900, 0, 900, 0, 0), *own, Tally(1, True, 900, 900, 0, 900, 900)]


@pytest.mark.parametrize(
    ("clicked", "level", "said"),
    [
        ([(0, 0), (0, 0)], "nothing", "No email of the test has gone yet."),
        ([(0, 500), (0, 500)], "nothing", "Nobody has clicked yet."),
        ([(9, 500), (9, 500)], "nothing", "A and B are level."),
        ([(100, 1000), (150, 1000)], "clear", "B does better than A."),
        ([(150, 1000), (100, 1000)], "clear", "A does better than B."),
        ([(100, 1000), (101, 1000)], "unclear", "B is ahead, but there is not enough to tell it from A."),
        ([(1, 1000), (3, 1000)], "unclear", "B is ahead, but there is not enough to tell."),
        ([(100, 1000), (200, 1000), (50, 1000)], "clear", "B does better than all others."),
        (
            [(100, 1000), (200, 1000), (190, 1000)],
            "unclear",
            "B does better than A; there is not enough to tell it from C.",
        ),
        (
            [(100, 1000), (104, 1000), (101, 1000)],
            "unclear",
            "B is ahead, but there is not enough to tell it from A or C.",
        ),
    ],
)
def test_no_more_is_said_than_the_figures_tell(clicked: list[tuple[int, int]], level: str, said: str) -> None:
    found = conclude(standing(len(clicked)), tallies(*clicked))
    assert (found.level, found.said) == (level, said)


def test_what_is_clear_between_two_may_not_be_among_five() -> None:
    two = [(100, 1000), (130, 1000)]
    assert conclude(standing(2), tallies(*two)).level == "clear"
    five = conclude(standing(5), tallies(*two, (100, 1000), (100, 1000), (100, 1000)))
    assert five.level == "unclear"
    assert "There are 10 pairs to compare" in five.why[-1]


def test_it_is_said_how_many_it_would_take() -> None:
    found = conclude(standing(2), tallies((50, 1000), (60, 1000)))
    assert found.why[1] == "To tell a difference like this it takes about 8,200 emails of each; there were 1,000."


def test_a_test_tells_no_less_than_is_said_before_it_begins() -> None:
    apart = told_apart(100_000, 20, 2)
    assert apart is not None and apart == pytest.approx(0.0589, abs=1e-4)
    assert 9_900 < (emails_needed(0.05, apart) or 0) <= 10_000
    assert told_apart(40, 20, 2) is None
    assert (told_apart(100_000, 20, 5) or 0) > apart
