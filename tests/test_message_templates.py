"""Templates of messages: whatever a message brings, its email is right, or it is left out and says why."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import Invalid, Unrenderable
from app.models.template import Compiled, LeadView, compile_content, preview
from app.models.template_data import OWN_CONTENT, plain_text

HTML = (
    "<p>{{ data.name | default: 'you' | upcase }} {{ data.a.b }}</p>"
    "{% for item in data.items %}<b>{{ item.title }}</b>{% for each in item.parts %}{{ each }}{% endfor %}{% endfor %}"
    "{% if data.total > 3 %}many{% endif %}<a href='{{ data.link }}'>See</a>"
)
TEMPLATE = Compiled.from_json(compile_content("For {{ data.name }}", HTML, "", None).to_json())
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)


def fill(data: dict[str, Any], template: Compiled = TEMPLATE) -> tuple[str, str, str]:
    return preview(template, LeadView(1, "ann@example.com", None, data))


@given(st.dictionaries(st.sampled_from(["name", "a", "items", "total", "link"]), JSON))
def test_whatever_a_message_brings_is_written_escaped_or_refused_in_words(data: dict[str, Any]) -> None:
    try:
        subject, html, _ = fill(data)
    except Unrenderable as error:
        assert str(error)
    else:
        assert subject.isprintable()
        assert html.count("<p>") == 1
        assert html.count("<a ") == 1


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({}, "<p>YOU </p><a href='#'>See</a>"),
        ({"a": {"b": "<&>"}}, "<p>YOU &lt;&amp;&gt;</p><a href='#'>See</a>"),
        ({"items": [{"title": "<x>", "parts": [1, 2]}]}, "<p>YOU </p><b>&lt;x&gt;</b>12<a href='#'>See</a>"),
        ({"items": None, "total": 4}, "<p>YOU </p>many<a href='#'>See</a>"),
        ({"name": ["a list"]}, "<p> </p><a href='#'>See</a>"),
    ],
)
def test_data_fill_a_template_and_what_is_missing_is_empty(data: dict[str, Any], expected: str) -> None:
    assert fill(data)[1] == expected


@pytest.mark.parametrize(
    "data",
    [
        {"items": [{}] * 101},
        {"items": [{"parts": list(range(100))}] * 100},
        {"link": "javascript:alert(1)"},
        {"name": "x" * 20_000},
        {"total": "seven"},
    ],
)
def test_data_that_break_a_limit_leave_their_message_out(data: dict[str, Any]) -> None:
    with pytest.raises(Unrenderable):
        fill(data)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("{{ name }}", "What a message brings is written data"),
        ("{{ lead.email }}", "There is no lead.email"),
        ("{% for to in data.items %}{% endfor %}", "to is taken"),
        (
            "{% for a in data.x %}{% for b in a.y %}{% for c in b.z %}{{ c }}{% endfor %}{% endfor %}{% endfor %}",
            "too much",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused_when_the_template_is_saved(written: str, said: str) -> None:
    with pytest.raises(Invalid, match=said):
        compile_content("Hello", f"<p>{written}</p>", "", None)


def test_a_line_break_in_a_value_begins_no_header() -> None:
    assert fill({"name": "a\r\nBcc: everybody"})[0] == "For a Bcc: everybody"


def test_own_content_is_sent_as_it_is_and_what_is_missing_of_it_is_made() -> None:
    own = Compiled.from_json(OWN_CONTENT)
    html = "<p>{{ not.filled }} <b>&amp;</b></p>"
    assert fill({"subject": "Hi\nyou", "html": html, "text": ""}, own) == ("Hi you", html, "{{ not.filled }} &\n")
    made = fill({"subject": "Hi", "html": "", "text": "a < b\nc"}, own)
    assert made[1:] == ('<div style="white-space: pre-wrap">a &lt; b\nc</div>', "a < b\nc")


@pytest.mark.parametrize(
    "broken", ["<style" * 80_000, "<" * 480_000, "<!--" * 120_000, "<p " * 160_000, "<script>" * 9_000]
)
def test_no_html_takes_long_to_make_a_text_of(broken: str) -> None:
    began = time.process_time()
    plain_text(broken)
    assert time.process_time() - began < 2.0
