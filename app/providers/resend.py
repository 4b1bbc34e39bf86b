"""Resend: batches of a hundred finished emails under an idempotency key, valid ones taken though others are not.

Facts: resend.com/docs, "Send Batch Emails", "Batch validation modes", "Idempotency Keys", "Errors", "Usage limits".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

import orjson

from app.errors import ProviderDown, ProviderRefusesUs, ProviderUnsure
from app.mail import Accepted, Batch, Capabilities, Checked, Kind, Outcome, Refused
from app.providers.account import Account, read_account
from app.providers.halving import blame_us, halve
from app.providers.ids import ids_of, mailbox, unsubscribe_headers
from app.providers.refusal import REFUSED, Meant, code_of, judge, making_sense
from app.uptime import uptime

BATCH: Final = 100  # emails
KEY_LIVES: Final = 24 * 3600.0  # seconds
QUOTA_WAIT: Final = 3600.0  # seconds until a quota of the day is tried again: its end is nowhere told

KEY: Final = Meant(ProviderRefusesUs, "Resend does not take this API key: put one that may send into the pool's URL.")
DOMAIN: Final = Meant(ProviderRefusesUs, "Resend does not let this sender send: verify its domain there.")
# By an error's `name`, or by its status and name. Another body under our key means that the first call was taken; so
# may one that is still under way.
CODES: Final[Mapping[str, Meant]] = {
    "invalid_idempotency_key": REFUSED,
    "missing_api_key": KEY,
    "restricted_api_key": KEY,
    "invalid_api_key": KEY,
    "suspended_api_key": Meant(ProviderRefusesUs, "Resend has suspended this API key: ask its support why."),
    "inactive_api_key": KEY,
    "403 validation_error": DOMAIN,
    "invalid_from_address": Meant(ProviderRefusesUs, "Resend does not take the sender's address: mend it."),
    "invalid_access": KEY,
    "invalid_region": Meant(ProviderRefusesUs, "The domain's region at Resend is wrong: choose another there."),
    "validation_error": REFUSED,
    "missing_required_field": REFUSED,
    "invalid_parameter": REFUSED,
    "invalid_attachment": REFUSED,
    "invalid_idempotent_request": Meant(ProviderUnsure, "Resend has had another call under this key."),
    "concurrent_idempotent_requests": Meant(ProviderUnsure, "Resend is still working on a call with this key."),
    "rate_limit_exceeded": Meant(ProviderDown, "Resend takes no more calls for now."),
    "daily_quota_exceeded": Meant(ProviderDown, "Resend's quota of the day is used up: raise it there.", QUOTA_WAIT),
    "monthly_quota_exceeded": Meant(ProviderRefusesUs, "Resend's quota of the month is used up: raise it there."),
}


class Resend:
    """One team at Resend: `resend://:KEY@api.resend.com`."""

    def __init__(self, account: Account, *, deadline: float) -> None:
        self.account = account
        self.http = account.http("/emails/batch")
        self.headers = (
            (b"content-type", b"application/json"),
            (b"authorization", b"Bearer " + account.key.encode()),
            (b"x-batch-validation", b"permissive"),
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
            headers = [*self.headers, (b"idempotency-key", str(part.key).encode())]
            answer = judge(self.http.post(write_call(part), headers, until), CODES, "name")
            with making_sense(answer):
                outcomes = read_reply(orjson.loads(answer.body), len(part.letters))
            blame_us(outcomes)
            return outcomes

        return halve(batch, call, until)

    def look_up(self, handoff_id: int, key: UUID, lead_ids: Sequence[int]) -> dict[int, Kind]:
        """Resend can search by no id of ours; a lost call is made again under its key instead."""
        return {}

    def check(self) -> Checked:
        """The team's domains, where the key may read them; raises ProviderError."""
        answer = self.account.ask("/domains", self.headers, uptime() + self.deadline)
        if answer.status == 401 and code_of(answer, "name") == "restricted_api_key":
            return Checked("Resend knows this key. It may do nothing but send, which is enough.")
        judge(answer, CODES, "name")
        with making_sense(answer):
            domains = orjson.loads(answer.body)["data"]
            ready = [str(each["name"])[:80] for each in domains if each["status"] == "verified"]
        if not ready:
            raise ProviderRefusesUs("Resend knows this key, and no domain is verified yet: verify the sender's there.")
        more = f" and {len(ready) - 3} more" if len(ready) > 3 else ""
        return Checked(f"Resend knows this key. Verified domains: {', '.join(ready[:3])}{more}.")

    def close(self) -> None:
        self.http.close()


def read(url: str) -> Account:
    """Raises Invalid, pointer "url"."""
    return read_account(url, {}, "resend://:KEY@api.resend.com")


def write_call(batch: Batch) -> bytes:
    """The JSON array of one call, of the batch alone: repeated, it is the same bytes."""
    content, sender = batch.content, mailbox(batch.from_name, batch.from_address)
    subject, html, text = content.subject.fill, content.html.fill, content.text.fill
    emails = []
    for letter in batch.letters:
        email = {
            "from": sender,
            "to": [letter.address],
            "reply_to": batch.reply_to,
            "subject": subject(letter.values),
            "html": html(letter.values),
            "text": text(letter.values),
            "headers": unsubscribe_headers(letter),
            "tags": [{"name": name, "value": value} for name, value in ids_of(batch, letter).items()],
        }
        emails.append({name: value for name, value in email.items() if value})
    return orjson.dumps(emails)


def read_reply(told: Any, letters: int) -> list[Outcome]:
    """One Outcome per letter: those that `errors` names by their index were refused, the ids are the others', in order.

    Raises ValueError, KeyError or TypeError where the two do not answer exactly so many letters.
    """
    refused = {error["index"]: str(error["message"])[:300] for error in told.get("errors") or ()}
    ids = iter(told["data"])
    if len(told["data"]) + len(refused) != letters or not set(refused) <= set(range(letters)):
        raise ValueError(f"{len(told['data'])} ids and {len(refused)} errors for {letters} letters")
    return [Refused(refused[place]) if place in refused else _accepted(next(ids)) for place in range(letters)]


def _accepted(told: Mapping[str, Any]) -> Accepted:
    ref = told["id"]
    if not isinstance(ref, str) or not ref:
        raise ValueError("an id that is none")
    return Accepted(ref)
