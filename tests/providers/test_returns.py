"""Reports as they come back from real servers, and as a hostile stranger would write them."""

from __future__ import annotations

import time
from base64 import encodebytes
from datetime import UTC, datetime, timedelta
from textwrap import dedent

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.mail import Bounce, Kind, Meaning, Reported
from app.providers import READERS
from app.providers.returns import KEPT, Sort, judge, kept_form

SMTP = READERS["smtp"]
NOW = datetime(2026, 11, 23, 12, 0, 5, tzinfo=UTC)
TOKEN = "00" * 20

POSTFIX = dedent(
    """\
    Return-Path: <>
    Received: by mx.example.com (Postfix)
    \tid 4ZcT1r2Jk3z9; Mon, 23 Nov 2026 12:00:00 +0000 (UTC)
    Date: Mon, 23 Nov 2026 12:00:00 +0000 (UTC)
    From: MAILER-DAEMON@mx.example.com (Mail Delivery System)
    Subject: Undelivered Mail Returned to Sender
    To: bounces+TOKEN@mail.example.com
    Auto-Submitted: auto-replied
    MIME-Version: 1.0
    Content-Type: multipart/report; report-type=delivery-status;
    \tboundary="4ZcT1r2Jk3z8.1795435200/mx.example.com"
    Message-Id: <20261123120000.4ZcT1r2Jk3z9@mx.example.com>

    This is a MIME-encapsulated message.

    --4ZcT1r2Jk3z8.1795435200/mx.example.com
    Content-Description: Notification
    Content-Type: text/plain; charset=us-ascii

    <ada@example.org>: host mx.example.org[192.0.2.7] said: 550 5.1.1
        <ada@example.org>: User unknown (in reply to RCPT TO command)

    --4ZcT1r2Jk3z8.1795435200/mx.example.com
    Content-Description: Delivery report
    Content-Type: message/delivery-status

    Reporting-MTA: dns; mx.example.com
    X-Postfix-Queue-ID: 4ZcT1r2Jk3z8
    X-Postfix-Sender: rfc822; bounces+TOKEN@mail.example.com
    Original-Envelope-Id: TOKEN
    Arrival-Date: Mon, 23 Nov 2026 11:59:59 +0000 (UTC)

    Final-Recipient: rfc822; ada@example.org
    Original-Recipient: rfc822;ada@example.org
    Action: failed
    Status: 5.1.1
    Remote-MTA: dns; mx.example.org
    Diagnostic-Code: smtp; 550 5.1.1 <ada@example.org>: User unknown

    --4ZcT1r2Jk3z8.1795435200/mx.example.com
    Content-Description: Undelivered Message Headers
    Content-Type: text/rfc822-headers

    From: Ada <news@example.com>
    To: ada@example.org
    Message-ID: <TOKEN@example.com>

    --4ZcT1r2Jk3z8.1795435200/mx.example.com--
    """
)
EXCHANGE = dedent(
    """\
    From: <postmaster@contoso.example>
    To: <bounces+TOKEN@mail.example.com>
    Date: Mon, 23 Nov 2026 11:58:00 +0000
    Content-Type: multipart/report; report-type=delivery-status;
    \tboundary="=_exchange"
    Message-ID: <9a@contoso.example>
    Subject: Undeliverable: News

    --=_exchange
    Content-Type: multipart/alternative; boundary="=_inner"

    --=_inner
    Content-Type: text/html; charset="utf-8"
    Content-Transfer-Encoding: base64

    PGh0bWw+PC9odG1sPg==

    --=_inner--

    --=_exchange
    Content-Transfer-Encoding: base64
    Content-Type: message/delivery-status

    BODY
    --=_exchange
    Content-Type: message/rfc822

    Received: from x by y
    Subject: News
    """
)
BASE64 = encodebytes(
    b"Reporting-MTA: dns;contoso.example\r\n\r\nFinal-recipient: RFC822; ada@contoso.example\r\nAction: failed\r\n"
    b"Status: 5.7.1\r\nDiagnostic-code: smtp;550 5.7.1 message refused\r\n"
).decode()
QMAIL = dedent(
    """\
    Return-Path: <>
    Delivered-To: bounces+TOKEN@mail.example.com
    Date: 23 Nov 2026 11:59:00 -0000
    From: MAILER-DAEMON@old.example.net
    To: bounces+TOKEN@mail.example.com
    Subject: failure notice

    Hi. This is the qmail-send program at old.example.net.
    I'm afraid I wasn't able to deliver your message to the following addresses.

    <ada@old.example.net>:
    Sorry, no mailbox here by that name. (#5.1.1)

    --- Below this line is a copy of the message.

    Return-Path: <bounces+TOKEN@mail.example.com>
    Subject: 4.2.2 reasons
    """
)
EXIM = dedent(
    """\
    X-Failed-Recipients: ada@example.net
    Auto-Submitted: auto-replied
    From: Mail Delivery System <Mailer-Daemon@mail.example.net>
    To: bounces+TOKEN@mail.example.com
    Subject: Mail delivery failed: returning message to sender

    A message that you sent could not be delivered to one or more of its recipients.

      ada@example.net
        mailbox is full: retry timeout exceeded
    """
)
ARF = dedent(
    """\
    From: <abusedesk@example.com>
    Date: Mon, 23 Nov 2026 11:40:36 +0000
    Subject: FW: Earn money
    To: <abuse@example.net>
    Message-ID: <arf1@example.com>
    MIME-Version: 1.0
    Content-Type: multipart/report; report-type=feedback-report;
         boundary="part1_13d.2e68ed54_boundary"

    --part1_13d.2e68ed54_boundary
    Content-Type: text/plain; charset="US-ASCII"

    This is an email abuse report.

    --part1_13d.2e68ed54_boundary
    Content-Type: message/feedback-report

    Feedback-Type: KIND
    User-Agent: SomeGenerator/1.0
    Version: 1

    --part1_13d.2e68ed54_boundary
    Content-Type: message/rfc822
    Content-Disposition: inline

    Return-Path: <redacted>
    X-Millrace-Return: TOKEN
    Subject: News

    Content-Type: message/delivery-status

    Action: failed
    Status: 5.1.1

    --part1_13d.2e68ed54_boundary--
    """
)
HARD = Meaning(Kind.BOUNCED, Kind.SENT, Bounce.HARD)
SOFT = Meaning(Kind.BOUNCED, Kind.SENT, Bounce.SOFT)
BLOCKED = Meaning(Kind.BOUNCED, Kind.SENT, Bounce.BLOCKED)
DEFERRED = Meaning(Kind.DEFERRED, Kind.SENT)
DELIVERED = Meaning(Kind.DELIVERED, Kind.SENT)


