"""Mailgun: one message for up to a thousand addresses, with variables for each of them.

Facts: documentation.mailgun.com, "Batch sending", "Messages", "API response codes". A call is taken or refused as a
whole; what comes of each letter is told by webhooks. No idempotency. Posted as multipart/form-data, as its own pages
do: an URL-encoded form of HTML and JSON is half as large again.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import UUID

import orjson

from app.errors import Invalid, ProviderDown, ProviderRefusesUs, ProviderUnsure
from app.mail import Accepted, Batch, Capabilities, Checked, Kind, Letter, Outcome
from app.providers.account import Account, read_account
from app.providers.halving import CallRefused, fitting, halve
from app.providers.http import Answer
from app.providers.ids import ids_of, mailbox, unsubscribe_headers
from app.providers.refusal import REFUSED, Meant, Row, judge_words, making_sense
from app.providers.variables import template
from app.uptime import uptime

BATCH: Final = 1000  # addresses
LARGEST: Final = 25_000_000  # bytes of a call
PREFIX: Final = "millrace_"  # of our ids among the user's variables
EXAMPLE: Final = "mailgun://:API_KEY@api.mailgun.net/mg.example.com"
DOMAIN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*\.[A-Za-z0-9-]+")
# What may be taken for a placeholder of Mailgun's own (%recipient.x%, %unsubscribe_url%), or melt into one of ours.
LIKE_OURS: Final = re.compile(r"\A%|%\Z|%(?=[\w.:-]+%)")

MISSING: Final = "parameter is missing"
HOURLY: Final = Meant(ProviderDown, "Mailgun takes no more for this hour: ask it for a higher limit.", 600.0)
ROWS: Final[Sequence[Row]] = (
    (0, "recipient limit exceeded", HOURLY),
    (0, "try again after", HOURLY),
    (
        401,
        "",
        Meant(
            ProviderRefusesUs, "Mailgun does not know this API key: put the domain's sending key into the pool's URL."
        ),
    ),
    (402, "", Meant(ProviderRefusesUs, "Mailgun does not let this account send: look at its billing there.")),
    (403, "", Meant(ProviderRefusesUs, "Mailgun does not let this domain send: verify it there, or ask its support.")),
    (
        404,
        "",
        Meant(
            ProviderRefusesUs, "Mailgun has no such domain here: check its name, and the host (EU: api.eu.mailgun.net)."
        ),
    ),
    (400, "'from'", Meant(ProviderRefusesUs, "Mailgun does not take the sender: correct its name or address.")),
    (400, "from parameter", Meant(ProviderRefusesUs, "Mailgun does not take the sender: correct its address.")),
    (400, "not allowed to send", Meant(ProviderRefusesUs, "Mailgun does not let this domain send: look there why.")),
    (400, "", REFUSED),
)


class Mailgun:
    """One sending domain: `mailgun://:KEY@api.mailgun.net/DOMAIN`, or `@api.eu.mailgun.net`."""

    def __init__(self, account: Account, *, deadline: float) -> None:
        root, _, self.domain = account.base.rpartition("/")
        self.account = replace(account, base=root.removesuffix("/v3"))
        self.http = self.account.http(f"/v3/{self.domain}/messages")
        self.authorization = b"Basic " + b64encode(f"api:{account.key}".encode())
        self.deadline = deadline
        self.capabilities = Capabilities(batch=BATCH, distinct_body=False, own_answers=False, largest_call=LARGEST)

    def send(self, batch: Batch) -> list[Outcome]:
        """One Outcome per letter, in order; raises ProviderDown, ProviderUnsure or ProviderRefusesUs for all."""
        if not batch.letters:
            return []
        until = uptime() + self.deadline

        def call(part: Batch) -> list[Outcome]:
            boundary = f"millrace-{_nonce(part)}"
            headers = (
                (b"authorization", self.authorization),
                (b"content-type", f"multipart/form-data; boundary={boundary}".encode()),
                (b"user-agent", b"millrace"),
            )
            form = fitting(write_form(fields_of(part), boundary), self.capabilities.largest_call, "Mailgun")
            answer = self.http.post(form, headers, until)
            return [Accepted(read_reply(judge_words(answer, ROWS, _said(answer))))] * len(part.letters)

        return halve(batch, call, until)

    def look_up(self, handoff_id: int, key: UUID, lead_ids: Sequence[int]) -> dict[int, Kind]:
        """Mailgun's events cannot be asked for by our ids."""
        return {}

    def check(self) -> Checked:
        """Ask to send nothing, and be told that a field is missing: a key that may only send can prove no more.

        What an account's key may read of the domain comes with it. Raises ProviderError.
        """
        until = uptime() + self.deadline
        headers = ((b"authorization", self.authorization), (b"user-agent", b"millrace"))
        form = (b"content-type", b"application/x-www-form-urlencoded")
        answer = self.http.post(b"o%3Atestmode=yes", (*headers, form), until)
        if answer.status != 400 or MISSING not in _said(answer):
            judge_words(answer, ROWS, _said(answer))
            read_reply(answer)
            raise ProviderUnsure("Mailgun took an email that has neither sender nor reader.", answer.raw)
        said = f"Mailgun knows this key, and it may send for {self.domain}."
        answer = self.account.ask(f"/v4/domains/{self.domain}", headers, until)
        if answer.status != 200:  # a domain's sending key may not look
            return Checked(said)
        with making_sense(answer):
            state = str(orjson.loads(answer.body)["domain"]["state"])[:40]
        if state != "active":
            raise ProviderRefusesUs(f"Mailgun says that {self.domain} is {state}: finish its DNS records there.")
        return Checked(f"{said} The domain is verified.")

    def close(self) -> None:
        self.http.close()


