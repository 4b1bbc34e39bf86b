"""Messages read back by the standard library's parser: what was meant arrives, and nothing else can be slipped in."""

from __future__ import annotations

import re
from dataclasses import replace
from email import message_from_bytes, policy
from email.header import decode_header, make_header
from email.message import EmailMessage
from email.utils import parseaddr

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import ProviderRefusesUs
from app.mail import Content, Letter, Parts, Refused
from app.providers.mime import Written, write_letters
from app.providers.smtp_exchange import stuff
from tests.provider_peers import batch_of, letters_to

TOKEN = "https://mail.example.com/u/" + "A1b2C3d4" * 5


def content(subject: str, html: str, text: str) -> Content:
    return Content(1, Parts((subject,), ()), Parts((html,), ()), Parts((text,), ()))


def write(subject: str = "Hello", html: str = "<p>Hi</p>", text: str = "Hi", letter: Letter | None = None) -> bytes:
    letter = letter or Letter(1, "ada@example.com", (), TOKEN)
    [written] = write_letters(batch_of([letter], content=content(subject, html, text)))
    assert isinstance(written, Written)
    return written.message


def parse(message: bytes) -> EmailMessage:
    parsed = message_from_bytes(message, policy=policy.SMTP)
    assert isinstance(parsed, EmailMessage)
    assert not parsed.defects
    assert not [part.defects for part in parsed.walk() if part.defects]
    return parsed


def bodies(message: bytes) -> tuple[str, str]:
    """The text and the HTML, lines ended by a bare LF."""
    parsed = parse(message)
    text, html = parsed.get_body(("plain",)), parsed.get_body(("html",))
    assert text is not None and html is not None
    return text.get_content().replace("\r\n", "\n"), html.get_content().replace("\r\n", "\n")


def check_lines(message: bytes) -> None:
    assert message.endswith(b"\r\n")
    assert not re.search(rb"\r(?!\n)|(?<!\r)\n", message), "a bare CR or LF can end a message early (SMTP smuggling)"
    assert max(len(line) for line in message.split(b"\r\n")) <= 998


LINES = st.text(st.characters(exclude_categories=("Cs",)), max_size=300)
BODY = st.one_of(
    LINES,
    st.lists(
        st.sampled_from(["", ".", "..", "From me", "=", "a ", "tab\t", "x" * 1200, "é" * 90, "日本" * 60, "\r", "=20"])
    ).map("\n".join),
)


@settings(max_examples=300, deadline=None)
@given(text=BODY, html=BODY)
def test_any_body_arrives_as_it_was(text: str, html: str) -> None:
    message = write(text=f"t{text}", html=f"h{html}")
    check_lines(message)
    whole = [each.replace("\r\n", "\n").replace("\r", "\n") for each in (f"t{text}", f"h{html}")]
    assert list(bodies(message)) == whole


@settings(max_examples=300, deadline=None)
@given(subject=st.text(st.characters(exclude_categories=("Cs",)), max_size=300))
def test_any_subject_arrives_without_its_control_characters(subject: str) -> None:
    message = write(subject=subject)
    check_lines(message)
    head = message.partition(b"\r\n\r\n")[0]
    assert max(len(line) for line in head.split(b"\r\n") if not line.startswith(b"List-")) <= 78
    wanted = re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", " ", subject)
    assert parse(message)["Subject"].strip() == wanted.strip()


@settings(max_examples=200, deadline=None)
@given(name=st.text(st.characters(exclude_categories=("Cs",)), max_size=120))
def test_any_sender_name_stays_a_name(name: str) -> None:
    batch = replace(batch_of(letters_to("ada@example.com")), from_name=name)
    [written] = write_letters(batch)
    assert isinstance(written, Written)
    check_lines(written.message)
    sender = parse(written.message)["From"].addresses
    assert [each.addr_spec for each in sender] == ["news@example.com"]
    wanted = re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", " ", name).strip()
    # Read by the older parser: the newer one keeps the space between two encoded words (RFC 2047 §6.2 drops it).
    [value] = re.findall(rb"(?m)^From: (.*(?:\r\n[ ].*)*)\r\n", written.message)
    shown = str(make_header(decode_header(parseaddr(value.decode())[0])))
    assert " ".join(shown.split()) == " ".join(wanted.split())


