"""SendGrid: one text for all with a tag for each slot, and a personalization for each letter.

Facts: twilio.com/docs/sendgrid, "Mail Send" (its limitations and errors), "Substitution tags", "Rate limits". A call is
taken or refused as a whole; what comes of each letter is told by the Event Webhook. No idempotency, no look-up.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC
from email.utils import parsedate_to_datetime
from hashlib import blake2b
from typing import Any, Final
from uuid import UUID

import orjson

from app.errors import ProviderRefusesUs, ProviderUnsure
from app.mail import Accepted, Batch, Capabilities, Checked, Kind, Letter, Outcome, Parts
from app.providers.account import Account, read_account
from app.providers.halving import CallRefused, fitting, halve
from app.providers.http import Answer
from app.providers.ids import ids_of, unsubscribe_headers
from app.providers.refusal import REFUSED, Meant, Row, judge_words, making_sense
from app.providers.variables import template
from app.uptime import uptime

BATCH: Final = 1000  # personalizations
LARGEST: Final = 30_000_000 - 1  # bytes of a call
SUBSTITUTIONS: Final = 10_000  # bytes of a personalization's tags and values: the smaller of two documented limits
PREFIX: Final = "millrace_"  # of our ids: in events they stand between SendGrid's own fields

ROWS: Final[Sequence[Row]] = (
    (
        401,
        "maximum credits exceeded",
        Meant(
            ProviderRefusesUs,
            "SendGrid's credits are used up: raise the plan, or resume the pool once they are renewed.",
        ),
    ),
    (
        401,
        "",
        Meant(ProviderRefusesUs, "SendGrid does not know this API key: put one that may send into the pool's URL."),
    ),
    (
        403,
        "sender identity",
        Meant(ProviderRefusesUs, "Verify the sender's address or its domain in SendGrid (Sender Authentication)."),
    ),
    (
        403,
        "",
        Meant(ProviderRefusesUs, "SendGrid does not let this API key send: give it Mail Send, or ask its support why."),
    ),
    (400, "[from", Meant(ProviderRefusesUs, "SendGrid does not take the sender: correct its name or address.")),
    (400, "[reply_to", Meant(ProviderRefusesUs, "SendGrid does not take the reply address: correct the sender's.")),
    (400, "", REFUSED),
)


class SendGrid:
    """One account: `sendgrid://:KEY@api.sendgrid.com`, or `@api.eu.sendgrid.com`."""

    def __init__(self, account: Account, *, deadline: float) -> None:
        self.account = account
        self.http = account.http("/v3/mail/send")
        self.headers = (
            (b"authorization", f"Bearer {account.key}".encode()),
            (b"content-type", b"application/json"),
            (b"user-agent", b"millrace"),
        )
        self.deadline = deadline
        self.capabilities = Capabilities(batch=BATCH, distinct_body=False, own_answers=False, largest_call=LARGEST)

    def send(self, batch: Batch) -> list[Outcome]:
        """One Outcome per letter, in order; raises ProviderDown, ProviderUnsure or ProviderRefusesUs for all.

        A letter with longer values than SendGrid substitutes leaves in a call of its own, with its body filled here.
        """
        if not batch.letters:
            return []
        until = uptime() + self.deadline

        def call(part: Batch) -> list[Outcome]:
            body = fitting(write_call(part), self.capabilities.largest_call, "SendGrid")
            answer = self.http.post(body, self.headers, until)
            judge_words(answer, ROWS, _said(answer), _reset(answer.headers))
            return [Accepted(read_reply(answer))] * len(part.letters)

        return halve(batch, call, until)

    def look_up(self, handoff_id: int, key: UUID, lead_ids: Sequence[int]) -> dict[int, Kind]:
        """SendGrid sells its search of messages apart, and finds them late: nobody asks it."""
        return {}

    def check(self) -> Checked:
        """The key's rights, and the credits where it may read them; raises ProviderError."""
        until = uptime() + self.deadline
        answer = self.account.ask("/v3/scopes", self.headers, until)
        judge_words(answer, ROWS, _said(answer))
        with making_sense(answer):
            scopes = frozenset(orjson.loads(answer.body)["scopes"])
        if "mail.send" not in scopes:
            raise ProviderRefusesUs("SendGrid knows this API key, which may not send: give it the right “Mail Send”.")
        said = "SendGrid knows this API key, and it may send."
        if "user.credits.read" not in scopes:
            return Checked(said)
        answer = self.account.ask("/v3/user/credits", self.headers, until)
        if answer.status != 200:  # some plans have no credits
            return Checked(said)
        with making_sense(answer):
            told = orjson.loads(answer.body)
            return Checked(f"{said} {int(told['remain']):,} of {int(told['total']):,} credits are left.")

    def close(self) -> None:
        self.http.close()