def read(url: str) -> Account:
    """Raises Invalid, pointer "url"."""
    account = read_account(url, {}, EXAMPLE)
    if not DOMAIN.fullmatch(urlsplit(account.base).path.rpartition("/")[2]):
        raise Invalid.one("url", f"The URL needs the sending domain at its end: {EXAMPLE}.")
    return account


def fields_of(batch: Batch) -> Iterator[tuple[str, str]]:
    """The form's fields. Raises CallRefused where one form cannot hold letters so different, or two of one address."""
    letters, content = batch.letters, batch.content
    headers = [unsubscribe_headers(letter) for letter in letters]
    if len({letter.address for letter in letters}) < len(letters) or len({len(each) for each in headers}) > 1:
        raise CallRefused("Two letters go to one address, or some have no unsubscribe link.")
    # Nobody can guess the variables' names, so no lead's value can hold one.
    mark = _nonce(batch)
    slots = sorted({*content.html.slots, *content.text.slots})
    yield "from", mailbox(batch.from_name, batch.from_address)
    for letter in letters:
        yield "to", letter.address
    yield "subject", f"%recipient.{mark}_subject%"
    for name, parts in (("text", content.text), ("html", content.html)):
        body = template(parts, lambda slot: f"%recipient.{mark}_{slot}%", lambda text: _escape(text, mark))
        if body:
            yield name, body
    if batch.reply_to:
        yield "h:Reply-To", batch.reply_to
    for name in headers[0]:
        yield f"h:{name}", f"%recipient.{mark}_{name}%"
    for name in ids_of(batch, letters[0]):
        yield f"v:{PREFIX}{name}", f"%recipient.{mark}_{name}%"
    told = {
        letter.address: _variables(batch, letter, own, slots, mark)
        for letter, own in zip(letters, headers, strict=True)
    }
    yield "recipient-variables", orjson.dumps(told).decode()


def write_form(fields: Iterator[tuple[str, str]], boundary: str) -> bytes:
    """multipart/form-data (RFC 7578)."""
    pieces = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields
    ]
    return b"".join((*pieces, f"--{boundary}--\r\n".encode()))


def read_reply(answer: Answer) -> str:
    """The one id of all emails of a call. Raises ProviderRefusesUs where it was no call at all, else ProviderUnsure."""
    if b"Mailgun Magnificent API" in answer.body[:1000]:
        raise ProviderRefusesUs("This is Mailgun, but not where emails are sent: check the pool's URL.", answer.raw)
    with making_sense(answer):
        told = orjson.loads(answer.body)
        if not told["message"].startswith("Queued"):
            raise ValueError("not queued")
        ref = told["id"].strip("<>")
        if not ref:
            raise ValueError("no id")
        return str(ref)


def _variables(
    batch: Batch, letter: Letter, headers: Mapping[str, str], slots: Sequence[int], mark: str
) -> dict[str, Any]:
    named = {"subject": batch.content.subject.fill(letter.values), "percent": "%", **headers, **ids_of(batch, letter)}
    return {f"{mark}_{name}": value for name, value in named.items()} | {
        f"{mark}_{slot}": letter.values[slot] for slot in slots
    }


def _escape(static: str, mark: str) -> str:
    return LIKE_OURS.sub(f"%recipient.{mark}_percent%", static)


def _nonce(batch: Batch) -> str:
    return "m" + blake2b(batch.key.bytes, digest_size=8).hexdigest()


def _said(answer: Answer) -> str:
    try:
        return str(orjson.loads(answer.body)["message"])
    except (KeyError, TypeError, ValueError):
        return answer.raw
