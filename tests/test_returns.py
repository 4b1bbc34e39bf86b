"""Mail that comes back finds its email by a signed token alone, whatever brings it, however often, whoever wrote it."""

from __future__ import annotations

import io
import json
import ssl
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from textwrap import dedent
from urllib.parse import quote

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from app.config import Settings
from app.errors import Invalid, NotFound, ProviderDown, ProviderRefusesUs
from app.flows import ingest, launch, returns, send_range
from app.models import mailbox, webhook
from app.models.mailbox import Taken
from app.providers import mail_box
from app.providers.mail_box import TOOK, MailboxAccount
from app.providers.mbox import messages
from app.providers.returns import kept_form
from app.runtime import Runtime
from app.signing import ReturnTokens
from cli.main import main
from tests import world
from tests.providers.mailbox_peer import PASSWORD, USER, Mailbox, serving
from tests.sending_world import later, query, sums
from tests.test_smtp import Mailbox as Server
from tests.test_smtp import authority, serve
from tests.world import World

__all__ = ["authority"]  # the fixture

REPORT = dedent(
    """\
    From: MAILER-DAEMON@mx.example.com
    To: ADDRESS
    Message-ID: <NAME@mx.example.com>
    Content-Type: multipart/report; report-type=delivery-status; boundary="b"

    --b
    Content-Type: message/delivery-status

    Reporting-MTA: dns; mx.example.com

    Final-Recipient: rfc822; somebody@example.com
    Action: failed
    Status: STATUS

    --b
    Content-Type: text/rfc822-headers

    Subject: News
    HEADERS
    --b--
    """
)


@pytest.fixture
def sent(settings: Settings) -> Iterator[tuple[Runtime, World, Server]]:
    """A campaign of 10 that went through a real server, which has kept it."""
    server = Server(pipelining=True)
    with closing(Runtime(settings)) as runtime, serve(server) as port:
        url = f"smtp://127.0.0.1:{port}?tls=none&returns=bounces@mail.example.com"
        built = world.build(runtime.db, secret_key=settings.secret_key, leads=10, provider_url=url)
        launch.launch(runtime, built.organisation_id, built.campaign_id)
        send_range.drain(runtime)
        yield runtime, built, server


def address_of(server: Server, lead_id: int) -> str:
    """The return address of the email to this lead."""
    return next(sender for sender, [to], _ in server.received if to.startswith(f"lead{lead_id}@"))


def report(address: str, *, status: str = "5.1.1", name: str = "one", headers: str = "") -> bytes:
    text = REPORT.replace("ADDRESS", address).replace("STATUS", status).replace("NAME", name)
    return text.replace("HEADERS", headers).encode()


def told(runtime: Runtime) -> list[tuple[object, ...]]:
    """(lead, kind, sort of bounce) of what is told after the sending."""
    ingest.read_waiting(runtime)
    return query(
        runtime,
        "SELECT lead_id, kind::text, detail ->> 'bounce' FROM event"
        " WHERE kind NOT IN ('sent', 'unknown') ORDER BY lead_id, kind",
    )


def test_every_letter_has_a_return_address_of_its_own_that_names_it(sent: tuple[Runtime, World, Server]) -> None:
    runtime, _, server = sent
    assert len({sender for sender, _, _ in server.received}) == 10
    for sender, [to], raw in server.received:
        name, _, domain = sender.partition("@")
        assert (name.partition("+")[0], domain, len(name)) == ("bounces", "mail.example.com", 48)
        [(_, lead_id)] = runtime.returns.find(sender.encode())
        assert to.startswith(f"lead{lead_id}@")
        assert runtime.returns.find(raw) == runtime.returns.find(sender.upper().encode()), "the Message-ID says another"


