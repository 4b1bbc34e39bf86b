"""Brevo: up to a thousand versions of a message in one call, each with a body and headers of its own.

Facts: developers.brevo.com, "Batch send transactional emails", "Idempotency for batch emails", "Rate limit headers".
A key that comes again is refused, not answered as before: it proves that the first call arrived, and brings no ids.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from email.header import Header
from html import escape
from typing import Any, Final
from uuid import UUID

import orjson

from app.errors import ProviderDown, ProviderRefusesUs
from app.mail import Accepted, Batch, Capabilities, Checked, Kind, Letter, Outcome, Unsure
from app.providers.account import Account, read_account
from app.providers.halving import halve
from app.providers.http import Answer
from app.providers.ids import ids_of, unsubscribe_headers
from app.providers.refusal import REFUSED, Meant, code_of, judge_code, making_sense
from app.uptime import uptime

BATCH: Final = 1000  # versions of a message
KEY_LIVES: Final = 15 * 60.0  # seconds: half an hour by the guide, a quarter by the changelog
KNOWN_KEY: Final = frozenset({"duplicate_parameter", "duplicate_request"})
IN_DOUBT: Final = "Brevo has had a call with this key: it tells what became of it by webhooks alone."

CODES: Final[Mapping[str, Meant]] = {
    "unauthorized": Meant(
        ProviderRefusesUs, "Brevo does not take this API key from this machine: mind its authorised IP addresses, too."
    ),
    "permission_denied": Meant(ProviderRefusesUs, "Brevo does not let this API key send: ask for it there."),
    "account_under_validation": Meant(ProviderRefusesUs, "Brevo is still checking this account: wait for its answer."),
    "not_enough_credits": Meant(ProviderRefusesUs, "The credits at Brevo are used up: buy some, or wait for the next."),
    "invalid_sender": Meant(ProviderRefusesUs, "Brevo does not let this sender send: verify it or its domain there."),
    "invalid_parameter": REFUSED,
    "missing_parameter": REFUSED,
    "out_of_range": REFUSED,
    "bad_request": REFUSED,
    "too_many_requests": Meant(ProviderDown, "Brevo takes no more calls for now."),
}

# Brevo fills templates in whatever it is sent. What a letter says must come out as it is: the marks are broken up.
_MARK: Final = re.compile(r"\{(?=[{%#])")
_RAW: Final = re.compile(r"(<style\b.*?</style\s*>|<script\b.*?</script\s*>)", re.IGNORECASE | re.DOTALL)
_SPECIAL: Final = re.compile(r"[()<>\[\]:;@\\,.\"]")


class Brevo:
    """One account at Brevo: `brevo://:KEY@api.brevo.com`."""

    def __init__(self, account: Account, *, deadline: float) -> None:
        self.account = account
        self.http = account.http("/v3/smtp/email")
        self.headers = (
            (b"accept", b"application/json"),
            (b"content-type", b"application/json"),
            (b"api-key", account.key.encode()),
            (b"user-agent", b"millrace"),
        )
        self.deadline = deadline
        self.capabilities = Capabilities(batch=BATCH, distinct_body=True, idempotent_for=KEY_LIVES)

    def send(self, batch: Batch) -> list[Outcome]:
        """One Outcome per letter, in order; raises ProviderDown, ProviderUnsure or ProviderRefusesUs for all."""
        if not batch.letters:
            return []
        until = uptime() + self.deadline

        def call(part: Batch) -> list[Outcome]:
            answer = self.http.post(write_call(part), self.headers, until)
            code = _code(answer)
            if code in KNOWN_KEY:
                return [Unsure(IN_DOUBT)] * len(part.letters)
            judge_code(answer, code, CODES, _wait(answer))
            with making_sense(answer):
                return read_reply(orjson.loads(answer.body), len(part.letters))

        return halve(batch, call, until)

    def look_up(self, handoff_id: int, key: UUID, lead_ids: Sequence[int]) -> dict[int, Kind]:
        """Brevo's log of events names addresses and none of our ids."""
        return {}

    def check(self) -> Checked:
        """The account behind the key, and its credits for email; raises ProviderError."""
        answer = self.account.ask("/v3/account", self.headers, uptime() + self.deadline)
        judge_code(answer, _code(answer), CODES, _wait(answer))
        with making_sense(answer):
            told = orjson.loads(answer.body)
            plans = [plan for plan in told["plan"] if plan["type"] != "sms"]
            left = [f"{plan['type']}: {int(plan['credits']):,} emails left" for plan in plans if "credits" in plan]
            enabled = (told.get("relay") or {}).get("enabled", True)
        if not enabled:
            raise ProviderRefusesUs("Brevo has not switched on transactional email for this account: ask for it there.")
        return Checked(f"Brevo knows this API key{' (' + '; '.join(left)[:200] + ')' if left else ''}.")

    def close(self) -> None:
        self.http.close()