def raw(text: str, *, crlf: bool = False) -> bytes:
    written = text.replace("TOKEN", TOKEN).encode()
    return written.replace(b"\n", b"\r\n") if crlf else written


def report(*fields: str) -> bytes:
    """A delivery report with these fields of its recipient, or, parted by "", of several."""
    text = "\n".join(("Content-Type: message/delivery-status", "", "Reporting-MTA: dns; x", "", *fields, ""))
    return text.encode()


@pytest.mark.parametrize("crlf", [False, True], ids=["lf", "crlf"])
def test_a_report_of_postfix_becomes_one_whole_event(crlf: bool) -> None:
    assert SMTP.read_events(kept_form(7, 42, NOW, raw(POSTFIX, crlf=crlf)), "") == [
        Reported(
            key="<20261123120000.4ZcT1r2Jk3z9@mx.example.com>:7:42:bounced",
            at=datetime(2026, 11, 23, 12, 0, tzinfo=UTC),
            handoff_id=7,
            lead_id=42,
            meaning=HARD,
            reason="550 5.1.1 <ada@example.org>: User unknown",
        )
    ]


@pytest.mark.parametrize("crlf", [False, True], ids=["lf", "crlf"])
@pytest.mark.parametrize(
    ("text", "sort", "meaning"),
    [
        (POSTFIX, Sort.REPORT, HARD),
        (POSTFIX[: POSTFIX.index("Final-Recipient")] + "Status: 4.4.1\n", Sort.OTHER, Meaning()),
        (POSTFIX[: POSTFIX.index("Remote-MTA")], Sort.REPORT, HARD),  # cut off there
        (EXCHANGE.replace("BODY", BASE64), Sort.REPORT, BLOCKED),
        (QMAIL, Sort.REPORT, HARD),
        (QMAIL.replace(" (#5.1.1)", ""), Sort.REPORT, HARD),
        (QMAIL.replace("Sorry, no mailbox here by that name. (#5.1.1)", "Sorry."), Sort.REPORT, SOFT),
        (QMAIL.replace("failure notice", "Warning: message delayed 24 hours"), Sort.REPORT, DEFERRED),
        (EXIM, Sort.REPORT, SOFT),
        (EXIM.replace("mailbox is full: retry timeout exceeded", "550 Rejected: spam"), Sort.REPORT, BLOCKED),
        (ARF.replace("KIND", "abuse"), Sort.COMPLAINT, Meaning(Kind.COMPLAINED, Kind.SENT)),
        (ARF.replace("KIND", "Opt-Out"), Sort.COMPLAINT, Meaning(Kind.UNSUBSCRIBED, Kind.SENT)),
        (ARF.replace("KIND", "not-spam"), Sort.OTHER, Meaning()),
        (ARF.replace("KIND", "auth-failure"), Sort.OTHER, Meaning()),
        (POSTFIX.replace("delivery-status", "disposition-notification"), Sort.ANSWER, Meaning()),
        ("From: ada@example.org\nAuto-Submitted: auto-replied\nSubject: Away\n\n5.1.1", Sort.ANSWER, Meaning()),
        ("From: ada@example.org\nX-Autoreply: yes\n\nAway", Sort.ANSWER, Meaning()),
        ("Return-Path: <>\nFrom: ada@example.org\nSubject: Urlaub\n\nWeg", Sort.ANSWER, Meaning()),
        ("From: ada@example.org\nSubject: Re: News\n\nThanks! 550 5.1.1 user unknown", Sort.OTHER, Meaning()),
        ("", Sort.OTHER, Meaning()),
    ],
)
def test_each_sort_of_mail_is_told_from_the_others(text: str, sort: Sort, meaning: Meaning, crlf: bool) -> None:
    judged = judge(raw(text, crlf=crlf))
    assert (judged.sort, judged.meaning) == (sort, meaning)


