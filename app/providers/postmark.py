"""Postmark: batches of finished messages, each with its own answer; what was lost is asked for by our ids.

Facts: postmarkapp.com/developer, "Send batch emails", "API error codes", "Outbound message search". No idempotency.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlencode
from uuid import UUID

import orjson

from app.errors import ProviderDown, ProviderError, ProviderRefusesUs
from app.mail import Accepted, Batch, Capabilities, Checked, Deferred, Kind, Letter, Outcome, Refused, Unsure
from app.providers.account import Account, read_account
from app.providers.halving import blame_us, fitting, halve
from app.providers.ids import ids_of, mailbox, our_id, unsubscribe_headers
from app.providers.refusal import REFUSED, Meant, judge, making_sense
from app.uptime import uptime

BATCH: Final = 500  # messages
LARGEST: Final = 50_000_000  # bytes of a call


def _stream(value: str) -> str:
    if not value or not value.replace("-", "").replace("_", "").isalnum() or not value.isascii():
        raise ValueError("the ID of a message stream, like broadcast")
    return value


OPTIONS: Final = {"stream": _stream}
SENDER: Final = Meant(ProviderRefusesUs, "Confirm the sender's domain or its signature in Postmark.")
CODES: Final[Mapping[str, Meant]] = {
    "10": Meant(ProviderRefusesUs, "Postmark does not know this server token: put the right one into the pool's URL."),
    "100": Meant(ProviderDown, "Postmark is down for maintenance."),
    "300": REFUSED,  # a field, nearly always the address
    "400": SENDER,
    "401": SENDER,
    "402": REFUSED,  # no JSON
    "403": REFUSED,  # JSON with other fields than there are
    "405": Meant(ProviderRefusesUs, "Postmark does not let this account send: its credits may be used up."),
    "406": REFUSED,  # the address bounced or complained before
    "409": REFUSED,
    "410": REFUSED,  # too many messages
    "411": REFUSED,  # an attachment
    "412": Meant(ProviderRefusesUs, "Postmark has not approved this account yet: ask there for its approval."),
    "413": Meant(ProviderRefusesUs, "Postmark does not let this account send: ask its support why."),
    "429": Meant(ProviderDown, "Postmark takes no more for now."),
    "1235": Meant(ProviderRefusesUs, "The message stream is not there: name one of this server's in the pool's URL."),
    "1236": Meant(ProviderRefusesUs, "The message stream cannot send: name another one in the pool's URL."),
}


class Postmark:
    """One server at Postmark: `postmark://:TOKEN@api.postmarkapp.com?stream=broadcast`."""

    def __init__(self, account: Account, *, deadline: float) -> None:
        self.stream = account.options.get("stream", "broadcast")
        self.account = account
        self.sends = account.http("/email/batch")
        self.questions = account.http("/messages/outbound")
        self.headers = (
            (b"accept", b"application/json"),
            (b"content-type", b"application/json"),
            (b"x-postmark-server-token", account.key.encode()),
            (b"user-agent", b"millrace"),
        )
        self.deadline = deadline
        self.capabilities = Capabilities(batch=BATCH, distinct_body=True, lookup=True, largest_call=LARGEST)

    def send(self, batch: Batch) -> list[Outcome]:
        """One Outcome per letter, in order; raises ProviderDown, ProviderUnsure or ProviderRefusesUs for all."""
        if not batch.letters:
            return []
        until = uptime() + self.deadline

        def call(part: Batch) -> list[Outcome]:
            body = fitting(write_call(part, batch.key, self.stream), self.capabilities.largest_call, "Postmark")
            answer = judge(self.sends.post(body, self.headers, until), CODES, "ErrorCode")
            with making_sense(answer):
                return read_reply(orjson.loads(answer.body), part.letters)

        return halve(batch, call, until)

    def look_up(self, handoff_id: int, key: UUID, lead_ids: Sequence[int]) -> dict[int, Kind]:
        """Leads of the call that Postmark has messages for, in whatever state: it took them. Raises ProviderError."""
        query = urlencode(
            {"count": BATCH, "offset": 0, "metadata_handoff": handoff_id, "messagestream": self.stream},
        )
        answer = judge(self.questions.get(query, self.headers, uptime() + self.deadline), CODES, "ErrorCode")
        asked = frozenset(lead_ids)
        with making_sense(answer):
            found = [message["Metadata"] for message in orjson.loads(answer.body)["Messages"]]
            # Another installation that sends through this server may count to the same numbers, not to the same key.
            known = {our_id(ids.get("lead")) for ids in found if ids.get("key") == key.hex}
        return dict.fromkeys(sorted(known & asked), Kind.SENT)

    def check(self) -> Checked:
        """The server behind the token, and its stream; raises ProviderError."""
        until = uptime() + self.deadline
        answer = judge(self.account.ask("/server", self.headers, until), CODES, "ErrorCode")
        with making_sense(answer):
            server = orjson.loads(answer.body)
            name, sandbox = str(server["Name"])[:80], server.get("DeliveryType") == "Sandbox"
        answer = self.account.ask(f"/message-streams/{self.stream}", self.headers, until)
        if answer.status in (404, 422):
            raise ProviderRefusesUs(f"The server “{name}” has no stream {self.stream}: name one of its streams.")
        judge(answer, CODES, "ErrorCode")
        with making_sense(answer):
            stream = orjson.loads(answer.body)
            if stream.get("ArchivedAt") or stream["MessageStreamType"] == "Inbound":
                raise ProviderRefusesUs(f"The stream {self.stream} cannot send: name another one.")
            handling = (stream.get("SubscriptionManagementConfiguration") or {}).get("UnsubscribeHandlingType")
        said = f"Postmark knows this token: the server “{name}”, the stream {self.stream}."
        if sandbox:
            said += " The server is a sandbox: it delivers nothing."
        if handling == "Postmark":
            said += " Set the stream's unsubscribe handling to Custom: as it is, Postmark adds a link beside ours."
        return Checked(said)

    def close(self) -> None:
        self.sends.close()
        self.questions.close()


def read(url: str) -> Account:
    """Raises Invalid, pointer "url"."""
    return read_account(url, OPTIONS, "postmark://:SERVER_TOKEN@api.postmarkapp.com")


def write_call(batch: Batch, key: UUID, stream: str) -> bytes:
    """The JSON array of one call. `key` is the whole batch's, in each part of it: calls are looked up by it."""
    content, sender = batch.content, mailbox(batch.from_name, batch.from_address)
    subject, html, text = content.subject.fill, content.html.fill, content.text.fill
    messages = []
    for letter in batch.letters:
        message = {
            "From": sender,
            "To": letter.address,
            "Subject": subject(letter.values),
            "HtmlBody": html(letter.values),
            "TextBody": text(letter.values),
            "MessageStream": stream,
            "Headers": [{"Name": name, "Value": value} for name, value in unsubscribe_headers(letter).items()],
            "Metadata": {**ids_of(batch, letter), "key": key.hex},
        }
        if batch.reply_to:
            message["ReplyTo"] = batch.reply_to
        messages.append({name: value for name, value in message.items() if value})
    return orjson.dumps(messages)