def read(url: str) -> Account:
    """Raises Invalid, pointer "url"."""
    return read_account(url, {}, "brevo://:KEY@api.brevo.com")


def write_call(batch: Batch) -> bytes:
    """The JSON object of one call, of the batch alone: repeated, it is the same bytes.

    What stands outside of the versions is a default that none of them uses, and no lead's: the letter with empty slots.
    """
    content = batch.content
    empty = [""] * (
        1 + max((slot for part in (content.subject, content.html, content.text) for slot in part.slots), default=0)
    )
    call: dict[str, Any] = {
        "sender": {"email": batch.from_address, **_name(batch.from_name)},
        **_content(batch, empty),
        "headers": {"idempotencyKey": str(batch.key)},
        "tags": [f"campaign-{batch.campaign_id}"],
        "messageVersions": [_version(batch, letter) for letter in batch.letters],
    }
    if batch.reply_to:
        call["replyTo"] = {"email": batch.reply_to}
    return orjson.dumps(call)


def _version(batch: Batch, letter: Letter) -> dict[str, Any]:
    custom = orjson.dumps(ids_of(batch, letter)).decode()
    return {
        "to": [{"email": letter.address}],
        **_content(batch, letter.values),
        "headers": {"X-Mailin-custom": custom, **unsubscribe_headers(letter)},
    }


def _content(batch: Batch, values: Sequence[str]) -> dict[str, str]:
    """Brevo wants an HTML part of every email."""
    text = batch.content.text.fill(values)
    html = batch.content.html.fill(values) or f'<pre style="white-space: pre-wrap">{escape(text)}</pre>'
    written = {"subject": unmarked(batch.content.subject.fill(values)), "htmlContent": unmarked_html(html)}
    return {**written, "textContent": unmarked(text)} if text else written


def unmarked(text: str) -> str:
    """Text in which no template begins: it looks the same, by a space of no width."""
    return _MARK.sub("{\u200b", text) if _MARK.search(text) else text


def unmarked_html(html: str) -> str:
    """HTML in which no template begins: braces come by their number, and parted by a space in styles and scripts."""
    if not _MARK.search(html):
        return html
    pieces = _RAW.split(html)
    pieces[0::2] = [_MARK.sub("&#123;", piece) for piece in pieces[0::2]]
    pieces[1::2] = [_MARK.sub("{ ", piece) for piece in pieces[1::2]]
    return "".join(pieces)


def _name(name: str) -> dict[str, str]:
    """Brevo drops a name that has both a comma, or the like, and a letter beyond ASCII, unless it comes encoded."""
    plain = "".join(each if each.isprintable() else " " for each in name).strip()
    encoded = (
        Header(plain, "utf-8", maxlinelen=998).encode() if not plain.isascii() and _SPECIAL.search(plain) else plain
    )
    return {"name": encoded} if encoded else {}


def read_reply(told: Any, letters: int) -> list[Outcome]:
    """One Outcome per letter; raises ValueError, KeyError or TypeError for a reply that does not name just so many."""
    ids = told["messageIds"] if "messageIds" in told else [told["messageId"]]
    if not isinstance(ids, list) or len(ids) != letters or not all(isinstance(each, str) and each for each in ids):
        raise ValueError(f"other than {letters} ids")
    return [Accepted(each) for each in ids]


def _code(answer: Answer) -> str:
    """The error's code; "invalid_sender" where an invalid parameter is the sender. "" where it is no refusal."""
    if not 400 <= answer.status < 500:
        return ""
    code = code_of(answer, "code")
    if code == "invalid_parameter" and "sender" in code_of(answer, "message").lower():
        return "invalid_sender"
    return code


def _wait(answer: Answer) -> float | None:
    """Seconds until the limit is reset, where Brevo tells."""
    value = answer.headers.get("x-sib-ratelimit-reset", "")
    return float(value[:6]) if value.isascii() and value.isdecimal() else None
