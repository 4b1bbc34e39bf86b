"""Messages over one connection, one transaction each, and what every reply means (RFC 5321 §4.3.2, RFC 2920)."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from app.errors import ProviderDown, ProviderRefusesUs
from app.mail import Accepted, Deferred, Outcome, Refused, Unsure
from app.providers.mime import Written
from app.providers.smtp_line import Line, LineLost, Reply
from app.uptime import uptime

CLOSING = 421  # the server hangs up after this reply, whatever it answers to
NOT_NOW = 454  # about the session, not the recipient: "Throttling failure", "temporary authentication failure"
OUR_ACCOUNT = (530, 534, 535, 538)  # authentication is required, too weak, wrong (RFC 4954 §6)
GO = 354
RESET = b"RSET\r\n"

_REF = re.compile(r"queued as <?([\w.@+-]+)|\bid=<?([\w.@+-]+)|^(?:2\.\d\.\d )?ok:? <?([\w.@+-]{8,})", re.IGNORECASE)


# A letter -> its envelope sender: the same for all, or one that tells which email a bounce is about (VERP).
Sender = Callable[[Written], str]


def exchange(line: Line, sender: Sender, letters: Sequence[Written], outcomes: list[Outcome], most: int) -> None:
    """Send the letters from `len(outcomes)` on, at most `most`, appending the outcome of each as it is known.

    With PIPELINING a letter costs one round trip: its content and the next letter's commands leave in one write.
    Raises LineLost, ProviderDown or ProviderRefusesUs; letters without an outcome have then not been taken.
    """
    first, stop = len(outcomes), min(len(letters), len(outcomes) + most)
    line.write(_ahead(line, sender, letters[first : min(first + 1, stop)]))
    for at in range(first, stop):
        if uptime() >= line.until:
            raise ProviderDown("No time was left in this call.", retry_in=0.0, passing=True)
        letter, following = letters[at], letters[at + 1 : min(at + 2, stop)]
        if _foreign(line, letter):
            outcomes.append(Refused("The server takes no address beyond ASCII (no SMTPUTF8)."))
            line.write(_ahead(line, sender, following))
            continue
        line.messages += 1
        refusal, go = _open(line, _commands(line, sender, letter))
        line.dirty = not go  # a transaction that never came to its content is still open
        ahead = _ahead(line, sender, following)
        if refusal is None:
            outcomes.append(_content(line, letter, ahead, outcomes))
        else:
            outcomes.append(refusal)
            # With no recipient left, a server that says 354 all the same is answered with an empty message.
            line.write((b".\r\n" if go else b"") + ahead)
            if go:
                line.reply()


def _foreign(line: Line, letter: Written) -> bool:
    return letter.utf8 and not line.utf8


def _ahead(line: Line, sender: Sender, following: Sequence[Written]) -> bytes:
    """The next letter's commands, where they may be sent before the answers to what stands before them."""
    if not line.pipelining or not following or _foreign(line, following[0]):
        return b""
    return b"".join(_commands(line, sender, following[0]))


def _commands(line: Line, sender: Sender, letter: Written) -> list[bytes]:
    mail = f"MAIL FROM:<{sender(letter)}>{' SMTPUTF8' if letter.utf8 else ''}{_notified(line, letter)}\r\n".encode()
    opening = [mail, f"RCPT TO:<{letter.address}>\r\n".encode(), b"DATA\r\n"]
    return [RESET, *opening] if line.dirty else opening


def _notified(line: Line, letter: Written) -> str:
    """Reports with the headers alone, that name the email by our token (RFC 3461 §4.3, §4.4)."""
    return f" RET=HDRS ENVID={letter.token}" if letter.token and line.reports else ""


def _open(line: Line, commands: Sequence[bytes]) -> tuple[Outcome | None, bool]:
    """The letter's refusal, None where there is none, and whether the server waits for its content now.

    Where the server takes PIPELINING the commands have left already.
    """
    replies: list[Reply] = []
    for command in commands:
        if not line.pipelining:
            line.write(command)
        reply = line.reply()
        if reply.code == CLOSING or (command is RESET and reply.code >= 300):
            raise LineLost(reply.said)
        replies.append(reply)
        if not line.pipelining and reply.code >= 400:
            break
    mail, *rest = replies[1:] if commands[0] is RESET else replies
    _judge_sender(mail)
    go = replies[-1].code == GO
    for reply in rest:
        if reply.code >= 400:
            return _judge_recipient(reply), go
    if not go:
        raise LineLost(f"DATA was answered with {replies[-1].said}")
    return None, True


def _content(line: Line, letter: Written, following: bytes, outcomes: list[Outcome]) -> Outcome:
    """Send the content and read what became of it. From its first byte on, silence proves nothing (RFC 1047)."""
    try:
        line.write(stuff(letter.message) + b".\r\n" + following)
        reply = line.reply()
    except LineLost as lost:
        outcomes.append(Unsure(f"The connection was lost before the content was answered ({lost})."))
        raise
    if reply.code < 300:
        found = _REF.search(reply.text)
        ref = next(filter(None, found.groups())) if found else letter.message_id
        return Accepted(ref[:200])
    if reply.code < 400:
        outcomes.append(Unsure(f"The content was answered with {reply.said}"))
        raise LineLost(reply.said)
    return _judge_recipient(reply)


def _judge_sender(reply: Reply) -> None:
    """MAIL FROM is about us: not this letter is refused, but everything that we would send now."""
    if reply.code >= 500:
        raise ProviderRefusesUs(f"The server refuses the sender: {reply.said}", reply.said)
    if reply.code >= 300:
        raise ProviderDown(f"The server takes nothing now: {reply.said}", reply.said)


def _judge_recipient(reply: Reply) -> Outcome:
    if reply.code in OUR_ACCOUNT:
        raise ProviderRefusesUs(f"The server refuses our account: {reply.said}", reply.said)
    if reply.code == NOT_NOW:
        raise ProviderDown(f"The server takes nothing now: {reply.said}", reply.said)
    return Refused(reply.said) if reply.code >= 500 else Deferred(reply.said)


def stuff(message: bytes) -> bytes:
    """The message for DATA: lines that begin with a dot get another one (RFC 5321 §4.5.2)."""
    if message.startswith(b"."):
        message = b"." + message
    return message.replace(b"\r\n.", b"\r\n..")