def read(url: str) -> Account:
    """Raises Invalid, pointer "url"."""
    return read_account(url, {}, "sendgrid://:API_KEY@api.sendgrid.com")


def write_call(batch: Batch) -> bytes:
    """The JSON body of one call. Raises CallRefused where one of several letters has too many values."""
    # Nobody can guess the tags, so no lead's value can hold one.
    nonce = blake2b(batch.key.bytes, digest_size=6).hexdigest()
    tags = {slot: f"-m{nonce}x{slot}-" for slot in {*batch.content.html.slots, *batch.content.text.slots}}
    letters = [_personalization(batch, letter, tags) for letter in batch.letters]
    filled = any(_size(letter["substitutions"]) > SUBSTITUTIONS for letter in letters)
    if filled and len(letters) > 1:
        raise CallRefused(f"A letter has more than {SUBSTITUTIONS:,} bytes of values.")
    if filled:
        letters[0]["substitutions"] = {}
    told: dict[str, Any] = {
        "personalizations": letters,
        "from": _sender(batch),
        "content": [
            {"type": type_, "value": value}
            for type_, parts in (("text/plain", batch.content.text), ("text/html", batch.content.html))
            if (value := parts.fill(batch.letters[0].values) if filled else _template(parts, tags))
        ],
        # Its own unsubscribe link and header would come beside ours, and end up in lists that we do not see.
        "tracking_settings": {"subscription_tracking": {"enable": False}},
    }
    if batch.reply_to:
        told["reply_to"] = {"email": batch.reply_to}
    return orjson.dumps(told)


def read_reply(answer: Answer) -> str:
    """The one id that SendGrid gives for all letters of a call; raises ProviderUnsure where it gives none."""
    ref = answer.headers.get("x-message-id", "")
    if answer.status != 202 or not ref:
        raise ProviderUnsure("The reply makes no sense: it is no 202 with an X-Message-Id.", answer.raw)
    return ref


def _personalization(batch: Batch, letter: Letter, tags: Mapping[int, str]) -> dict[str, Any]:
    return {
        "to": [{"email": letter.address}],
        "subject": batch.content.subject.fill(letter.values),
        "headers": unsubscribe_headers(letter),
        "custom_args": {f"{PREFIX}{name}": value for name, value in ids_of(batch, letter).items()},
        "substitutions": {tag: letter.values[slot] for slot, tag in tags.items()},
    }


def _sender(batch: Batch) -> dict[str, str]:
    name = "".join(each if each.isprintable() else " " for each in batch.from_name).strip()
    return {"email": batch.from_address, "name": name} if name else {"email": batch.from_address}


def _template(parts: Parts, tags: Mapping[int, str]) -> str:
    return template(parts, tags.__getitem__)


def _size(substitutions: Mapping[str, str]) -> int:
    return sum(len(tag) + len(value.encode("utf-8", "replace")) for tag, value in substitutions.items())


def _said(answer: Answer) -> str:
    """Its errors with their fields: `[personalizations.0.to.0.email] Does not contain a valid address.`"""
    try:
        errors = orjson.loads(answer.body)["errors"]
        return " ".join(f"[{each.get('field') or ''}] {each['message']}" for each in errors)
    except (KeyError, TypeError, ValueError, AttributeError):
        return answer.raw


def _reset(headers: Mapping[str, str]) -> float | None:
    """Seconds until X-RateLimit-Reset, a moment in Unix time, by the provider's own clock."""
    moment = headers.get("x-ratelimit-reset", "")
    if not (moment.isascii() and moment.isdecimal()):
        return None
    try:
        now = parsedate_to_datetime(headers["date"]).replace(tzinfo=UTC).timestamp()
    except (KeyError, ValueError):
        now = time.time()
    return min(max(0.0, int(moment[:12]) - now), 3600.0)