def test_a_report_counts_once_however_often_it_comes(sent: tuple[Runtime, World, Server]) -> None:
    runtime, built, server = sent
    bounced = report(address_of(server, 3))
    assert returns.take(runtime, [bounced, bounced]) == Taken(reports=2)
    assert told(runtime) == [(3, "bounced", "hard")]
    returns.take(runtime, [bounced])
    with runtime.db.begin() as conn:
        conn.execute(text("DELETE FROM webhook"))  # its retention is over
    returns.take(runtime, [bounced])
    assert told(runtime) == [(3, "bounced", "hard")]
    assert query(runtime, "SELECT email, reason FROM suppression") == [("lead3@mail3.example.com", "bounced")]
    now = datetime.now(UTC)
    earlier = now + timedelta(minutes=-2 if now.hour else 2)  # and of the same day
    [(handoff_id, lead_id)] = runtime.returns.find(bounced)
    with runtime.db.begin() as conn:  # as somebody took it who came by in another minute: it says no time of its own
        webhook.keep(conn, built.pool_id, "once more", kept_form(handoff_id, lead_id, earlier, bounced))
    assert told(runtime) == [(3, "bounced", "hard")]
    returns.take(runtime, [report(address_of(server, 3), name="another", status="4.4.7")])
    assert told(runtime) == [(3, "bounced", "hard"), (3, "bounced", "soft")]


@pytest.mark.parametrize(
    "headers",
    ["Return-Path: <ADDRESS>", "Message-ID: <TOKEN@example.com>", "X-Millrace-Return: TOKEN", "References: <TOKEN@x>"],
)
def test_the_returned_email_names_itself_where_the_address_is_lost(
    sent: tuple[Runtime, World, Server], headers: str
) -> None:
    runtime, _, server = sent
    address = address_of(server, 4)
    token = address.partition("+")[2].partition("@")[0]
    written = headers.replace("ADDRESS", address).replace("TOKEN", token)
    assert returns.take(runtime, [report("postmaster@example.com", headers=written)]) == Taken(reports=1)
    assert told(runtime) == [(4, "bounced", "hard")]


def test_a_forged_token_touches_nobody(sent: tuple[Runtime, World, Server]) -> None:
    runtime, _, server = sent
    token = address_of(server, 5).partition("+")[2].partition("@")[0]
    other = ReturnTokens("another secret key, that is long enough").token(1, 5)
    flipped = f"{int(token, 16) ^ 1:040x}"
    elsewhere = f"{int(token[:24], 16) + 1:024x}{token[24:]}"  # another lead under this one's signature
    forged = [report(f"bounces+{each}@mail.example.com", name=each) for each in (other, flipped, elsewhere, "0" * 40)]
    forged.append(report("bounces@mail.example.com", headers="X-Millrace-Handoff: 1\nX-Millrace-Lead: 5"))
    forged.append(report(f"bounces+{runtime.returns.token(999, 5)}@mail.example.com", name="no such call"))
    forged.append(report(f"bounces+{runtime.returns.token(1, 999)}@mail.example.com", name="no such lead"))
    assert returns.take(runtime, forged) == Taken(unmatched=7)
    assert told(runtime) == [] and query(runtime, "SELECT * FROM suppression") == []
    assert query(runtime, "SELECT * FROM webhook") == []


def test_answers_and_other_mail_are_counted_and_left_alone(sent: tuple[Runtime, World, Server]) -> None:
    runtime, _, server = sent
    to = address_of(server, 6)
    away = f"From: lead6@mail1.example.com\nTo: {to}\nAuto-Submitted: auto-replied\n\nAway, 5.1.1".encode()
    thanks = f"From: lead6@mail1.example.com\nTo: {to}\n\nThank you, no such user!".encode()
    assert returns.take(runtime, [away, thanks, b"", b"\xff\x00"]) == Taken(answers=1, others=3)
    assert told(runtime) == []


