"""Mail that comes back: a delivery report, a complaint, a machine's answer, or something else; and what it says.

RFC 3464 and RFC 6533 (delivery reports), RFC 5965 (complaints), RFC 3834 (answers by machines); reports in plain text
as far as they tell. Which email it is about is told by the signed token in it, and by nothing else. What comes here was
written by strangers: every step is linear in the bytes kept, nothing is nested, nothing raises.
"""

from __future__ import annotations

import binascii
import quopri
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.message import Message
from email.parser import BytesHeaderParser
from email.utils import parsedate_to_datetime
from enum import StrEnum
from hashlib import blake2b
from typing import Final

from app.mail import Meaning, Reported
from app.providers.bounces import STATUS
from app.providers.return_meanings import ACTIONS, DEFERRED, FEEDBACK, MILDEST, NOTHING, SOFT, WORDS, of_status

KEPT: Final = 64 * 1024  # bytes of a message: what a machine reads stands before the email that is returned
OLDEST: Final = timedelta(days=5)  # a report's own date is believed so far back: as long as servers keep trying
GROUPS: Final = 50  # recipients of one report that are looked at


class Sort(StrEnum):
    """What a message is. An answer was written by a machine, other mail perhaps by a person."""

    REPORT = "report"
    COMPLAINT = "complaint"
    ANSWER = "answer"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Judged:
    """What a message says: `meaning` is empty for answers and other mail. `own_id` is its Message-ID, or a digest."""

    sort: Sort
    own_id: str
    date: datetime | None
    meaning: Meaning
    reason: str


_HEADER_END: Final = re.compile(rb"\r?\n[ \t]*\r?\n")
_MACHINE: Final = re.compile(
    rb"(?im)^content-type:[ \t]*(?:\r?\n[ \t]+)?message/"
    rb"(?:global-)?(delivery-status|feedback-report|disposition-notification)"
)
_BOUNDARY: Final = re.compile(rb"(?m)^--\S[^\n]*\n?")
_DAEMON: Final = re.compile(r"(?i)\b(?:mailer-daemon|postmaster|mail delivery (?:sub)?system|mail-daemon)\b")
_STILL_TRYING: Final = re.compile(r"(?i)\bdelay|\bwarning\b|still trying|not yet been delivered")
_COPY: Final = re.compile(
    rb"(?im)^-{2,}[^\r\n]{0,20}(?:below this line|this is a copy|original message|returned message)"
)
_PERMANENT: Final = re.compile(r"(?<![\d.])([45]\.\d{1,3}\.\d{1,3})(?!\.?\d)")
_ANSWERS: Final = ("X-Autoreply", "X-Autorespond", "X-Auto-Response-Suppress", "X-Vacation")
_PRECEDENCE: Final = ("auto_reply", "bulk", "junk", "list")
_headers = BytesHeaderParser()


def judge(raw: bytes) -> Judged:
    """What the first `KEPT` bytes of a message say; never raises."""
    raw = raw[:KEPT]
    head, body = _split(raw)
    headers = _headers.parsebytes(head)
    own_id = _line(headers.get("Message-ID")) or blake2b(raw, digest_size=16).hexdigest()
    date = _date(headers)
    found = _MACHINE.search(raw)
    if found is not None:
        sort, meaning, reason = MACHINES[found[1].lower()](_part(raw, found))
    elif _is_bounce(headers):
        sort, meaning, reason = _in_words(headers, body)
    else:
        sort, meaning, reason = Sort.ANSWER if _is_answer(headers) else Sort.OTHER, NOTHING, ""
    return Judged(sort, own_id[:300], date, meaning, reason)


def kept_form(handoff_id: int, lead_id: int, received_at: datetime, raw: bytes) -> bytes:
    """A message as it is kept for its pool: in front the email that its token names, and when it came."""
    return b"X-Millrace-Returned: %d %d %d\r\n" % (handoff_id, lead_id, received_at.timestamp()) + raw[:KEPT]


class SmtpReturns:
    """Reads what `kept_form` made. A report says one thing of one email: there is one recipient to each of ours."""

    def read_events(self, body: bytes, delivery: str) -> list[Reported]:
        """Raises ValueError where the body is none of `kept_form`."""
        first, _, raw = body.partition(b"\r\n")
        name, *numbers = first.split(b" ")
        handoff_id, lead_id, seconds = map(int, numbers)
        if name != b"X-Millrace-Returned:":
            raise ValueError("no mail that came back")
        judged = judge(raw)
        if judged.meaning.kind is None:
            return []
        return [
            Reported(
                key=f"{judged.own_id}:{handoff_id}:{lead_id}:{judged.meaning.kind}",
                at=_believed(judged.date, datetime.fromtimestamp(seconds, UTC)),
                handoff_id=handoff_id,
                lead_id=lead_id,
                meaning=judged.meaning,
                reason=judged.reason or None,
            )
        ]


def _believed(date: datetime | None, received_at: datetime) -> datetime:
    """A wrong clock, or a liar's, must not move an event out of the days that are taken."""
    return date if date is not None and received_at - OLDEST <= date <= received_at else received_at


# -- What a machine reads ----------------------------------------------------------------------------------------------


