"""Reading what programs ask for: each message is checked whole, and what is wrong is named by its place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection

from app.addresses import match_plain, read_address
from app.errors import Fault, Invalid
from app.models import message, stream
from app.models.stream import OWN, Kind, Known, Template, Wanted
from app.models.template import LONGEST_BODY, LONGEST_SUBJECT

AHEAD: Final = timedelta(days=366)  # that a message may wait
MOST: Final = 1000  # messages that are asked for at once
MOST_FAULTS: Final = 100
LARGEST_DATA: Final = 64 * 1024  # bytes of JSON
LARGEST_METADATA: Final = 4 * 1024
MOST_METADATA: Final = 50  # entries
LONGEST_KEY: Final = 255  # characters
NUL: Final = b"\\u0000"  # as JSON has it: PostgreSQL's own functions cannot read it
OWN_WORDS: Final = Template(OWN, None, transactional=True)
NOTHING: Final[Mapping[str, Any]] = {}


@dataclass(frozen=True, slots=True)
class NewMessage:
    """One message as a program asks for it: a template by its name, or a subject with HTML or text or both.

    `sender` is the address of one of the organisation's senders; None: the template's, or the only one. `send_at` has a
    time zone; None, or a time that has passed: now. `data` are the template's values. `metadata` comes back with the
    message's status; nobody else sees it. Of two with one `idempotency_key` the second is the first.
    """

    to: str
    template: str | None = None
    subject: str | None = None
    html: str | None = None
    text: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    sender: str | None = None
    send_at: datetime | None = None
    metadata: Mapping[str, Any] | None = None
    idempotency_key: str | None = None


class Asked(NamedTuple):
    """A message that may be accepted. `key` and `digest` are hexadecimal, `key` None where it has none."""

    email: str
    domain: str
    kind: Kind
    send_at: datetime | None
    data: bytes
    metadata: bytes | None
    key: str | None
    digest: str


class Place(NamedTuple):
    """An address that may get mail, and its domain; or what is wrong with it."""

    email: str
    domain: str
    faults: Sequence[str] = ()


def read(
    conn: Connection, organisation_id: int, asked: Sequence[NewMessage], *, numbers: int
) -> tuple[Known, list[Asked]]:
    """Check messages, in order; and what is known of what they name, with so many numbers for their ids.

    Raises Invalid naming every field that is wrong: "0.to", "17.template".
    """
    if not asked:
        raise Invalid.one("", "There is no message.")
    if len(asked) > MOST:
        raise Invalid.one("", f"These are {len(asked):,} messages; {MOST:,} is the most at once.")
    places = [_read_place(each.to) for each in asked]
    wanted = Wanted(
        numbers=numbers,
        templates={each.template for each in asked if each.template is not None},
        addresses={each.sender.strip().lower() for each in asked if each.sender is not None},
        domains={each.domain for each in places if each.domain},
    )
    known = stream.look_up(conn, organisation_id, wanted)
    reader = _Reader(known)
    found = [reader.read(number, each, place) for number, (each, place) in enumerate(zip(asked, places, strict=True))]
    if reader.faults:
        raise Invalid(reader.faults[:MOST_FAULTS])
    return known, [each for each in found if each is not None]


def _read_place(written: str) -> Place:
    if written.isascii() and (plain := match_plain(written.lower())):
        return Place(plain[0], plain[1])
    try:
        return Place(*read_address(written))
    except Invalid as error:
        return Place("", "", [fault.message for fault in error.faults])


class _Reader:
    def __init__(self, known: Known) -> None:
        self.known = known
        self.latest = known.now + AHEAD
        self.kinds: dict[tuple[str, str | None], Kind] = {}  # of a template and a sender, as they were written
        self.faults: list[Fault] = []

    def read(self, place: int, asked: NewMessage, to: Place) -> Asked | None:
        before = len(self.faults)
        if to.faults:
            self.faults += [Fault(f"{place}.to", message) for message in to.faults]
        kind = self._kind(place, asked)
        if asked.send_at is not None:
            self._time(place, asked.send_at)
        if kind.template_id == OWN:
            own = {"subject": asked.subject, "html": asked.html or "", "text": asked.text or ""}
            data = self._json(place, "html", own, 4 * LONGEST_BODY)
        else:
            data = self._json(place, "data", asked.data, LARGEST_DATA)
        metadata = None if not asked.metadata else self._metadata(place, asked.metadata)
        key, digest = (None, "") if asked.idempotency_key is None else self._key(place, asked, data, metadata)
        if len(self.faults) > before:
            return None
        return Asked(to.email, to.domain, kind, asked.send_at, data, metadata, key, digest)

    def _kind(self, place: int, asked: NewMessage) -> Kind:
        """Its template, OWN for none, and its sender. Of a thousand messages nearly all have the same."""
        if asked.template is None or asked.subject is not None or asked.html is not None or asked.text is not None:
            return self._find_kind(place, asked)
        found = self.kinds.get((asked.template, asked.sender))
        if found is None:
            before = len(self.faults)
            found = self._find_kind(place, asked)
            if len(self.faults) == before:
                self.kinds[asked.template, asked.sender] = found
        return found

    def _find_kind(self, place: int, asked: NewMessage) -> Kind:
        template = self._content(place, asked)
        sender_id = self._sender(place, asked.sender, template.sender_id)
        if template.transactional and sender_id in self.known.marketing_alone:
            said = "The pool of this sender is for campaigns alone: give the sender a pool for messages."
            self._fault(place, "sender", said)
        return Kind(template.id, sender_id)

    def _fault(self, place: int, name: str, message: str) -> None:
        self.faults.append(Fault(f"{place}.{name}", message))

    def _content(self, place: int, asked: NewMessage) -> Template:
        """The template; OWN_WORDS for none."""
        if asked.template is not None:
            if asked.subject is not None or asked.html is not None or asked.text is not None:
                self._fault(place, "template", "A message has a template, or its own subject and body: not both.")
            found = self.known.templates.get(asked.template.lower())
            if found is None:
                self._fault(place, "template", f"There is no template named {asked.template[:80]!r}.")
                return OWN_WORDS
            return found
        if asked.data:
            self._fault(place, "data", "Data fill a template: a message without one has its words in html and text.")
        self._own(place, asked)
        return OWN_WORDS

    def _own(self, place: int, asked: NewMessage) -> None:
        if not (asked.subject or "").strip():
            self._fault(place, "subject", "Say a subject, or name a template.")
        elif len(asked.subject or "") > LONGEST_SUBJECT:
            self._fault(place, "subject", f"The subject is longer than {LONGEST_SUBJECT} characters.")
        if not (asked.html or "").strip() and not (asked.text or "").strip():
            self._fault(place, "html", "Say what the email says, as html or text or both, or name a template.")
        for name, body in (("html", asked.html), ("text", asked.text)):
            if len(body or "") > LONGEST_BODY:
                self._fault(place, name, f"This is longer than {LONGEST_BODY:,} characters.")

    def _sender(self, place: int, written: str | None, usual: int | None) -> int:
        if written is None:
            found = usual or self.known.only_sender
            if found is None:
                self._fault(place, "sender", "Say which sender it is from: its address.")
        else:
            found = self.known.senders.get(written.strip().lower())
            if found is None:
                self._fault(place, "sender", f"There is no sender with the address {written[:80]!r}.")
        return found or 0

    def _time(self, place: int, send_at: datetime) -> None:
        if send_at.tzinfo is None:
            self._fault(place, "send_at", "Say the time zone: 2026-03-01T09:00:00Z, or with +01:00 at its end.")
        elif send_at > self.latest:
            self._fault(place, "send_at", "That is more than a year ahead.")

    def _metadata(self, place: int, metadata: Mapping[str, Any]) -> bytes:
        if len(metadata) > MOST_METADATA:
            self._fault(place, "metadata", f"There are more than {MOST_METADATA} entries.")
        return self._json(place, "metadata", metadata, LARGEST_METADATA)

    def _json(self, place: int, name: str, value: Mapping[str, Any], most: int) -> bytes:
        try:
            written = message.to_json(value)
        except TypeError as error:
            self._fault(place, name, f"This cannot be kept: {error}.")
            return b"{}"
        if NUL in written:
            self._fault(place, name, "There is a NUL character in it, which cannot be kept.")
        elif len(written) > most:
            self._fault(place, name, f"This is {len(written):,} bytes of JSON; {most:,} is the most.")
        return written

    def _key(self, place: int, asked: NewMessage, data: bytes, metadata: bytes | None) -> tuple[str | None, str]:
        """Digests of the key, and of all else that a program gave: both 16 bytes in hexadecimal."""
        assert asked.idempotency_key is not None
        if not 0 < len(asked.idempotency_key) <= LONGEST_KEY:
            self._fault(place, "idempotency_key", f"A key has 1 to {LONGEST_KEY} characters.")
            return None, ""
        said = [asked.to, asked.template, asked.sender, asked.send_at and asked.send_at.isoformat()]
        try:
            rest = message.to_json(said) + data + (metadata or b"")
            key = asked.idempotency_key.encode()
        except (TypeError, UnicodeEncodeError) as error:
            self._fault(place, "idempotency_key", f"This cannot be kept: {error}.")
            return None, ""
        return blake2b(key, digest_size=16).hexdigest(), blake2b(rest, digest_size=16).hexdigest()