def test_every_header_that_a_campaign_needs_is_there_once() -> None:
    parsed = parse(write(letter=Letter(42, "ada@example.com", (), TOKEN)))
    wanted = {
        "From": '"Ada\'s Letters" <news@example.com>',
        "Reply-To": "answers@example.com",
        "To": "ada@example.com",
        "List-Unsubscribe": f"<{TOKEN}>",
        "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
        "X-Millrace-Campaign": "3",
        "X-Millrace-Run": "1",
        "X-Millrace-Handoff": "7",
        "X-Millrace-Lead": "42",
        "Feedback-ID": "3:1:campaign:millrace",
        "MIME-Version": "1.0",
    }
    assert {name: parsed.get_all(name) for name in wanted if name != "From"} == {
        name: [value] for name, value in wanted.items() if name != "From"
    }
    assert parseaddr(parsed["From"]) == ("Ada's Letters", "news@example.com")
    assert parsed["Date"].datetime is not None
    assert re.fullmatch(r"<3\.1\.42\.[0-9a-f]{12}@example\.com>", parsed["Message-ID"])
    assert parsed.get_content_type() == "multipart/alternative"


def test_a_long_unsubscribe_link_stays_on_one_unfolded_line() -> None:
    url = "https://mail.example.com/u/" + "x" * 300
    assert f"\r\nList-Unsubscribe: <{url}>\r\n".encode() in write(letter=Letter(1, "ada@example.com", (), url))


def test_the_same_hand_off_makes_the_same_message_id() -> None:
    first, again, other = (write(letter=Letter(lead, "ada@example.com", (), TOKEN)) for lead in (1, 1, 2))
    assert parse(first)["Message-ID"] == parse(again)["Message-ID"] != parse(other)["Message-ID"]


@pytest.mark.parametrize(
    "address",
    [
        "ada@example.com\r\nBcc: all@example.com",
        "ada@example.com\nBcc: all@example.com",
        "ada@example.com> SIZE=1\r\nRCPT TO:<eve@example.com",
        "ada@example.com, eve@example.com",
        "Ada <ada@example.com>",
        "ada@example.com\x00",
        "ada@exam ple.com",
        "ada",
        "@example.com",
        "ada@",
        "",
    ],
)
def test_an_address_that_holds_more_than_an_address_is_refused(address: str) -> None:
    good = Letter(2, "eve@example.com", ("Eve",), TOKEN)
    bad, other = write_letters(batch_of([Letter(1, address, ("Ada",), TOKEN), good]))
    assert isinstance(bad, Refused)
    assert isinstance(other, Written)


@pytest.mark.parametrize(
    "url", ["https://x/\r\nBcc: a@b.c", "https://x/>,<mailto:a@b.c", "javascript:1", "https://x/ y"]
)
def test_an_unsubscribe_link_that_holds_more_than_a_link_is_refused(url: str) -> None:
    [outcome] = write_letters(batch_of([Letter(1, "ada@example.com", ("Ada",), url)]))
    assert isinstance(outcome, Refused)


def test_what_looks_encoded_is_shown_as_it_was_written() -> None:
    """ "=?…?=" in a merge field would be decoded by the reader's mailbox, to anything."""
    word = "=?utf-8?q?=0D=0ABcc:_eve=40example.com?="
    assert parse(write(subject=word))["Subject"] == word
    [written] = write_letters(replace(batch_of(letters_to("ada@example.com")), from_name=word))
    assert isinstance(written, Written)
    assert parse(written.message)["From"].addresses[0].display_name == word


def test_a_subject_cannot_bring_headers_of_its_own() -> None:
    parsed = parse(write(subject="Hello\r\nBcc: all@example.com\r\n\r\n<b>body</b>"))
    assert parsed["Bcc"] is None
    assert parsed["Subject"] == "Hello  Bcc: all@example.com    <b>body</b>"


@pytest.mark.parametrize("address", ["news@exämple.com", "news", "a@b\r\nBcc: x@y.z", "näws@example.com"])
def test_a_sender_that_cannot_be_written_is_for_a_person_to_mend(address: str) -> None:
    with pytest.raises(ProviderRefusesUs):
        list(write_letters(replace(batch_of(letters_to("ada@example.com")), from_address=address)))


def test_half_a_character_costs_its_own_letter_only() -> None:
    letters = [Letter(1, "ada@example.com", ("\ud800",), TOKEN), Letter(2, "eve@example.com", ("Eve",), TOKEN)]
    assert [type(each) for each in write_letters(batch_of(letters))] == [Refused, Written]


def test_a_letter_with_one_body_is_no_multipart() -> None:
    assert parse(write(html="")).get_content_type() == "text/plain"
    assert parse(write(text="")).get_content_type() == "text/html"


def test_lines_that_begin_with_a_dot_are_stuffed() -> None:
    assert stuff(b".a\r\n..\r\n.\r\nb.\r\n") == b"..a\r\n...\r\n..\r\nb.\r\n"
