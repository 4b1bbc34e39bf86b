"""The sink: a provider for trials and benchmarks: takes real calls over HTTP, delivers nothing, and reports on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import orjson

from app.errors import Invalid, ProviderUnsure
from app.mail import (
    Accepted,
    Batch,
    Bounce,
    Capabilities,
    Checked,
    Deferred,
    Kind,
    Letter,
    Meaning,
    Outcome,
    Refused,
    Reported,
    Unsure,
)
from app.providers import standard
from app.providers.address import Address, certificates, count, read_address, tls_context
from app.providers.halving import halve
from app.providers.http import Http, taken
from app.providers.ids import unsubscribe_headers
from app.providers.refusal import making_sense
from app.providers.unread import unread
from app.uptime import uptime

OPTIONS = {
    "batch": count(1, 1000),
    "idempotent": count(0, 86400 * 7),
    "lookup": count(0, 1),
    "ca": certificates,
}
BOUNCED: Final = {kind.value: Meaning(Kind.BOUNCED, Kind.SENT, kind) for kind in Bounce}
MEANINGS: Final = {
    "accepted": Meaning(evidence=Kind.SENT, first=True),
    "dropped": Meaning(evidence=Kind.REFUSED, first=True),
    "deferred": Meaning(Kind.DEFERRED, Kind.SENT),
    "delivered": Meaning(Kind.DELIVERED, Kind.SENT),
    "bounced": BOUNCED["hard"],
    "complained": Meaning(Kind.COMPLAINED, Kind.SENT),
    "opened": Meaning(Kind.OPENED, Kind.SENT),
    "clicked": Meaning(Kind.CLICKED, Kind.SENT),
    "unsubscribed": Meaning(Kind.UNSUBSCRIBED, Kind.SENT),
}
LOOKED_UP: Final = {"accepted": Kind.SENT, "refused": Kind.REFUSED}
HEADERS = ((b"content-type", b"application/json"), (b"user-agent", b"millrace"))


@dataclass(frozen=True, slots=True)
class SinkAccount:
    """`sink+http://host:port?batch=50&idempotent=SECONDS&lookup=1`.

    `idempotent` belongs with `millrace sink --idempotent`; without `lookup` the sink is not asked what it has taken.
    """

    address: Address

    @classmethod
    def read(cls, url: str) -> SinkAccount:
        """Raises Invalid, pointer "url"."""
        address = read_address(url, OPTIONS)
        if address.user or address.path not in ("", "/"):
            raise Invalid.one("url", "The sink has neither users nor paths: sink+http://host:port.")
        return cls(address)


class Sink:
    """Calls `POST /send` with a JSON body per batch; bodies are finished here, so each letter may differ wholly."""

    def __init__(self, account: SinkAccount, *, deadline: float) -> None:
        address = account.address
        scheme = address.scheme.partition("+")[2]
        host = f"[{address.host}]" if ":" in address.host else address.host
        port = f":{address.port}" if address.port else ""
        context = tls_context(address.options.get("ca")) if scheme == "https" else None
        self.http = Http(f"{scheme}://{host}{port}/send", context, address.resolve)
        self.questions = Http(f"{scheme}://{host}{port}/lookup", context, address.resolve)
        self.health = Http(f"{scheme}://{host}{port}/health", context, address.resolve)
        self.deadline = deadline
        self.capabilities = Capabilities(
            batch=address.options.get("batch", 50),
            distinct_body=True,
            idempotent_for=float(address.options.get("idempotent", 0)),
            lookup=bool(address.options.get("lookup", 0)),
        )

    def send(self, batch: Batch) -> list[Outcome]:
        """One Outcome per letter, in order; raises ProviderDown, ProviderUnsure or ProviderRefusesUs for all."""
        if not batch.letters:
            return []
        until = uptime() + self.deadline

        def call(part: Batch) -> list[Outcome]:
            return read_reply(taken(self.http.post(write_call(part), HEADERS, until)).body, part.letters)

        return halve(batch, call, until)

    def look_up(self, handoff_id: int, key: UUID, lead_ids: Sequence[int]) -> dict[int, Kind]:
        """Leads that the sink took, or dropped, in any call of this hand-off; raises ProviderError."""
        answer = taken(self.questions.post(orjson.dumps({"handoff": handoff_id}), HEADERS, uptime() + self.deadline))
        asked = frozenset(lead_ids)
        try:
            known = {lead: LOOKED_UP[status] for lead, status in orjson.loads(answer.body)["known"]}
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
            raise ProviderUnsure(f"The answer makes no sense ({type(error).__name__}: {error}).", answer.raw) from error
        return {lead: kind for lead, kind in known.items() if lead in asked}

    def check(self) -> Checked:
        """Whether it is one; raises ProviderError."""
        answer = taken(self.health.get("", HEADERS, uptime() + self.deadline))
        with making_sense(answer):
            emails = int(orjson.loads(answer.body)["accepted"])
        return Checked(f"The sink answers. It has taken {emails:,} emails, and delivered none, as always.")

    def close(self) -> None:
        self.http.close()
        self.questions.close()
        self.health.close()


def write_call(batch: Batch) -> bytes:
    """The JSON body of one call, every letter filled."""
    subject, html, text = batch.content.subject.fill, batch.content.html.fill, batch.content.text.fill
    letters = [
        {
            "lead": letter.lead_id,
            "to": letter.address,
            "subject": subject(letter.values),
            "html": html(letter.values),
            "text": text(letter.values),
            "headers": unsubscribe_headers(letter),
        }
        for letter in batch.letters
    ]
    return orjson.dumps(
        {
            "handoff": batch.handoff_id,
            "key": batch.key,
            "campaign": batch.campaign_id,
            "run": batch.run,
            "from": {"name": batch.from_name, "address": batch.from_address},
            "reply_to": batch.reply_to,
            "letters": letters,
        }
    )


def read_reply(body: bytes, letters: Sequence[Letter]) -> list[Outcome]:
    """One Outcome per letter. A reply that does not name exactly these leads in this order raises ProviderUnsure."""
    try:
        results = orjson.loads(body)["results"]
        if [result["lead"] for result in results] != [letter.lead_id for letter in letters]:
            raise ValueError("other leads than were sent")
        return [_outcome(result) for result in results]
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raw = body[:2000].decode("utf-8", "replace")
        raise ProviderUnsure(f"The reply makes no sense ({type(error).__name__}: {error}).", raw) from error


def _outcome(result: dict[str, object]) -> Outcome:
    match result:
        case {"status": "accepted", "id": str(ref)}:
            return Accepted(ref)
        case {"status": "refused", "reason": str(reason)}:
            return Refused(reason[:300])
        case {"status": "deferred", "reason": str(reason)}:
            return Deferred(reason[:300])
        case _:
            return Unsure(f"An answer that is not known: {result!r}"[:300])


class SinkWebhooks:
    """`{"events": [{"id", "type", "time", "handoff", "lead", "ref", …}]}`, signed as Standard Webhooks says."""

    check_secret = staticmethod(standard.check_secret)

    def verify(self, headers: Mapping[str, str], body: bytes, secret: str) -> str:
        return standard.verify(headers, body, secret)

    def read_events(self, body: bytes, delivery: str) -> list[Reported]:
        """Raises ValueError, KeyError or TypeError for what is no such body."""
        return [_reported(told) for told in orjson.loads(body)["events"]]


def _reported(told: dict[str, Any]) -> Reported:
    meaning = MEANINGS.get(told["type"])
    if meaning is None:
        return unread(told["type"], told, _at)
    if meaning.kind is Kind.BOUNCED:
        meaning = BOUNCED.get(told.get("bounce", ""), meaning)
    return Reported(
        key=told["id"],
        at=_at(told),
        handoff_id=_our_id(told.get("handoff")),
        lead_id=_our_id(told.get("lead")),
        meaning=meaning,
        ref=told.get("ref", ""),
        machine=told.get("machine") is True,
        url=told.get("url"),
        reason=told.get("reason"),
    )


def _at(told: dict[str, Any]) -> datetime:
    at = datetime.fromisoformat(told["time"])
    if at.tzinfo is None:
        raise ValueError(f"a time without a zone: {told['time']}")
    return at


def _our_id(value: object) -> int:
    """0 for what we never gave: an email that somebody else sent through the same account."""
    return value if type(value) is int and 0 < value < 1 << 63 else 0
