"""The text part that is made from the HTML."""

from __future__ import annotations

from app.models.template import preview
from tests.test_template import SHARED, URL, compiled, faults, lead

EMAIL = """<!doctype html><html><head><title>Ignored</title><style>p { color: red }</style></head><body>
<div style="display: none">Preheader {{ lead.first_name }}</div>
<!-- a comment {{ lead.first_name }} -->
<table width="100%"><tr><td align="center"><table width="600">
<tr><td style="padding: 40px"><h1>Hello {{ lead.first_name | default: "there" }},</h1></td></tr>
{% if lead.vip %}
<tr><td><p>You have <b>{{ lead.points }}</b> points &amp; more.</p></td></tr>
{% else %}
<tr><td><p>Join us.</p></td></tr>
{% endif %}
<tr><td>Left</td><td>Right</td></tr>
<tr><td><ul><li>one</li>{% if lead.points > 3 %}<li>two</li>{% endif %}<li>three</li></ul></td></tr>
<tr><td><a href="https://shop.example/?u={{ lead.email | url_encode }}&amp;x=1">Go to the shop</a>
<a href="mailto:help@shop.example">help@shop.example</a> <a href="#top">Up</a></td></tr>
<tr><td><a href="{{ unsubscribe_url }}">Unsubscribe</a></td></tr>
</table></td></tr></table></body></html>"""


def text(html: str, **attributes: object) -> str:
    return preview(compiled(html), lead(**attributes), SHARED, URL)[2]


def test_the_text_says_what_the_html_says_with_its_conditions_and_addresses() -> None:
    assert text(EMAIL, first_name="Ann <3", vip=True, points=5).splitlines() == [
        "Hello Ann <3,",
        "",
        "You have 5 points & more.",
        "",
        "Left",
        "Right",
        "  * one",
        "  * two",
        "  * three",
        "Go to the shop <https://shop.example/?u=ann%40example.com&x=1> help@shop.example Up",
        f"Unsubscribe <{URL}>",
    ]


def test_a_condition_that_is_not_met_leaves_no_gap() -> None:
    assert text(EMAIL).splitlines() == [
        "Hello there,",
        "",
        "Join us.",
        "",
        "Left",
        "Right",
        "  * one",
        "  * three",
        "Go to the shop <https://shop.example/?u=ann%40example.com&x=1> help@shop.example Up",
        f"Unsubscribe <{URL}>",
    ]


def test_an_unsubscribe_link_that_the_text_lost_is_put_back() -> None:
    assert URL not in text("<p>x</p>")
    assert f"Unsubscribe: {URL}" in text("<p>x</p><div style='display:none'>{{ unsubscribe_url }}</div>")


def test_what_looks_like_our_markers_is_not_taken_for_them() -> None:
    html = "<p>\ue0000\ue001 a &#xe000;0&#xe001; b &#xe000;7&#xe001; {{ lead.first_name }}</p>"
    assert text(html, first_name="Ann") == "0 a Ann b  Ann\n"


def test_raw_text_stays_raw() -> None:
    assert text("<p>{% raw %}{{ x }}{% endraw %}</p>") == "{{ x }}\n"


def test_html_that_no_text_can_be_made_of_says_so() -> None:
    html = "<div style='display:none'>{% if lead.vip %}</div>x{% endif %}"
    assert faults(html, text="") == [("text", "No text part could be made from this HTML: write one.")]
    assert compiled(html, text="x")


def test_conditions_around_what_is_not_shown_go_with_it() -> None:
    assert text("<style>{% if lead.vip %}p { color: red }{% endif %}</style><p>fine</p>") == "fine\n"
    assert text("<p class='{% if lead.vip %}gold{% endif %}'>fine</p>") == "fine\n"


def test_a_text_of_ones_own_is_taken_as_it_is() -> None:
    content = compiled("<p>x</p>", text="  Dear {{ lead.first_name }}\n\n\n  bye")
    assert preview(content, lead(first_name="O'Neil & co"))[2] == "  Dear O'Neil & co\n\n\n  bye"