def read_reply(results: Any, letters: Sequence[Letter]) -> list[Outcome]:
    """One Outcome per letter. Raises what every letter's answer says of our account, where none of them was taken.

    Raises ValueError, KeyError or TypeError where the reply does not answer exactly these letters.
    """
    if not isinstance(results, list) or len(results) != len(letters):
        raise ValueError(f"{len(results)} answers to {len(letters)} letters")
    ours = {letter.address for letter in letters}
    for result, letter in zip(results, letters, strict=True):
        if result.get("To") != letter.address and result.get("To") in ours:
            raise ValueError("the answers are in another order than the letters")
    outcomes = [_outcome(result) for result in results]
    if all(isinstance(outcome, Deferred) for outcome in outcomes):
        raise _error(results[0])
    blame_us(outcomes)
    return outcomes


def _outcome(result: Mapping[str, Any]) -> Outcome:
    """What a row of CODES says of one letter: what is no fault of it is tried again. No code but 0 was taken."""
    code, said = result["ErrorCode"], str(result.get("Message", ""))
    if type(code) is not int:
        return Unsure(f"An answer that is not known: {dict(result)!r}"[:300])
    if code == 0:
        return Accepted(str(result["MessageID"]))
    reason = f"{code}: {said}"[:300]
    return Refused(reason) if _meant(code, said) is REFUSED else Deferred(reason)


def _meant(code: int, said: str) -> Meant:
    """300 is also said of a sender that nobody confirmed."""
    return SENDER if code == 300 and "'From'" in said else CODES.get(str(code), REFUSED)


def _error(result: Mapping[str, Any]) -> ProviderError:
    meant = _meant(result["ErrorCode"], str(result.get("Message", "")))
    return meant.error(f"{meant.advice} {result['ErrorCode']}: {result.get('Message', '')}"[:500])
