"""Mailboxes that reports come back to, over IMAP (RFC 9051) or POP (RFC 1939): messages are fetched, then let go."""

from __future__ import annotations

import imaplib
import poplib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from app.errors import Invalid, ProviderDown, ProviderRefusesUs
from app.mail import Checked
from app.providers.address import certificates, freed, host_of, is_confined, one_of, read_address, tls_context
from app.providers.mail_line import ImapLine, PopLine, Way
from app.providers.public import Resolve, in_words, resolver
from app.uptime import uptime

TOOK: Final = 256 * 1024  # bytes of a message that are fetched, or kept: whatever else it carries is not looked at
WINDOW: Final = 10_000  # messages that one IMAP search looks at: imaplib gives up at an answer of a megabyte
AT_ONCE: Final = 20  # messages in one IMAP command: 5 MB at most
SPARE: Final = 10.0  # seconds before the deadline after which nothing more is begun
LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
PORTS: Final[Mapping[tuple[str, bool], int]] = {
    ("imap", False): 143,
    ("imap", True): 993,
    ("pop3", False): 110,
    ("pop3", True): 995,
}
OPTIONS: Final = {"tls": one_of("none"), "ca": certificates, "then": one_of("keep", "delete")}

_UID: Final = re.compile(rb"\bUID (\d+)")


@dataclass(frozen=True, slots=True)
class MailboxAccount:
    """`imaps://user:password@host/FOLDER?then=keep|delete`, `pop3s://user:password@host`; `imap`, `pop3`: STARTTLS.

    Over IMAP what was read is marked so, or deleted; over POP it is deleted, since nothing can be marked there.
    """

    protocol: str
    host: str
    port: int
    user: str
    password: str = field(repr=False)
    folder: str
    tls: str  # tls, starttls or none
    delete: bool
    ca: str | None
    resolve: Resolve | None = None

    @classmethod
    def read(cls, url: str) -> MailboxAccount:
        """Raises Invalid, pointer "url"."""
        address = read_address(url, OPTIONS)
        protocol, at_once = address.scheme.removesuffix("s"), address.scheme.endswith("s")
        if (protocol, at_once) not in PORTS:
            raise Invalid.one("url", "A mailbox begins with imaps://, pop3s://, imap:// or pop3://.")
        if not address.user or not address.password or not (address.user + address.password).isascii():
            raise Invalid.one("url", "A mailbox needs user and password, in ASCII: imaps://user:password@host.")
        if not (address.user + address.password).isprintable():
            raise Invalid.one("url", "User and password cannot have control characters.")
        folder = address.path.strip("/") or "INBOX"
        if protocol == "pop3" and address.path not in ("", "/"):
            raise Invalid.one("url", "A POP mailbox has no folders: pop3s://user:password@host.")
        if not re.fullmatch(r"[A-Za-z0-9 ._/-]+", folder):
            raise Invalid.one("url", "The folder's name can have letters, digits, and any of . _ / -")
        plain = "tls" in address.options
        if plain and (at_once or address.host not in LOOPBACK):
            raise Invalid.one("url", "With tls=none the password would travel readable: it is for this machine only.")
        return cls(
            protocol=protocol,
            host=address.host,
            port=address.port or PORTS[protocol, at_once],
            user=address.user,
            password=address.password,
            folder=folder,
            tls="none" if plain else "tls" if at_once else "starttls",
            delete=protocol == "pop3" or address.options.get("then") == "delete",
            ca=address.options.get("ca"),
            resolve=address.resolve,
        )


class OpenMailbox(Protocol):
    """A mailbox at hand: what was fetched stays there until it is let go."""

    def fetch(self, most: int) -> list[tuple[int, bytes]]:
        """The next messages, at most so many, with their numbers; none when it was read to its end, or time is over."""

    def let_go(self, numbers: Sequence[int]) -> None:
        """These were taken: never fetch them again."""


def open_mailbox(url: str, *, deadline: float, private: Collection[str] = ()) -> AbstractContextManager[OpenMailbox]:
    """The mailbox at a URL, for `deadline` seconds. It and all that is done with it raise ProviderError.

    `private`: hosts that an operator allows wherever they are, though a user typed the URL (`confined`).
    """
    return _opened(_account(url, private), uptime() + deadline)


def check_mailbox(url: str, *, deadline: float, private: Collection[str] = ()) -> Checked:
    """Log in, look how many messages there are, and touch none; raises ProviderError."""
    account = _account(url, private)
    with _opened(account, uptime() + deadline, looking=True) as box:
        there = box.there
    where = f"in {account.folder}" if account.protocol == "imap" else "there"
    return Checked(f"The mailbox opens: {there:,} {'message is' if there == 1 else 'messages are'} {where}.")


def _account(url: str, private: Collection[str]) -> MailboxAccount:
    allowed = is_confined(url) and resolver(host_of(url), private) is None
    return MailboxAccount.read(freed(url) if allowed else url)


@contextmanager
def _opened(account: MailboxAccount, until: float, *, looking: bool = False) -> Iterator[_Imap | _Pop]:
    box: _Imap | _Pop | None = None
    way = Way(account.host, account.port, account.resolve, until)
    way.watch()
    try:
        box = _Imap(account, way) if account.protocol == "imap" else _Pop(account, way)
        yield box
        if not looking:
            box.leave()
    except _Refused as error:
        raise ProviderRefusesUs(f"The mail server refuses us: {_said(error)}") from error
    except (OSError, imaplib.IMAP4.error, poplib.error_proto, EOFError) as error:
        said = in_words(error) if isinstance(error, OSError) else _said(error) or in_words(error)
        said = "the server took too long" if way.cut else said
        raise ProviderDown(f"The mailbox cannot be read: {said}.") from error
    finally:
        way.done()
        if box is not None:
            box.hang_up()


