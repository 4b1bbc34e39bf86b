"""Composing a page: one letter a lead, in order, and nobody's trouble is another's."""

from __future__ import annotations

from uuid import uuid4

from app.flows.compose import Composer
from app.models.campaign import Sending
from app.models.template import LeadView
from app.signing import Signer
from tests.test_template import compiled

SIGNER = Signer("a key for tests, known to everybody")
SENDING = Sending(
    campaign_id=3,
    organisation_id=1,
    owner_id=1,
    campaign_name="Spring",
    version=2,
    variant=0,
    from_name="Ann",
    from_address="ann@example.com",
    reply_to="help@example.com",
    pool_id=1,
    pool_url=b"",
    batch=50,
)
HTML = '<p>{{ lead.first_name | default: "you" }} {{ campaign.name }}</p><a href="{{ unsubscribe_url }}">off</a>'


def composer(html: str = HTML, base_url: str = "https://mail.example.com") -> Composer:
    return Composer(compiled(html, subject="Hi {{ lead.first_name }}"), SENDING, base_url, SIGNER)


def leads(*attributes: dict[str, object]) -> list[LeadView]:
    return [LeadView(n, f"lead{n}@example.com", None, each) for n, each in enumerate(attributes, 1)]


def test_every_lead_gets_a_letter_in_order_with_a_link_of_its_own() -> None:
    maker = composer()
    letters, unrenderable = maker.compose(leads({"first_name": "Bo & co"}, {}))
    assert unrenderable == []
    assert [(letter.lead_id, letter.address) for letter in letters] == [
        (1, "lead1@example.com"),
        (2, "lead2@example.com"),
    ]
    for letter in letters:
        base, token = letter.unsubscribe_url.split("/u/")
        assert base == "https://mail.example.com"
        assert SIGNER.read_unsubscribe(token) == (letter.lead_id, 3)
    first, second = letters
    assert maker.content.version == 2
    assert maker.content.subject.fill(first.values) == "Hi Bo & co"
    assert maker.content.html.fill(first.values) == (
        f'<p>Bo &amp; co Spring</p><a href="{first.unsubscribe_url}">off</a>'
    )
    assert maker.content.html.fill(second.values).startswith("<p>you Spring</p>")
    assert maker.content.text.fill(first.values) == f"Bo & co Spring\n\noff <{first.unsubscribe_url}>\n"


def test_a_lead_whose_values_break_a_limit_is_left_out_alone_with_its_reason() -> None:
    letters, unrenderable = composer(HTML + '<a href="{{ lead.shop }}">shop</a>').compose(
        leads({}, {"shop": "javascript:alert(1)"}, {"shop": "https://shop.example"}, {"first_name": "x" * 20_000})
    )
    assert [letter.lead_id for letter in letters] == [1, 3]
    assert [lead_id for lead_id, _ in unrenderable] == [2, 4]
    assert "javascript" in unrenderable[0][1]
    assert "longer than 16,384" in unrenderable[1][1]


def test_a_block_that_breaks_a_limit_for_one_lead_is_only_that_leads() -> None:
    html = HTML + "{% for i in (1..lead.points) %}*{% endfor %}"
    letters, unrenderable = composer(html).compose(leads({"points": 3}, {"points": 101}, {}))
    assert [letter.lead_id for letter in letters] == [1, 3]
    assert unrenderable == [(2, "a loop would go round 101 times: 100 is the most")]


def test_an_address_that_needs_escaping_is_escaped_in_the_html_only() -> None:
    maker = composer(base_url="https://mail.example.com/a&b")
    letter = maker.compose(leads({}))[0][0]
    assert "https://mail.example.com/a&amp;b/u/" in maker.content.html.fill(letter.values)
    assert letter.unsubscribe_url.startswith("https://mail.example.com/a&b/u/")
    assert "https://mail.example.com/a&b/u/" in maker.content.text.fill(letter.values)


def test_a_batch_says_who_it_is_from_and_carries_its_key() -> None:
    maker, key = composer(), uuid4()
    letters, _ = maker.compose(leads({}))
    batch = maker.batch(9, key, 1, letters)
    assert (batch.handoff_id, batch.key, batch.campaign_id, batch.run) == (9, key, 3, 1)
    assert (batch.from_name, batch.from_address, batch.reply_to) == ("Ann", "ann@example.com", "help@example.com")
    assert batch.content is maker.content
    assert batch.letters == letters
