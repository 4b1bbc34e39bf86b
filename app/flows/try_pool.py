"""Trying a pool before anything depends on it: whether its provider knows the account, and one email to look at."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import Final
from uuid import uuid4

from app.addresses import read_address
from app.errors import ConfigError, Fault, Invalid, ProviderDown, ProviderError, ProviderUnsure
from app.mail import Accepted, Batch, Content, Deferred, Letter, Outcome, Parts, Refused, Unsure
from app.models import pool, suppression
from app.models.pool import Pool
from app.models.sender import Sender
from app.providers import Provider, open_provider
from app.runtime import Runtime

LONGEST: Final = 10.0  # seconds that a person waits for a page
SUBJECT: Final = "A test of {pool}"
TEXT: Final = "This is a test of the pool {pool} in Millrace, from {sender}. It belongs to no campaign."
SAID: Final = 500  # characters of an answer that are kept


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of it, in words; `good` is None where nobody knows."""

    good: bool | None
    said: str


def check_pool(runtime: Runtime, organisation_id: int, pool_id: int) -> Answer:
    """Ask the provider whether it knows the account; nothing is sent, and the answer is kept. Raises NotFound."""
    found = _find(runtime, organisation_id, pool_id)
    try:
        with closing(_open(runtime, found)) as provider:
            answer = Answer(True, provider.check().said)
    except (ProviderError, ConfigError) as error:
        answer = Answer(False, str(error)[:SAID])
    with runtime.db.begin() as conn:
        pool.note_check(conn, pool_id, found.url, answer.good, answer.said)
    return answer


def send_test(runtime: Runtime, organisation_id: int, pool_id: int, sender_id: int | None, address: str) -> Answer:
    """Send one email through a pool, from one of its senders; it is in no record.

    Raises NotFound; Invalid naming "sender", or "address", also where it is suppressed.
    """
    found = _find(runtime, organisation_id, pool_id)
    try:
        to = read_address(address)[0]
    except Invalid as error:
        raise Invalid(Fault("address", fault.message) for fault in error.faults) from None
    with runtime.db.session() as session:
        sender = session.get(Sender, sender_id) if sender_id is not None else None
        if sender is None or sender.organisation_id != organisation_id or pool_id not in _pools(sender):
            raise Invalid.one("sender", "Choose one of the senders that use this pool.")
        if suppression.is_suppressed(session.connection(), organisation_id, to, sender.id):
            raise Invalid.one("address", "This address is suppressed: nothing is sent to it, not even a test.")
    try:
        with closing(_open(runtime, found)) as provider:
            return _told(provider.send(_batch(runtime, found, sender, to))[0])
    except ConfigError as error:
        return Answer(False, str(error))
    except ProviderError as error:
        return _failed(error)


def _batch(runtime: Runtime, found: Pool, sender: Sender, to: str) -> Batch:
    """One letter of hand-off 0, which there never is: no webhook about it finds anything of ours."""
    subject = SUBJECT.format(pool=found.name)
    text = TEXT.format(pool=found.name, sender=sender.name)
    content = Content(0, _plain(subject), _plain(""), _plain(text))
    letter = Letter(1, to, (), f"{runtime.settings.base_url}/")
    return Batch(0, uuid4(), 0, 0, sender.name, sender.address, sender.reply_to, content, [letter])


def _told(outcome: Outcome) -> Answer:
    match outcome:
        case Accepted(ref):
            return Answer(True, f"The provider took it; it calls the email {ref}.")
        case Refused(reason):
            return Answer(False, f"The provider refused it: {reason}"[:SAID])
        case Deferred(reason):
            return Answer(False, f"The provider does not take it now: {reason}"[:SAID])
        case Unsure(reason):
            return Answer(None, f"Nobody knows whether the provider took it: {reason}"[:SAID])


def _failed(error: ProviderError) -> Answer:
    if isinstance(error, ProviderUnsure):
        return Answer(None, f"Nobody knows whether the provider took it: {error}"[:SAID])
    if isinstance(error, ProviderDown):
        return Answer(False, f"Nothing was sent: {error}"[:SAID])
    return Answer(False, f"Nothing was sent, for the provider refuses us: {error}"[:SAID])


def _plain(text: str) -> Parts:
    return Parts((text,), ())


def _pools(sender: Sender) -> tuple[int | None, ...]:
    return sender.pool_id, sender.second_pool_id


def _open(runtime: Runtime, found: Pool) -> Provider:
    """A provider of its own, for as long as a person waits: the process's has other calls under way."""
    settings = runtime.settings
    deadline = min(LONGEST, settings.call_deadline)
    return open_provider(runtime.vault.decrypt(found.url), deadline=deadline, private=settings.private_providers)


def _find(runtime: Runtime, organisation_id: int, pool_id: int) -> Pool:
    with runtime.db.session() as session:
        return pool.get(session, organisation_id, pool_id)
