"""Blocks remember what they rendered: only for leads that share everything the block reads."""

from __future__ import annotations

import tracemalloc

import pytest

from app.models.field import ATTRIBUTE, Field
from app.models.template import LeadView, Shared, compile_content

FIELDS = {
    ATTRIBUTE + name: Field(ATTRIBUTE + name, kind, name)
    for name, kind in {"plan": "text", "name": "text", "age": "number", "vip": "boolean", "born": "date"}.items()
}
LINK = '<a href="{{ unsubscribe_url }}">out</a>'


def render(block: str, *leads: dict[str, object]) -> list[str]:
    compiled = compile_content("s", f"<p>{block}</p>{LINK}", "t", FIELDS)
    values = compiled.bind(Shared("Camp", "Send"))
    views = [LeadView(n, f"lead{n}@example.com", None, attributes) for n, attributes in enumerate(leads)]
    filled = [compiled.html.fill(values(view, f"https://x/u/{view.id}")) for view in views]
    return [html.split("<p>")[1].split("</p>")[0] for html in filled]


def test_leads_that_differ_in_what_the_block_reads_get_different_texts() -> None:
    block = '{% if lead.plan == "pro" %}{{ lead.name }}{% else %}free{% endif %}'
    leads = [
        {"plan": "pro", "name": "Ann"},
        {"plan": "pro", "name": "Bob"},
        {"plan": "x"},
        {},
        {"plan": "pro", "name": "Ann"},
    ]
    assert render(block, *leads) == ["Ann", "Bob", "free", "free", "Ann"]


def test_equal_values_of_different_types_are_not_mistaken_for_each_other() -> None:
    assert render("{% if lead.age %}{{ lead.age }}{% endif %}", {"age": 1}, {"age": True}, {"age": 1.0}) == [
        "1",
        "true",
        "1",
    ]


@pytest.mark.parametrize(
    "block",
    [
        "{% if lead.plan %}{{ lead.email }}{% endif %}",
        "{% if lead.plan %}{{ unsubscribe_url }}{% endif %}",
    ],
)
def test_what_no_two_leads_share_is_rendered_for_each(block: str) -> None:
    first, second = render(block, {"plan": "pro"}, {"plan": "pro"})
    assert first != second


def test_an_attribute_that_is_no_scalar_stops_nobody() -> None:
    leads: list[dict[str, object]] = [{"plan": ["pro"]}, {"plan": {"a": 1}}, {"plan": "pro"}]
    assert render("{% if lead.plan %}{{ lead.plan }}!{% endif %}", *leads) == ["!", "!", "pro!"]


def test_what_is_remembered_is_bounded_however_long_the_values_are() -> None:
    compiled = compile_content("s", "<p>{% if lead.name contains 'x' %}y{% endif %}</p>", "t", FIELDS)
    values = compiled.bind(Shared("Camp", "Send"))
    tracemalloc.start()
    for number in range(2_000):
        values(LeadView(number, "ann@example.com", None, {"name": f"{number} " + "n" * 10_000}), "https://x/u/1")
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 4_000_000


def test_a_value_is_escaped_in_a_remembered_text_too() -> None:
    leads = [{"name": "<b>"}, {"name": "<b>"}]
    assert render("{% if lead.name %}{{ lead.name }}{% endif %}", *leads) == ["&lt;b&gt;", "&lt;b&gt;"]