def test_a_report_settles_what_was_unknown_and_silence_settles_nothing(settings: Settings) -> None:
    with closing(Runtime(settings)) as runtime:
        built = world.build(
            runtime.db,
            secret_key=settings.secret_key,
            leads=4,
            provider_url="smtp://127.0.0.1:9?tls=none&returns=bounces@mail.example.com",
        )
        with runtime.db.begin() as conn:
            conn.execute(text("UPDATE campaign SET state = 'settling', run = 1, launched_at = now()"))
            range_id = world.add_range(conn, built.campaign_id, [1, 2, 3, 4])
            conn.execute(text("UPDATE outbox SET state = 'done', position = 4, unknown = 4"))
            handoff_id = conn.execute(
                text(
                    "INSERT INTO handoff (range_id, campaign_id, run, pool_id, key, lead_ids, state, outcomes,"
                    " unknown_since, settled_at) SELECT :range_id, :campaign_id, 1, :pool_id, gen_random_uuid(),"
                    " '{1,2,3,4}', 'unknown', 'uuuu', now(), now() RETURNING id"
                ),
                {"range_id": range_id, "campaign_id": built.campaign_id, "pool_id": built.pool_id},
            ).scalar_one()
        address = f"bounces+{runtime.returns.token(handoff_id, 2)}@mail.example.com"
        returns.take(runtime, [report(address)])
        assert told(runtime) == [(2, "bounced", "hard")]
        later(runtime, 0)
        assert query(runtime, "SELECT outcomes FROM handoff") == [("usuu",)]
        assert sums(runtime, built.campaign_id) == {"sent": 1, "unknown": 3}
        assert query(runtime, "SELECT handed_at FROM pool_webhook") == [(None,)]


# -- What brings them --------------------------------------------------------------------------------------------------


def box_url(
    kind: str, port: int, authority: tuple[ssl.SSLContext, Path], more: str = "", password: str = PASSWORD
) -> str:
    return f"{kind}://{quote(USER)}:{quote(password, safe='')}@127.0.0.1:{port}{more}?ca={authority[1]}"


@pytest.mark.parametrize(("kind", "more", "left"), [("imaps", "", 41), ("imaps", "&then=delete", 0), ("pop3s", "", 0)])
def test_a_pools_mailbox_is_read_and_what_was_taken_let_go(
    sent: tuple[Runtime, World, Server], authority: tuple[ssl.SSLContext, Path], kind: str, more: str, left: int
) -> None:
    runtime, built, server = sent
    mails = [report(address_of(server, n % 10 + 1), name=str(n)) for n in range(40)]
    box = Mailbox(*mails, b"Subject: a person's\r\n\r\nHello.\r\n.\r\n..")
    with serving(kind, box, authority[0]) as port:
        returns.set_mailbox(runtime, built.pool_id, box_url(kind, port, authority) + more)
        assert returns.read_due(runtime) == 41
        assert returns.read_due(runtime) == 0, "it is not due again"
        assert returns.read_one(runtime, built.pool_id) == Taken()
    assert len(box.messages) == left and box.logins == 2
    assert len(told(runtime)) == 40
    with runtime.db.begin() as conn:
        [line] = mailbox.list_all(conn)
    assert (line.reports, line.others, line.error, line.failures) == (40, 1, None, 0)
    assert line.read_at is not None and "p%40ss" not in line.shown_url and USER not in line.shown_url


@pytest.mark.parametrize("kind", ["imaps", "pop3s"])
def test_a_mailbox_that_hangs_up_loses_nothing(
    sent: tuple[Runtime, World, Server], authority: tuple[ssl.SSLContext, Path], kind: str
) -> None:
    runtime, built, server = sent
    box = Mailbox(*(report(address_of(server, n % 10 + 1), name=str(n)) for n in range(40)))
    box.hang_up_after = 30
    with serving(kind, box, authority[0]) as port:
        returns.set_mailbox(runtime, built.pool_id, box_url(kind, port, authority))
        with pytest.raises(ProviderDown):
            returns.read_one(runtime, built.pool_id)
        with runtime.db.begin() as conn:
            [line] = mailbox.list_all(conn)
            assert line.failures == 1 and line.error and "p@ss" not in line.error
        box.hang_up_after = 0
        returns.read_one(runtime, built.pool_id)
    assert len(told(runtime)) == 40, "one was lost, or counted twice"