class _Refused(Exception):
    """The login, or the folder: it is for a person to mend."""


class _Imap:
    def __init__(self, account: MailboxAccount, way: Way) -> None:
        self.until = way.until
        self.delete = account.delete
        context = tls_context(account.ca) if account.tls != "none" else None
        self.line = ImapLine(way, context if account.tls == "tls" else None)
        try:
            if account.tls == "starttls" and context is not None:
                self.line.begin_tls(context)
            self.there = self._ask_in(account)
            self.windows = list(range(1, self.there + 1, WINDOW))
            self.waiting: list[int] = []
        except BaseException:
            self.hang_up()
            raise

    def fetch(self, most: int) -> list[tuple[int, bytes]]:
        while (self.waiting or self.windows) and uptime() < self.until - SPARE:
            if not self.waiting:
                first = self.windows.pop(0)
                found = self._ok("SEARCH", None, f"{first}:{first + WINDOW - 1} UNSEEN")
                self.waiting = [int(uid) for uid in found[0].split()]
                continue
            uids, self.waiting = self.waiting[: min(most, AT_ONCE)], self.waiting[min(most, AT_ONCE) :]
            answer = self._ok("FETCH", ",".join(map(str, uids)), f"(UID BODY.PEEK[]<0.{TOOK}>)")
            if messages := _messages(answer):
                return messages  # none: somebody else has deleted them
        return []

    def let_go(self, numbers: Sequence[int]) -> None:
        uids = ",".join(map(str, numbers))
        self._ok("STORE", uids, "+FLAGS.SILENT", r"(\Seen \Deleted)" if self.delete else r"(\Seen)")

    def leave(self) -> None:
        if self.delete:
            self.line.expunge()
        self.line.logout()

    def hang_up(self) -> None:
        with suppress(OSError):
            self.line.shutdown()

    def _ask_in(self, account: MailboxAccount) -> int:
        """How many messages are there."""
        try:
            self.line.login(account.user, account.password)
        except imaplib.IMAP4.abort:
            raise
        except imaplib.IMAP4.error as error:
            raise _Refused(*error.args) from error
        said, answer = self.line.select(f'"{account.folder}"')
        if said != "OK":
            raise _Refused(answer[0])
        return int(answer[0] or b"0")

    def _ok(self, command: str, *arguments: str | None) -> list[Any]:
        said, answer = self.line.uid(command, *arguments)  # type: ignore[arg-type]
        if said != "OK":
            raise imaplib.IMAP4.error(f"{command} was answered with {said} {answer}"[:300])
        return [each for each in answer if each is not None] or [b""]


def _messages(answer: Sequence[Any]) -> list[tuple[int, bytes]]:
    """imaplib gives a pair for each literal, and what stands behind it by itself; the UID is in either."""
    found = []
    for place, each in enumerate(answer):
        if isinstance(each, tuple) and len(each) == 2:
            after = answer[place + 1] if place + 1 < len(answer) else b""
            uid = _UID.search(each[0]) or _UID.search(after if isinstance(after, bytes) else b"")
            if uid is not None:
                found.append((int(uid[1]), bytes(each[1][:TOOK])))
    return found


class _Pop:
    def __init__(self, account: MailboxAccount, way: Way) -> None:
        self.until = way.until
        context = tls_context(account.ca) if account.tls != "none" else None
        self.line = PopLine(way, context if account.tls == "tls" else None)
        try:
            if account.tls == "starttls" and context is not None:
                self.line.begin_tls(context)
            self._ask_in(account)
            self.there = self.line.stat()[0]
            self.waiting = list(range(1, self.there + 1))
        except BaseException:
            self.hang_up()
            raise

    def fetch(self, most: int) -> list[tuple[int, bytes]]:
        if uptime() > self.until - SPARE:
            return []
        numbers, self.waiting = self.waiting[: min(most, AT_ONCE)], self.waiting[min(most, AT_ONCE) :]
        return [(number, self._retrieve(number)) for number in numbers]

    def let_go(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            self.line.dele(number)

    def leave(self) -> None:
        self.line.quit()  # only now they are deleted: a mailbox that is hung up before is as it was

    def hang_up(self) -> None:
        with suppress(OSError):
            self.line.close()

    def _ask_in(self, account: MailboxAccount) -> None:
        try:
            self.line.user(account.user)
            self.line.pass_(account.password)
        except poplib.error_proto as error:
            raise _Refused(*error.args) from error

    def _retrieve(self, number: int) -> bytes:
        """The message's beginning. poplib's own `retr` gives up at a line of 2,048 bytes, and with it the mailbox."""
        self.line.sock.sendall(b"RETR %d\r\n" % number)
        said = self.line.file.readline(2048)
        if not said.startswith(b"+OK"):
            raise poplib.error_proto(said)
        message, fresh = bytearray(), True
        while (line := self.line.file.readline(65536)) != b".\r\n" or not fresh:
            if not line:
                raise poplib.error_proto("The server hung up within a message.")
            if len(message) < TOOK:
                message += line[1:] if fresh and line.startswith(b"..") else line
            fresh = line.endswith(b"\n")
        return bytes(message[:TOOK])


def _said(error: BaseException) -> str:
    first = error.args[0] if error.args else ""  # the server's own words come as bytes
    text = first.decode("utf-8", "replace") if isinstance(first, bytes) else str(error)
    return " ".join("".join(each if each.isprintable() else " " for each in text).split())[:300]
