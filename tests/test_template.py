"""Templates: what marketers write becomes slots, and the slots say what the whole template would have said."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import Invalid
from app.models.field import Field, Fields
from app.models.template import Compiled, LeadView, Shared, compile_content, has_unsubscribe_link, preview
from app.models.template_filters import FILTERS
from app.models.template_html import find_spots
from app.models.template_liquid import PlacedNode, parse, render, walk
from app.models.template_slots import BlockSlot, FieldSlot
from app.models.template_source import read

KINDS = {"first_name": "text", "shop": "text", "points": "number", "vip": "boolean", "born": "date"}
FIELDS: Fields = {
    f"attributes.{name}": Field(f"attributes.{name}", kind, name)  # type: ignore[arg-type]
    for name, kind in KINDS.items()
}
SHARED = Shared("Spring & Summer", "Ann <Sales>", "https://mail.example.com/u/")
URL = "https://mail.example.com/u/TOKEN"


def lead(**attributes: object) -> LeadView:
    return LeadView(7, "ann@example.com", "Europe/Berlin", attributes)


def compiled(html: str, subject: str = "Hello", text: str = "") -> Compiled:
    return compile_content(subject, html, text, FIELDS)


def shown(html: str, **attributes: object) -> str:
    return preview(compiled(html), lead(**attributes), SHARED, URL)[1]


def faults(html: str, subject: str = "Hello", text: str = "x") -> list[tuple[str, str]]:
    with pytest.raises(Invalid) as caught:
        compile_content(subject, html, text, FIELDS)
    return [(fault.pointer, fault.message) for fault in caught.value.faults]


def test_a_merge_field_shows_the_leads_value_and_its_default_where_there_is_none() -> None:
    html = 'Hi {{ lead.first_name | default: "there" }}'
    assert shown(html, first_name="Ann") == "Hi Ann"
    assert shown(html) == "Hi there"
    assert shown(html, first_name="") == "Hi there"


def test_a_known_attribute_that_a_lead_lacks_is_nothing_and_no_error() -> None:
    assert shown("[{{ lead.first_name }}{{ lead.points | plus: 1 }}{{ lead.born | date: '%Y' }}]") == "[]"
    assert shown("[{% if lead.points > 3 or lead.first_name contains 'x' %}x{% endif %}]") == "[]"


def test_values_are_shown_as_people_write_them() -> None:
    html = "{{ lead.points }} {{ lead.vip }} {{ lead.born | date: '%-d %B %Y' }}"
    assert shown(html, points=12.0, vip=True, born="1990-02-03") == "12 true 3 February 1990"
    assert shown(html, points=0.5, vip=False, born="soon") == "0.5 false soon"


def test_what_all_leads_share_is_there_too() -> None:
    html = "{{ campaign.name }} {{ sender.name }} {{ lead.email }} {{ lead.time_zone }} {{ unsubscribe_url }}"
    assert shown(html) == f"Spring &amp; Summer Ann &lt;Sales&gt; ann@example.com Europe/Berlin {URL}"


def test_conditions_choose_for_each_lead() -> None:
    html = "{% if lead.vip %}gold{% elsif lead.points >= 10 %}silver{% else %}tin{% endif %}"
    assert shown(html, vip=True) == "gold"
    assert shown(html, points=10) == "silver"
    assert shown(html, points=9) == "tin"
    assert shown(html) == "tin"


def test_blank_means_missing_or_empty() -> None:
    html = "{% if lead.first_name != blank %}has{% else %}has not{% endif %}"
    assert shown(html, first_name="Ann") == "has"
    assert shown(html, first_name="") == "has not"
    assert shown(html) == "has not"
    assert shown("{% unless lead.first_name == empty %}has{% endunless %}") == ""


def test_case_and_loops_and_assign_inside_a_block() -> None:
    html = (
        "{% case lead.first_name %}{% when 'Ann', 'Bob' %}known{% else %}new{% endcase %}"
        "{% for star in (1..lead.points) %}{% assign n = star | times: 2 %}{{ n }}"
        "{% unless forloop.last %},{% endunless %}{% endfor %}"
    )
    assert shown(html, first_name="Bob", points=3) == "known2,4,6"
    assert shown(html) == "new"


def test_comments_and_raw_text_are_not_merge_fields() -> None:
    assert (
        shown("a{% comment %}{{ lead.nothing }{% endcomment %}b{% # remark %}c{% raw %}{{ x }}{% endraw %}")
        == "abc{{ x }}"
    )


def test_white_space_control_works_across_slots() -> None:
    html = "a  {%- if lead.vip -%}  b  {%- endif -%}  c  {{- lead.first_name -}}  d"
    assert shown(html, vip=True, first_name="X") == "abcXd"
    assert shown("{% if lead.vip %}b{% endif %}  {{- lead.first_name }}", vip=True, first_name="X") == "bX"


def test_a_value_is_escaped_for_its_place() -> None:
    name = 'O\'Neil <b> & "co"\r\nBcc: x'
    content = compile_content(
        "{{ lead.first_name }}", "<p title='{{ lead.first_name }}'>", "{{ lead.first_name }}", FIELDS
    )
    subject, html, text = preview(content, lead(first_name=name))
    assert subject == 'O\'Neil <b> & "co" Bcc: x'
    assert html == "<p title='O&#x27;Neil &lt;b&gt; &amp; &quot;co&quot;\r\nBcc: x'>"
    assert text == 'O\'Neil <b> & "co"\nBcc: x'


def test_the_escape_filter_does_not_escape_twice() -> None:
    assert shown("{{ lead.first_name | escape }}", first_name="<b>") == "&lt;b&gt;"


@pytest.mark.parametrize("breaker", ["\r\n", "\n", "\r", "\x0b", "\x00", "\x85", "\u2028", "\u2029"])
def test_no_value_can_begin_another_header_through_the_subject(breaker: str) -> None:
    content = compiled("x", subject="{% if lead.first_name %}{{ lead.first_name }}{% endif %} {{ lead.first_name }}")
    subject = preview(content, lead(first_name=f"a{breaker}Bcc: b"))[0]
    assert subject.splitlines() == ["a Bcc: b a Bcc: b"]


def test_plain_fields_need_no_liquid_when_sending_and_equal_ones_share_a_slot() -> None:
    content = compiled(
        "{{ lead.first_name }}{{ lead.first_name }}{{lead.first_name}}{{ lead.first_name | upcase | truncate: 5 }}",
        text="{{ lead.first_name }}{% if lead.vip %}x{% endif %}",
    )
    assert [type(slot) for slot in content.slots] == [FieldSlot, FieldSlot, FieldSlot, BlockSlot]
    assert content.html.slots == (0, 0, 0, 1)


def test_compiled_content_survives_the_database() -> None:
    content = compiled(
        'a {{ lead.first_name | default: "x" | truncate: 5 }}<a href="{{ lead.shop }}">b</a>'
        '{% if lead.vip %}<a href="{{ lead.shop }}">{{ lead.shop }}</a>{% endif %}'
    )
    again = Compiled.from_json(json.loads(json.dumps(content.to_json())))
    assert again == content
    who = lead(first_name="Ann", vip=True, shop="https://x.example/?a=1&b=2")
    assert preview(again, who) == preview(content, who)


def test_an_unsubscribe_link_must_be_there_for_everybody_to_see() -> None:
    for html in ('<a href="{{ unsubscribe_url }}">off</a>', "Leave: {{ unsubscribe_url }}"):
        assert has_unsubscribe_link(compiled(html))
    for html in (
        "no link",
        "<!-- {{ unsubscribe_url }} -->",
        '<img src="{{ unsubscribe_url }}">',
        '{% if lead.vip %}<a href="{{ unsubscribe_url }}">off</a>{% endif %}',
        '{% comment %}<a href="{{ unsubscribe_url }}">off</a>{% endcomment %}',
    ):
        assert not has_unsubscribe_link(compiled(html))


# One part's pieces, each of them legal anywhere in text.
PIECES = st.lists(
    st.sampled_from(
        [
            "<p>",
            "</p> \n",
            "  ",
            "text & more",
            "{{ lead.first_name }}",
            "{{- lead.first_name -}}",
            "{{ lead.first_name | default: 'you' }}",
            "{{ lead.first_name | upcase | append: lead.shop }}",
            "{{ lead.points | times: 2 | default: 'none' }}",
            "{{ 'literal' | upcase }}",
            "{{ lead.vip }}",
            "{% if lead.vip %}yes{% else %} no {% endif %}",
            "{%- if lead.points > 1 -%} many {{ lead.points }} {%- endif -%}",
            "{% unless lead.first_name %}  {% endunless %}",
            "{% for i in (1..3) %}{{ i }}{{ lead.first_name }}{% endfor %}",
            "{% case lead.points %}{% when 1 %}one{% when 2 %}two{% else %}?{% endcase %}",
            "{% comment %}hidden {{ {% endcomment %}",
            "{%- # a remark -%}",
            "{% raw %} {{ raw }} {% endraw %}",
            '<a href="{{ lead.shop }}">go</a>',
            '{% if lead.shop %}<a href="{{ lead.shop }}">go</a>{% endif %}',
            '<b title="{{ lead.first_name }}">',
            "{{ unsubscribe_url }}{{ campaign.name }}",
        ]
    ),
    min_size=1,
    max_size=12,
)
ATTRIBUTES = st.fixed_dictionaries(
    {},
    optional={
        "first_name": st.one_of(st.just("Ann"), st.text(max_size=8)),
        "points": st.one_of(st.integers(0, 3), st.floats(0, 3)),
        "vip": st.booleans(),
        "shop": st.sampled_from(["https://a.example/?b=1&c=2", "http://b.example", ""]),
    },
)


@settings(max_examples=300, deadline=None)
@given(PIECES, ATTRIBUTES)
def test_filled_slots_say_what_the_whole_template_says(pieces: list[str], attributes: Mapping[str, object]) -> None:
    html = "".join(["x", *pieces])
    who = lead(**attributes)
    # Liquid writes a lone carriage return as a line's end, a slot leaves it as it is: mail clients read both alike
    filled = preview(compiled(html, text="x"), who, SHARED, URL)[1].replace("\r\n", "\n").replace("\r", "\n")
    assert filled == rendered_whole(html, who)


def rendered_whole(html: str, who: LeadView) -> str:
    """The same template by Liquid alone, never cut."""
    source = read("html", html, len(html))
    spots, _ = find_spots(source)
    nodes = parse(source)
    for node in walk(nodes):
        if isinstance(node, PlacedNode):
            node.place = "url" if spots[node.token.start_index].url else "html"
    return render(nodes, SHARED.scope(who, URL))


def test_every_example_of_the_manual_is_accepted() -> None:
    manual = (Path(__file__).parent.parent / "docs" / "templates.md").read_text()
    examples = re.findall(r"```liquid\n(.*?)```", manual, re.DOTALL)
    known = {**FIELDS, "attributes.city": Field("attributes.city", "text", "City")}
    assert len(examples) == 6
    for example in examples:
        compile_content("x", example, "", known)


def test_the_manual_names_every_filter() -> None:
    manual = (Path(__file__).parent.parent / "docs" / "templates.md").read_text()
    assert [name for name in FILTERS if f"`{name}" not in manual] == []