def _delivery(part: bytes) -> tuple[Sort, Meaning, str]:
    """RFC 3464 §2: a group of fields about the message, then one for each recipient. Any group may be missing."""
    said = [(_recipient(group), group) for group in _groups(part) if group.get("Action") or group.get("Status")]
    known = [(meaning, group) for meaning, group in said if meaning in MILDEST]
    if not known:
        return Sort.OTHER, NOTHING, ""
    meaning, group = min(known, key=lambda each: MILDEST.index(each[0]))
    words = _line(group.get("Diagnostic-Code")).partition(";")[2].strip()
    return Sort.REPORT, meaning, words or f"status {_line(group.get('Status'))}"


def _recipient(group: Message) -> Meaning:
    action = _line(group.get("Action")).lower()
    status = _line(group.get("Status"))
    if action in ACTIONS:
        return ACTIONS[action]
    if action != "failed" and not status.startswith("5"):
        return NOTHING
    code = STATUS.search(status)
    if code is None or code[1].endswith(".0.0"):  # the server's own words may say more
        code = STATUS.search(_line(group.get("Diagnostic-Code"))) or code
    return of_status(code[1] if code else "")


def _complaint(part: bytes) -> tuple[Sort, Meaning, str]:
    kinds = [_line(group.get("Feedback-Type")).lower() for group in _groups(part)]
    kind = next(filter(None, kinds), "")
    meaning = FEEDBACK.get(kind, NOTHING)
    return (Sort.COMPLAINT, meaning, f"feedback: {kind}") if meaning.kind else (Sort.OTHER, meaning, "")


def _receipt(part: bytes) -> tuple[Sort, Meaning, str]:
    """It was read, or deleted unread (RFC 8098): nothing that the record knows."""
    return Sort.ANSWER, NOTHING, ""


# By the type of the part that a machine reads; the first in a message counts, for what is returned stands behind it.
MACHINES: Final[Mapping[bytes, Callable[[bytes], tuple[Sort, Meaning, str]]]] = {
    b"delivery-status": _delivery,
    b"feedback-report": _complaint,
    b"disposition-notification": _receipt,
}


def _part(raw: bytes, found: re.Match[bytes]) -> bytes:
    """The content of the part whose header has this Content-Type, up to the next boundary or the end."""
    end = _HEADER_END.search(raw, found.end())
    if end is None:
        return b""
    lines = raw[max(0, found.start() - 2048) : end.start()]  # its other fields may stand before this one
    headers = _headers.parsebytes(_HEADER_END.split(_BOUNDARY.split(lines)[-1])[-1])
    after = _BOUNDARY.search(raw, end.end())
    return _decode(headers, raw[end.end() : after.start() if after else len(raw)])


def _groups(part: bytes) -> Iterator[Message]:
    for group in _HEADER_END.split(part.strip(), maxsplit=GROUPS)[:GROUPS]:
        yield _headers.parsebytes(group)


# -- What people read --------------------------------------------------------------------------------------------------


def _is_bounce(headers: Message) -> bool:
    return "X-Failed-Recipients" in headers or _DAEMON.search(_line(headers.get("From"))) is not None


def _in_words(headers: Message, body: bytes) -> tuple[Sort, Meaning, str]:
    """A report in plain text, like qmail's and old Exim's. Where no word is known it is soft: three say more."""
    if _STILL_TRYING.search(_line(headers.get("Subject"))):
        return Sort.REPORT, DEFERRED, _line(headers.get("Subject"))
    text = _decode(headers, body)[:16384]
    copy = _COPY.search(text)
    text = text[: copy.start()] if copy else text
    code = _PERMANENT.search(text.decode("latin-1"))
    if code is not None:
        return Sort.REPORT, of_status(code[1]), _around(text, code.start())
    for words, meaning in WORDS:
        if (found := words.search(text)) is not None:
            return Sort.REPORT, meaning, _around(text, found.start())
    return Sort.REPORT, SOFT, ""


def _around(text: bytes, at: int) -> str:
    """The line that decided."""
    begin, end = text.rfind(b"\n", 0, at) + 1, text.find(b"\n", at)
    return _line(text[begin : end if end >= 0 else len(text)].decode("utf-8", "replace"))


def _is_answer(headers: Message) -> bool:
    submitted = _line(headers.get("Auto-Submitted")).lower()
    return (
        (submitted not in ("", "no"))
        or _line(headers.get("Precedence")).lower() in _PRECEDENCE
        or any(name in headers for name in _ANSWERS)
        or _line(headers.get("Return-Path")) == "<>"
    )


# -- Bytes -------------------------------------------------------------------------------------------------------------


def _split(raw: bytes) -> tuple[bytes, bytes]:
    end = _HEADER_END.search(raw)
    return (raw, b"") if end is None else (raw[: end.start()], raw[end.end() :])


def _decode(headers: Message, content: bytes) -> bytes:
    """Without its transfer encoding; what is none is left as it is."""
    match _line(headers.get("Content-Transfer-Encoding")).lower():
        case "base64":
            try:
                return binascii.a2b_base64(content)
            except binascii.Error:
                return content
        case "quoted-printable":
            return quopri.decodestring(content)
        case _:
            return content


def _date(headers: Message) -> datetime | None:
    try:
        found = parsedate_to_datetime(_line(headers.get("Date")))
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _line(value: object) -> str:
    """A header on one line, with nothing in it that would steer a terminal."""
    text = "" if value is None else str(value)[:2000]
    return " ".join("".join(each if each.isprintable() else " " for each in text).split())