def test_a_mailbox_is_let_go_only_of_what_was_committed(
    sent: tuple[Runtime, World, Server], authority: tuple[ssl.SSLContext, Path]
) -> None:
    runtime, built, server = sent
    box = Mailbox(report(address_of(server, 1)))
    with serving("imaps", box, authority[0]) as port:
        returns.set_mailbox(runtime, built.pool_id, box_url("imaps", port, authority))
        with runtime.db.begin() as conn:
            conn.execute(text("ALTER TABLE webhook RENAME TO nowhere"))
        with pytest.raises(ProgrammingError):
            returns.read_one(runtime, built.pool_id)
        assert not box.seen
        with runtime.db.begin() as conn:
            conn.execute(text("ALTER TABLE nowhere RENAME TO webhook"))
        assert returns.read_one(runtime, built.pool_id) == Taken(reports=1)
    assert told(runtime) == [(1, "bounced", "hard")]


def test_a_mailbox_of_many_is_looked_through_in_windows(
    sent: tuple[Runtime, World, Server], authority: tuple[ssl.SSLContext, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime, built, server = sent
    monkeypatch.setattr(mail_box, "WINDOW", 7)
    box = Mailbox(*(report(address_of(server, n % 10 + 1), name=str(n)) for n in range(30)))
    box.seen = {*range(8, 15), 30}  # a whole window, and the last one
    with serving("imaps", box, authority[0]) as port:
        returns.set_mailbox(runtime, built.pool_id, box_url("imaps", port, authority))
        assert returns.read_one(runtime, built.pool_id) == Taken(reports=22)
    assert box.seen == set(range(1, 31))


@pytest.mark.parametrize("kind", ["imaps", "pop3s"])
def test_a_huge_message_and_endless_lines_cost_no_more_than_others(
    sent: tuple[Runtime, World, Server], authority: tuple[ssl.SSLContext, Path], kind: str
) -> None:
    runtime, built, server = sent
    huge = report(address_of(server, 1)) + b"x" * (3 * TOOK) + b"\r\n" + b"y\r\n" * TOOK
    with serving(kind, Mailbox(huge, report(address_of(server, 2))), authority[0]) as port:
        returns.set_mailbox(runtime, built.pool_id, box_url(kind, port, authority))
        assert returns.read_one(runtime, built.pool_id) == Taken(reports=2)
    assert [lead_id for lead_id, _, _ in told(runtime)] == [1, 2]


def open_alerts(runtime: Runtime) -> list[tuple[object, ...]]:
    return query(runtime, "SELECT kind, subject FROM alert WHERE cleared_at IS NULL")


@pytest.mark.parametrize("kind", ["imaps", "pop3s"])
def test_a_wrong_password_or_certificate_is_said_and_the_others_mailboxes_are_read(
    sent: tuple[Runtime, World, Server], authority: tuple[ssl.SSLContext, Path], kind: str
) -> None:
    runtime, built, _ = sent
    with serving(kind, Mailbox(), authority[0]) as port:
        returns.set_mailbox(runtime, built.pool_id, box_url(kind, port, authority, password="wrong"))
        with pytest.raises(ProviderRefusesUs) as refused:
            returns.read_one(runtime, built.pool_id)
        assert "wrong" not in str(refused.value)
        returns.set_mailbox(runtime, built.pool_id, box_url(kind, port, authority).partition("?")[0])
        with pytest.raises(ProviderDown, match="certificate"):
            returns.read_one(runtime, built.pool_id)
        assert returns.read_due(runtime) == 0
        for _ in range(mailbox.TELL_AFTER):
            with pytest.raises(ProviderDown):
                returns.read_one(runtime, built.pool_id)
        assert open_alerts(runtime) == [("mailbox_failed", built.pool_id)]
        returns.set_mailbox(runtime, built.pool_id, box_url(kind, port, authority))
        assert returns.read_due(runtime) == 0 and open_alerts(runtime) == []
        if kind == "imaps":
            returns.set_mailbox(runtime, built.pool_id, box_url(kind, port, authority, "/Elsewhere"))
            with pytest.raises(ProviderRefusesUs, match="Unknown mailbox"):
                returns.read_one(runtime, built.pool_id)


@pytest.mark.parametrize(
    "url",
    [
        "http://a:b@example.com",
        "imaps://example.com",
        "imaps://a@example.com",
        "imaps://a:b@example.com/x%22y",
        "imaps://a:b@example.com/x\r\ny",
        "pop3s://a:b@example.com/INBOX",
        "imap://a:b@example.com?tls=none",
        "imaps://a:b@127.0.0.1?tls=none",
        "imaps://a:b@example.com?then=eat",
        "imaps://a%0d%0aDELETE:b@example.com",
    ],
)
def test_what_is_no_mailbox_is_refused(url: str) -> None:
    with pytest.raises(Invalid) as refused:
        MailboxAccount.read(url)
    assert refused.value.faults[0].pointer == "url"


def test_an_mbox_is_cut_into_its_messages_and_a_single_message_is_not() -> None:
    one = b"Subject: one\n\nFrom here on\n\nFrom me, 12:00 in 2026 or so\n"
    assert list(messages(io.BytesIO(one))) == [one]
    stamp = b"From MAILER-DAEMON Mon Nov 23 12:00:00 2026\n"
    assert list(messages(io.BytesIO(stamp + one + b"\n" + stamp + b"Subject: two\n\n\n" + stamp))) == [
        one + b"\n",
        b"Subject: two\n\n\n",
    ]
    assert list(messages(io.BytesIO(b""))) == []
    assert list(messages(io.BytesIO(b"\n\n"))) == []


def test_an_endless_stream_is_read_in_bounded_memory() -> None:
    class Endless(io.RawIOBase):
        given = 0

        def readline(self, size: int | None = -1, /) -> bytes:
            self.given += 1
            return b"x" * (size or 0) if self.given < 20_000 else b""

    [message] = messages(Endless())  # type: ignore[arg-type]
    assert len(message) <= TOOK


@pytest.fixture
def environment(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", settings.database_url)
    monkeypatch.setenv("REDIS_URL", settings.redis_url)
    monkeypatch.setenv("SECRET_KEY", settings.secret_key)
    monkeypatch.setenv("MILLRACE_HOME", str(settings.home))


def bounces(*words: str, given: bytes = b"", **variables: str) -> Result:
    return CliRunner().invoke(main, ["bounces", *words], input=given, env=variables)


@pytest.mark.usefixtures("environment")
def test_the_command_reads_an_mbox_from_its_input(sent: tuple[Runtime, World, Server]) -> None:
    runtime, _, server = sent
    stamp = b"\nFrom MAILER-DAEMON Mon Nov 23 12:00:00 2026\n"
    given = b"".join(stamp + report(address_of(server, n), name=str(n)) for n in (7, 8)) + stamp + b"Subject: x\n\nHi"
    done = bounces("--json", given=given.lstrip())
    assert (done.exit_code, done.stderr) == (0, "")
    assert json.loads(done.output) == {"reports": 2, "unmatched": 0, "answers": 0, "others": 1}
    assert [lead_id for lead_id, _, _ in told(runtime)] == [7, 8]


@pytest.mark.usefixtures("environment")
def test_the_command_sets_lists_reads_and_removes_a_mailbox(
    sent: tuple[Runtime, World, Server], authority: tuple[ssl.SSLContext, Path]
) -> None:
    runtime, built, server = sent
    with serving("imaps", Mailbox(report(address_of(server, 9))), authority[0]) as port:
        done = bounces("mailbox", "set", "pool", MAILBOX_URL=box_url("imaps", port, authority))
        assert done.exit_code == 0, done.output
        assert json.loads(bounces("mailbox", "read", "Pool", "--json").output)["reports"] == 1
    listed = bounces("mailbox", "list", "--json").output
    [line] = json.loads(listed)
    assert (line["pool"], line["reports"], line["error"]) == ("Pool", 1, None)
    assert PASSWORD not in listed and quote(PASSWORD, safe="") not in listed
    assert "1 reports, 0 of others" in bounces("mailbox", "list").output
    assert bounces("mailbox", "remove", str(built.pool_id)).output == "Removed.\n"
    assert "There is no SMTP pool called Nobody" in bounces("mailbox", "read", "Nobody").output
    bad = bounces("mailbox", "set", "Pool", MAILBOX_URL="imaps://u:secret@example.com/a%22")
    assert bad.exit_code == 1 and "secret" not in bad.output
    with pytest.raises(NotFound):
        returns.read_one(runtime, built.pool_id)
