"""Links: found and numbered as content is compiled; led through us only where they are tracked, and nothing else is."""

from __future__ import annotations

import re
import time

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import Invalid
from app.models.template import Compiled, LeadView, Shared, compile_content, preview
from app.models.template_links import track
from app.signing import TrackingTokens
from tests.test_template import FIELDS

TOKENS = TrackingTokens("a key for tests, known to everybody")
BASE = "https://news.example.com"
LEAD = LeadView(5, "ann@example.com", None, {"first_name": "Ann", "points": 7, "shop": "https://own.example.com/x"})
A, B = "https://a.example.com/one?x=1&amp;y=2", "https://b.example.com/"
TOKEN = TOKENS.signer(7)(5)


def compiled(html: str, text: str = "") -> Compiled:
    made = compile_content("s", html, text, FIELDS)
    return Compiled.from_json(orjson.loads(orjson.dumps(made.to_json())))


def sent(made: Compiled, lead: LeadView = LEAD, *, clicks: bool = True, opens: bool = False) -> tuple[str, str]:
    """HTML and text as this lead gets them."""
    tracked = track(made, clicks=clicks, opens=opens)
    assert tracked is not None
    values = tracked.complete(tracked.compiled.bind(Shared("c", "s", f"{BASE}/u/")), TOKENS.signer(7), BASE)
    filled = values(lead, f"{BASE}/u/x")
    return tracked.compiled.html.fill(filled), tracked.compiled.text.fill(filled)


def link(number: int, token: str = TOKEN) -> str:
    return f"{BASE}/t/{token}/{number}"


def test_each_address_has_one_number_in_the_order_of_the_email() -> None:
    made = compiled(f'<a href="{B}">1</a><a href="{A}">2</a><a href="{B}">3</a>', f"See {A.replace('&amp;', '&')}.\n")
    assert made.links.urls == (B, "https://a.example.com/one?x=1&y=2")
    html, text = sent(made)
    assert html.startswith(f'<a href="{link(1)}">1</a><a href="{link(2)}">2</a><a href="{link(1)}">3</a>')
    assert text == f"See {link(2)}.\n"


@pytest.mark.parametrize(
    "html",
    [
        '<a href="{A}">x</a>',
        "<A HREF='{A}' class=x>x</A>",
        "<a\n href = {A}>x</a>",
        '<map><area shape="rect" href="{A}"></map>',
        '{% if lead.points > 3 %}<a href="{A}">x</a>{% endif %}',
        '<p>{%- if lead.points > 3 -%} <a href="{A}">x</a> {%- endif -%}</p>',
        '  {%- comment -%} no {%- endcomment -%}  <a href="{A}">x</a>',
        '{% if lead.points > 9 %}a{% elsif lead.points > 3 %}{{ lead.first_name }}<a href="{A}">x</a>{% endif %}',
        '{% for n in (1..2) %}<a href="{A}">x</a>{% endfor %}',
    ],
)
def test_a_link_is_tracked_wherever_it_stands(html: str) -> None:
    made = compiled(html.replace("{A}", A))
    shown, text = sent(made)
    assert link(1) in shown
    assert "a.example.com" not in shown + text


@pytest.mark.parametrize(
    "html",
    [
        '<a href="mailto:ann@example.com">x</a>',
        '<a href="{{ unsubscribe_url }}">x</a>',
        '<a href="https://a.example.com/{{ lead.first_name }}">x</a>',
        '<a href="{{ lead.shop }}">x</a>',
        '<a href="/relative">x</a><a href="#top">y</a>',
        '<img src="https://a.example.com/a.png" alt="">',
        '<link href="https://a.example.com/a.css">',
        '<a href="https:///nowhere">x</a><a href="https://[::1">y</a>',
        '<a href="https://b\u00fccher..example/">x</a><a href="https://xn--\u00fc.example/">y</a>',
        '<!-- <a href="https://a.example.com/">x</a> -->',
        '<a href="{% if lead.points %}https://a.example.com/{% endif %}">x</a>',
        '<a title="https://a.example.com/">x</a>',
    ],
)
def test_everything_else_is_left_as_it_was_written(html: str) -> None:
    made = compiled(html, "nothing\n")
    assert made.links.urls == ()
    assert track(made, clicks=True, opens=False) is None


