"""Taking mail that came back: reports about emails of ours are kept like webhooks, for a worker to read; the rest is
counted. Mailboxes of pools are read every minute.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from hashlib import blake2b
from itertools import islice
from typing import Final

from app.errors import ConfigError, Invalid, NotFound, ProviderError, ProviderRefusesUs
from app.models import mailbox, webhook
from app.models.mailbox import Box, Taken
from app.providers.address import shown
from app.providers.mail_box import MailboxAccount, open_mailbox
from app.providers.returns import Judged, Sort, judge, kept_form
from app.runtime import Runtime

log = logging.getLogger(__name__)

TOGETHER: Final = 100  # messages that are committed together
AT_ONCE: Final = 4  # mailboxes that are read side by side
DEADLINE: Final = 120.0  # seconds for one look into a mailbox: what is left is for the next


def take(runtime: Runtime, messages: Iterable[bytes], pool_id: int | None = None) -> Taken:
    """Keep every report and complaint about an email of ours, and wake a worker; what came, by sort.

    When this returns it is committed. The same report taken again changes nothing. `pool_id`: whose mailbox they came
    from, whose counts are kept; which pool a report is about is told by its token. Raises Unavailable.
    """
    total = Taken()
    left = iter(messages)
    while chunk := list(islice(left, TOGETHER)):
        total += _take(runtime, chunk, pool_id)
    return total


def _take(runtime: Runtime, messages: Sequence[bytes], pool_id: int | None) -> Taken:
    judged = [judge(raw) for raw in messages]
    named = [_named(runtime, each, raw) for each, raw in zip(judged, messages, strict=True)]
    received_at = datetime.now(UTC)
    reports = 0
    with runtime.db.begin() as conn:
        emails = [each for each in named if each is not None]
        pools = mailbox.find_pools(conn, emails) if emails else {}
        for each, email, raw in zip(judged, named, messages, strict=True):
            if email is not None and email in pools:
                reports += 1
                body = kept_form(*email, received_at, raw)
                webhook.keep(conn, pools[email], _delivery(each, email), body)
        sorts = [each.sort for each in judged]
        answers, others = sorts.count(Sort.ANSWER), sorts.count(Sort.OTHER)
        taken = Taken(reports, len(messages) - reports - answers - others, answers, others)
        if pool_id is not None:
            mailbox.note_taken(conn, pool_id, taken)
    if reports:
        runtime.ring("ingest")
    return taken


def _named(runtime: Runtime, judged: Judged, raw: bytes) -> tuple[int, int] | None:
    """The email that a report is about, by the first token in it: to whom it came stands before what it returns."""
    if judged.meaning.kind is None:
        return None
    return next(iter(runtime.returns.find(raw)), None)


def _delivery(judged: Judged, email: tuple[int, int]) -> str:
    """One message about one email: the same again is not kept again."""
    return blake2b(f"{judged.own_id}:{email}:{judged.meaning.kind}".encode(), digest_size=16).hexdigest()


# -- Mailboxes ---------------------------------------------------------------------------------------------------------


def set_mailbox(runtime: Runtime, pool_id: int, url: str) -> None:
    """Read this pool's reports from a mailbox, every minute. Its URL is kept encrypted.

    Raises Invalid, pointer "url", where it cannot be read as one.
    """
    MailboxAccount.read(url)
    with runtime.db.begin() as conn:
        mailbox.put(conn, pool_id, runtime.vault.encrypt(url), shown(url))


def find_pool(runtime: Runtime, name: str) -> int:
    """The SMTP pool of this number or name. Raises NotFound; Invalid where several are called so."""
    with runtime.db.begin() as conn:
        found = mailbox.find_named(conn, name)
    if not found:
        raise NotFound(f"There is no SMTP pool called {name}.")
    if len(found) > 1:
        raise Invalid.one("", f"Several pools are called {name}: name one by its number ({found}).")
    return found[0]


def read_due(runtime: Runtime) -> int:
    """Read the mailboxes that are due; how many messages came out of them. One that fails is tried again later.

    Some side by side: a server that answers nothing holds up no other pool's.
    """
    first = _claim(runtime)
    if first is None:
        return 0
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="mailbox") as readers:
        others = [readers.submit(_read_in_turn, runtime, None) for _ in range(AT_ONCE - 1)]
        return _read_in_turn(runtime, first) + sum(other.result() for other in others)


def _read_in_turn(runtime: Runtime, box: Box | None) -> int:
    """Read one mailbox after the other, this one first, until none is due."""
    total = 0
    box = box or _claim(runtime)
    while box is not None:
        try:
            total += read_box(runtime, box).total
        except ProviderError as error:
            log.warning("the mailbox of pool %s cannot be read: %s", box.pool_id, error)
        box = _claim(runtime)
    return total


def _claim(runtime: Runtime) -> Box | None:
    if runtime.stopping.is_set():
        return None
    with runtime.db.begin() as conn:
        return mailbox.claim(conn)


def read_one(runtime: Runtime, pool_id: int) -> Taken:
    """Read a pool's mailbox now. Raises NotFound, ProviderError."""
    with runtime.db.begin() as conn:
        box = mailbox.claim_one(conn, pool_id)
    if box is None:
        raise NotFound("The pool has no mailbox.")
    return read_box(runtime, box)


def read_box(runtime: Runtime, box: Box) -> Taken:
    """Read a mailbox until it is empty or the time is over; messages are let go after what they say was committed."""
    taken = Taken()
    try:
        url = runtime.vault.decrypt(box.url)
    except ConfigError as error:
        _note_failed(runtime, box, error)
        raise ProviderRefusesUs(str(error)) from error
    try:
        private = runtime.settings.private_providers
        with open_mailbox(url, deadline=DEADLINE, private=private) as opened:
            while found := opened.fetch(TOGETHER):
                taken += _take(runtime, [raw for _, raw in found], box.pool_id)
                opened.let_go([number for number, _ in found])
    except ProviderError as error:
        _note_failed(runtime, box, error)
        raise
    with runtime.db.begin() as conn:
        mailbox.note_read(conn, box)
    return taken


def _note_failed(runtime: Runtime, box: Box, error: Exception) -> None:
    with runtime.db.begin() as conn:
        mailbox.note_failed(conn, box, str(error))
