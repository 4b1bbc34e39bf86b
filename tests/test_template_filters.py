"""The filters: what each makes of a value, and that none of them ever raises."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.models.template_filters import FILTERS, LONGEST, Scalar, bad_date_format, text_of


@pytest.mark.parametrize(
    ("name", "value", "arguments", "shown"),
    [
        ("default", None, ("x",), "x"),
        ("default", "", ("x",), "x"),
        ("default", False, ("x",), "x"),
        ("default", 0, ("x",), "0"),
        ("escape", "<", (), "<"),
        ("upcase", "straße", (), "STRASSE"),
        ("downcase", "ANN", (), "ann"),
        ("capitalize", "ann LEE", (), "Ann lee"),
        ("strip", " a ", (), "a"),
        ("squish", " a \n b ", (), "a b"),
        ("append", 3, (".0",), "3.0"),
        ("prepend", "a", ("<",), "<a"),
        ("truncate", "hello world", (8,), "hello..."),
        ("truncate", "hello", (5,), "hello"),
        ("truncate", "hello", (2,), "..."),
        ("truncate", "hello", (4, ""), "hell"),
        ("truncatewords", "one two three", (2,), "one two..."),
        ("truncatewords", "Anna Maria", (1, ""), "Anna"),
        ("slice", "Anna", (0,), "A"),
        ("slice", "Anna", (-2, 2), "na"),
        ("slice", "Anna", (-9, 2), "An"),
        ("url_encode", "a b&c=é", (), "a+b%26c%3D%C3%A9"),
        ("date", "2026-03-05", ("%-d %B %Y",), "5 March 2026"),
        (
            "date",
            "2026-03-05T14:05:09Z",
            ("%d.%m.%y %I:%M %p %H%M%S %a %A %b %e%%",),
            "05.03.26 02:05 PM 140509 Thu Thursday Mar  5%",
        ),
        ("date", "2026-03-05 00:05:00+02:00", ("%I:%M",), "12:05"),
        ("date", "soon", ("%Y",), "soon"),
        ("plus", 0.1, (0.2,), "0.3"),
        ("plus", "41", (1,), "42"),
        ("minus", 3, (5,), "-2"),
        ("times", 1.5, (2,), "3"),
        ("divided_by", 7, (2,), "3"),
        ("divided_by", 7, (2.0,), "3.5"),
        ("divided_by", -7, (2,), "-4"),
        ("divided_by", 7, (0,), ""),
        ("modulo", -7, (3,), "2"),
        ("modulo", -7.5, (2,), "0.5"),
        ("round", 2.5, (), "3"),
        ("round", 2.345, (2,), "2.35"),
        ("ceil", 2.1, (), "3"),
        ("ceil", -2.1, (), "-2"),
        ("floor", -2.1, (), "-3"),
        ("abs", -3, (), "3"),
        ("at_least", 3, (5,), "5"),
        ("at_most", 3, (5,), "3"),
        ("plus", "many", (1,), ""),
        ("plus", None, (1,), ""),
        ("plus", True, (1,), ""),
        ("times", 10**14, (100,), ""),
    ],
)
def test_a_filter_makes_of_a_value(name: str, value: Scalar, arguments: tuple[Scalar, ...], shown: str) -> None:
    assert text_of(FILTERS[name].apply(value, *arguments)) == shown


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.just("x" * (LONGEST + 500)),
    st.dates().map(str),
)


@given(st.sampled_from(sorted(FILTERS)), VALUES, VALUES, VALUES)
def test_no_filter_ever_raises_or_makes_more_than_can_be_told(name: str, value: Any, first: Any, second: Any) -> None:
    rule = FILTERS[name]
    for count in range(rule.least, len(rule.takes) + 1):
        made = rule.apply(value, *(first, second)[:count])
        assert made is None or isinstance(made, str | int | float | bool)
        if rule.makes == "text":
            assert len(text_of(made)) <= LONGEST + 1
        if rule.makes == "number":
            assert made is None or abs(float(made)) < 1e15


@given(st.text(max_size=12))
def test_a_date_format_is_refused_or_works(shape: str) -> None:
    if bad_date_format(shape) is None:
        assert isinstance(FILTERS["date"].apply("2026-03-05", shape), str)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, ""),
        (True, "true"),
        (3.0, "3"),
        (0.25, "0.25"),
        (1e300, "1e+300"),
        (123456789012345678, "123456789012345678"),
        (10**400, ""),
        ([1], ""),
        ({}, ""),
        ("é", "é"),
    ],
)
def test_values_are_shown_plainly(value: object, shown: str) -> None:
    assert text_of(value) == shown