def test_in_the_text_part_a_merge_field_next_to_an_address_leaves_it_alone() -> None:
    text = "{{ lead.first_name }}: https://a.example.com/?q={{ lead.first_name }}"
    text += " https://b.example.com/, (https://c.example.com)\n"
    made = compiled("<p>x</p>", text)
    assert made.links.urls == ("https://b.example.com/", "https://c.example.com")
    assert sent(made)[1] == f"Ann: https://a.example.com/?q=Ann {link(1)}, ({link(2)})\n"


def test_what_is_not_tracked_is_what_was_written() -> None:
    html = f'<p>{{% if lead.points %}}<a href="{A}">x</a>{{% endif %}}</p><a href="{B}">y</a>'
    assert preview(compiled(html), LEAD)[1] == f'<p><a href="{A}">x</a></p><a href="{B}">y</a>'


def test_the_pixel_and_the_hidden_link_stand_before_the_last_body_ends() -> None:
    made = compiled(f'<body><a href="{A}">x</a>{{{{ lead.first_name }}}}</body ><!-- after --></html>')
    html, text = sent(made, opens=True)
    assert re.search(
        rf'Ann<a href="{link(0)}" style="display:none"[^>]*></a><img src="{BASE}/o/{TOKEN}\.gif"[^>]*></body >', html
    )
    assert "/o/" not in text
    assert sent(compiled("<p>x</p>"), opens=True)[0].startswith("<p>x</p><img src=")


def test_the_emails_of_a_lead_who_is_not_tracked_name_nobody() -> None:
    made = compiled(f'{{% if lead.points %}}<a href="{A}">x</a>{{% endif %}}<a href="{B}">y</a>')
    html, _ = sent(made, LEAD._replace(untracked=True))
    nobody = TOKENS.signer(7)(0)
    assert link(1, nobody) in html
    assert link(2, nobody) in html
    assert TOKEN not in html


PIECES = st.sampled_from(
    [
        f'<a href="{A}">x</a>',
        f'<a href="{B}">y</a>',
        "{{ lead.first_name }}",
        " {%- if lead.points > 3 -%} ",
        "{% else %}",
        "{% endif %}",
        "\n",
        "{% comment %}z{% endcomment %}",
        "{% raw %}{{{% endraw %}",
        "<p>",
    ]
)


@given(st.lists(PIECES, min_size=1, max_size=12))
def test_led_back_the_tracked_email_is_the_untracked_one(pieces: list[str]) -> None:
    try:
        made = compiled("".join(pieces), "t\n")
    except Invalid:
        return
    plain = preview(made, LEAD, Shared("c", "s"), f"{BASE}/u/x")[1]
    if track(made, clicks=True, opens=False) is None:
        assert "<a " not in plain
        return
    html = re.sub(r'<a href="[^"]*/0" [^>]*></a>', "", sent(made)[0])
    for number, url in enumerate(made.links.urls, 1):
        html = html.replace(link(number), url.replace("&", "&amp;"))
    assert html == plain
    assert "example.com/one" not in sent(made)[0]


def test_thousands_of_links_among_hundreds_of_fields_take_no_time() -> None:
    html = "".join(f'<a href="https://a.example.com/{n}">{{{{ lead.first_name }}}}</a>' * 12 for n in range(80))
    html += "".join(f'<a href="https://a.example.com/{n}">x</a>' for n in range(8000))
    began = time.process_time()
    made = compiled(html, "t\n")
    assert len(made.links.urls) == 8000
    assert link(8000) in sent(made)[0]
    assert time.process_time() - began < 3


def test_a_tracking_token_says_lead_and_campaign_and_cannot_be_forged() -> None:
    assert TOKENS.read(TOKEN) == (5, 7)
    assert len(TOKEN) == 28
    assert re.fullmatch("[A-Za-z0-9_-]+", TOKEN)
    for place, was in enumerate(TOKEN):
        assert TOKENS.read(TOKEN[:place] + ("A" if was != "A" else "B") + TOKEN[place + 1 :]) is None
    for never in ("", TOKEN[:-1], TOKEN + "A", TOKEN + "\n", "é" * 28, "A" * 28, "=" * 28):
        assert TOKENS.read(never) is None
    other = "another key, that somebody else has"
    assert TrackingTokens(other).read(TOKEN) is None
    assert TrackingTokens(other, "a key for tests, known to everybody").read(TOKEN) == (5, 7)