@pytest.mark.parametrize(
    ("fields", "meaning"),
    [
        (("Action: failed", "Status: 5.1.10"), HARD),
        (("Action: failed", "Status: 5.1.2"), HARD),
        (("Action: failed", "Status: 5.1.8"), BLOCKED),
        (("Action: failed", "Status: 5.2.1"), HARD),
        (("Action: failed", "Status: 5.2.2"), SOFT),
        (("Action: failed", "Status: 5.2.3"), BLOCKED),
        (("Action: failed", "Status: 5.4.4"), HARD),
        (("Action: failed", "Status: 5.4.7"), SOFT),
        (("Action: failed", "Status: 4.4.1"), SOFT),  # tried for days
        (("Action: failed", "Status: 5.6.0"), BLOCKED),
        (("Action: failed", "Status: 5.7.26"), BLOCKED),
        (("Action: failed", "Status: 5.7.13"), HARD),
        (("Action: failed", "Status: 5.0.0"), SOFT),
        (("Action: failed", "Status: 5.0.0", "Diagnostic-Code: smtp; 550 5.1.1 unknown"), HARD),
        (("Action: failed", "Diagnostic-Code: smtp; 550-5.7.1 policy"), BLOCKED),
        (("Action: failed",), SOFT),
        (("Status: 5.1.1",), HARD),
        (("Action: FAILED (really)", "Status: 5.1.1 (bad)"), HARD),
        (("Action: delayed", "Status: 4.4.1"), DEFERRED),
        (("Action: delivered", "Status: 2.0.0"), DELIVERED),
        (("Action: relayed", "Status: 2.0.0"), DELIVERED),
        (("Action: expanded", "Status: 2.0.0"), DELIVERED),
        (("Action: failed", "Status: 5.1.1", "", "Action: delivered", "Status: 2.0.0"), DELIVERED),
        (("Action: failed", "Status: 5.1.1", "", "Action: failed", "Status: 5.2.2"), SOFT),
        (("Action: dreamt", "Status: 2.0.0"), Meaning()),
    ],
)
def test_a_status_says_how_hard_a_bounce_is(fields: tuple[str, ...], meaning: Meaning) -> None:
    assert judge(report(*fields)).meaning == meaning


