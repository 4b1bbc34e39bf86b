"""A pool's mailbox, as its people set it up: tried before it is kept; its password is written, and never read back."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import parse_qs, quote, unquote, urlsplit

from app.errors import ConfigError, Fault, Invalid, NotFound, ProviderDown, ProviderError, ProviderRefusesUs
from app.mail import Checked
from app.models import mailbox, pool
from app.models.mailbox import BoxLine
from app.providers.address import confined, freed, host_of, is_confined, shown
from app.providers.mail_box import MailboxAccount, check_mailbox
from app.providers.public import resolver
from app.runtime import Runtime
from app.uptime import uptime

PATIENCE: Final = 12.0  # seconds that a try may take while a person waits
ANEW: Final = "Enter it again: what is stored was meant for another server or user."
PROTOCOLS: Final[Mapping[str, str]] = {
    "imaps": "IMAP, TLS from the first byte (993)",
    "imap": "IMAP, STARTTLS (143)",
    "pop3s": "POP, TLS from the first byte (995)",
    "pop3": "POP, STARTTLS (110)",
}


@dataclass(frozen=True, slots=True)
class Wish:
    """What a person fills in. `protocol`: a key of PROTOCOLS; `port` may be empty; `folder` counts with IMAP alone."""

    protocol: str = "imaps"
    host: str = ""
    port: str = ""
    user: str = ""
    password: str = ""
    folder: str = "INBOX"
    delete: bool = False


def find(runtime: Runtime, organisation_id: int, pool_id: int) -> tuple[BoxLine, Wish] | None:
    """A pool's mailbox, and what its form held, without the password; None where it has none. Raises NotFound.

    One that was encrypted under another key has an empty form.
    """
    _check_pool(runtime, organisation_id, pool_id)
    with runtime.db.begin() as conn:
        line, box = mailbox.find_line(conn, pool_id), mailbox.find(conn, pool_id)
    if line is None or box is None:
        return None
    stored = _stored(runtime, box.url)
    return line, Wish() if stored is None else replace(_wish(stored), password="")


def save(runtime: Runtime, organisation_id: int, pool_id: int, wish: Wish) -> Checked:
    """Open the mailbox that a person named; if that works, the pool's reports are read from it from now on.

    An empty password leaves what is stored, for the same server and user. The server must be at a public address, but
    those of MILLRACE_PRIVATE_PROVIDERS. Raises NotFound; Invalid naming fields of Wish, or "" for what the server says.
    """
    _check_pool(runtime, organisation_id, pool_id)
    with runtime.db.begin() as conn:
        box = mailbox.find(conn, pool_id)
    stored = None if box is None else _stored(runtime, box.url)
    same = stored is not None and _place(stored) == _place(_url(wish))
    if not wish.password and stored is not None and same:
        wish = replace(wish, password=_wish(stored).password)
    faults = _faults(wish, ANEW if stored is not None and not same else "A mailbox needs its password.")
    if faults:
        raise Invalid(faults)
    url = _url(wish)
    # What an operator set stays the operator's, as long as it goes to the same place.
    kept = url if stored is not None and same and not is_confined(stored) else confined(url)
    checked = _try(runtime, kept)
    with runtime.db.begin() as conn:
        mailbox.put(conn, pool_id, runtime.vault.encrypt(kept), shown(url))
    return checked


def check(runtime: Runtime, organisation_id: int, pool_id: int) -> Checked:
    """Open the stored mailbox and touch nothing in it. Raises NotFound, ProviderError."""
    _check_pool(runtime, organisation_id, pool_id)
    with runtime.db.begin() as conn:
        box = mailbox.find(conn, pool_id)
    if box is None:
        raise NotFound("The pool has no mailbox.")
    try:
        url = runtime.vault.decrypt(box.url)
    except ConfigError as error:
        raise ProviderRefusesUs(str(error)) from error
    return check_mailbox(url, deadline=PATIENCE, private=runtime.settings.private_providers)


def read_soon(runtime: Runtime, organisation_id: int, pool_id: int) -> None:
    """Have the clock read it at its next turn, within seconds. Raises NotFound."""
    _check_pool(runtime, organisation_id, pool_id)
    with runtime.db.begin() as conn:
        mailbox.hurry(conn, pool_id)


def remove(runtime: Runtime, organisation_id: int, pool_id: int) -> None:
    """Read it no more. Raises NotFound."""
    _check_pool(runtime, organisation_id, pool_id)
    with runtime.db.begin() as conn:
        mailbox.remove(conn, pool_id)


def _check_pool(runtime: Runtime, organisation_id: int, pool_id: int) -> None:
    with runtime.db.session() as session:
        if pool.get(session, organisation_id, pool_id).provider != "smtp":
            raise NotFound("Bounces of this pool come by webhooks: it needs no mailbox.")


def _try(runtime: Runtime, url: str) -> Checked:
    private = runtime.settings.private_providers
    try:
        account = MailboxAccount.read(url)
        resolve = resolver(host_of(url), private) if is_confined(url) else None
        if resolve is not None:
            resolve(account.host, account.port, uptime() + PATIENCE)
    except ProviderError as error:
        raise Invalid.one("host", str(error)) from None
    try:
        return check_mailbox(url, deadline=PATIENCE, private=private)
    except ProviderDown as error:
        raise Invalid.one("host", f"{error} Nothing was saved.") from None
    except ProviderError as error:
        raise Invalid.one("", f"{error} Correct user, password or folder; nothing was saved.") from None


def _stored(runtime: Runtime, url: bytes) -> str | None:
    try:
        return runtime.vault.decrypt(url)
    except ConfigError:
        return None


def _url(wish: Wish) -> str:
    host = f"[{wish.host}]" if ":" in wish.host.strip("[]") and not wish.host.startswith("[") else wish.host
    login = f"{quote(wish.user, safe='')}:{quote(wish.password, safe='')}@"
    port = f":{wish.port}" if wish.port else ""
    if wish.protocol.startswith("pop3"):
        return f"{wish.protocol}://{login}{host}{port}"
    then = "?then=delete" if wish.delete else ""
    return f"{wish.protocol}://{login}{host}{port}/{quote(wish.folder)}{then}"


def _wish(url: str) -> Wish:
    parts = urlsplit(freed(url))
    return Wish(
        protocol=parts.scheme,
        host=parts.hostname or "",
        port=str(parts.port or ""),
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        folder=unquote(parts.path.strip("/")) or "INBOX",
        delete=parse_qs(parts.query).get("then") == ["delete"],
    )


def _place(url: str) -> tuple[object, ...]:
    """Who gets to read the password, and in which way."""
    try:
        parts = urlsplit(freed(url))
        query = parse_qs(parts.query)
        return parts.scheme, parts.hostname, parts.port, parts.username, query.get("tls"), query.get("ca")
    except ValueError:  # a port that is none: its own fault says so
        return ()


def _faults(wish: Wish, no_password: str) -> list[Fault]:
    faults = []
    if wish.protocol not in PROTOCOLS:
        faults.append(Fault("protocol", "Choose one of those that are offered."))
    if not re.fullmatch(r"[\w.-]{1,253}|\[?[0-9a-fA-F:.]+\]?", wish.host):
        faults.append(Fault("host", "This must be a host's name, like imap.example.com."))
    if wish.port and not (wish.port.isascii() and wish.port.isdecimal() and 1 <= int(wish.port[:6]) <= 65535):
        faults.append(Fault("port", "This must be a number from 1 to 65,535, or empty."))
    if not wish.user:
        faults.append(Fault("user", "A mailbox needs its user."))
    if not wish.password:
        faults.append(Fault("password", no_password))
    for name, value in (("user", wish.user), ("password", wish.password)):
        if value and not (value.isascii() and value.isprintable()):
            faults.append(Fault(name, "This can only have characters of ASCII that can be seen."))
    if wish.protocol.startswith("imap") and not re.fullmatch(r"[A-Za-z0-9 ._/-]{1,200}", wish.folder):
        faults.append(Fault("folder", "The folder's name can have letters, digits, and any of . _ / -"))
    return faults