def test_the_date_of_a_wrong_clock_is_not_believed() -> None:
    for date in ("Mon, 23 Nov 2020 12:00:00 +0000", "Mon, 23 Nov 2037 12:00:00 +0000", "soon", "0", "Mon, 99 Nov"):
        text = POSTFIX.replace("Date: Mon, 23 Nov 2026 12:00:00 +0000", f"Date: {date}", 1)
        [told] = SMTP.read_events(kept_form(7, 42, NOW, raw(text)), "")
        assert told.at == NOW.replace(microsecond=0)


def test_the_same_report_has_the_same_key_and_another_has_not() -> None:
    again, other = raw(QMAIL), raw(QMAIL.replace("11:59:00", "11:59:30"))
    keys = [SMTP.read_events(kept_form(7, 42, NOW, each), "")[0].key for each in (again, again, other)]
    assert keys[0] == keys[1] != keys[2]
    assert SMTP.read_events(kept_form(7, 43, NOW, again), "")[0].key != keys[0]


def test_a_post_that_is_no_mail_of_ours_is_an_error_of_its_own() -> None:
    for body in (
        b"",
        b"{}",
        b"X-Millrace-Returned: 7 42\r\n",
        b"X-Other: 7 42 0\r\n",
        b"X-Millrace-Returned: a b c\r\n",
    ):
        with pytest.raises(ValueError):
            SMTP.read_events(body, "")


def test_answers_make_no_event() -> None:
    assert SMTP.read_events(kept_form(7, 42, NOW, b"Auto-Submitted: auto-replied\n\nAway"), "") == []


NESTED = b"".join(b'Content-Type: multipart/mixed; boundary="%d"\n\n--%d\n' % (n, n) for n in range(2000))
HOSTILE = {
    "nested": NESTED + b"Content-Type: message/delivery-status\n\nAction: failed\nStatus: 5.1.1\n",
    "blank lines": b"\n \n" * 100_000,
    "blanks": b"Content-Type: message/delivery-status\n\n" + b" " * 200_000,
    "one line": b"Subject: " + b"x" * 1_000_000,
    "dashes": b"Content-Type: message/delivery-status\n" + b"--\n" * 100_000,
    "content types": b"Content-Type: message/\n" * 20_000,
    "groups": b"Content-Type: message/delivery-status\n\n" + b"Action: failed\n\n" * 20_000,
    "folded": b"Content-Type: message/delivery-status\n\nAction: failed\n" + b" x\n" * 50_000,
    "codes": b"From: MAILER-DAEMON@x\n\n" + b"5.1." * 50_000,
    "words": b"From: MAILER-DAEMON@x\n\n" + b"user user address account " * 5_000,
    "charset": b"From: MAILER-DAEMON@x\nSubject: =?nonsense?B?////?=\nContent-Transfer-Encoding: base64\n\n\xff\xfe!",
    "header bytes": b"From: \xff\xfe\nMessage-ID: \x00\x1b[31m\nDate: \xff\n\n",
    "quoted": b"From: MAILER-DAEMON@x\nContent-Transfer-Encoding: quoted-printable\n\n" + b"=" * 100_000,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_mail_is_read_in_no_time(text: bytes) -> None:
    begun = time.monotonic()
    judged = judge(text)
    assert time.monotonic() - begun < 0.5
    assert judged.own_id.isprintable() and len(judged.reason) <= 2000


@given(st.lists(st.sampled_from([*POSTFIX.splitlines(), *ARF.splitlines(), "", "--", " x", "\x00"])), st.binary())
def test_whatever_is_put_together_never_raises(lines: list[str], more: bytes) -> None:
    body = "\n".join(lines).encode() + more
    judge(body)
    for told in SMTP.read_events(kept_form(7, 42, NOW, body), ""):
        assert NOW - timedelta(days=6) < told.at <= NOW


def test_what_stands_behind_the_beginning_is_not_looked_at() -> None:
    assert judge(b"Subject: x\n\n" + b"x\n" * KEPT + report("Action: failed", "Status: 5.1.1")).sort is Sort.OTHER
