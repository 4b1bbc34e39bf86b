"""A real Postfix: a campaign goes into its queue, its reports come back by Maildir and by pipe, and it dies amid."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from app.config import Settings
from app.flows import ingest, launch, returns, send_range
from app.runtime import Runtime
from tests import postfix, world
from tests.postfix import RETURNS, Postfix, running
from tests.sending_world import later, query, sums
from tests.world import World

pytestmark = pytest.mark.skipif(postfix.find() is not None, reason=f"{postfix.find()}")

ROOT = Path(__file__).parent.parent
TRANSPORTS = {
    "mail0.example.com": "error:5.1.1 No such mailbox",
    "mail1.example.com": "retry:4.2.2 The mailbox is full",
    "mail2.example.com": "error:5.7.1 We do not like it",
    "mail3.example.com": "discard:",
    "mail4.example.com": "discard:",
}
DOMAIN_OF = "SELECT split_part(split_part(email, '@', 2), '.', 1) FROM lead WHERE lead.id = event.lead_id"


@pytest.fixture
def runtime(settings: Settings) -> Iterator[Runtime]:
    opened = Runtime(replace(settings, range_size=100, look_every=0.1), name="test")
    yield opened
    opened.close()


def launched(runtime: Runtime, server: Postfix, leads: int, more: str = "") -> World:
    """A campaign through this server, its reports to come back to `RETURNS`."""
    url = f"smtp://127.0.0.1:{server.port}?tls=none&returns=bounces@{RETURNS}{more}"
    built = world.build(runtime.db, secret_key=runtime.settings.secret_key, leads=leads, provider_url=url)
    launch.launch(runtime, built.organisation_id, built.campaign_id)
    return built


def environment(runtime: Runtime) -> dict[str, str]:
    """What a command needs to find this test's servers."""
    settings = runtime.settings
    return {
        "DATABASE_URL": settings.database_url,
        "REDIS_URL": settings.redis_url,
        "SECRET_KEY": settings.secret_key,
        "MILLRACE_HOME": str(settings.home),
    }


def bounces(runtime: Runtime, *arguments: str) -> dict[str, int]:
    """What `millrace bounces …` says that it took."""
    command = [sys.executable, "-m", "cli", "bounces", *arguments, "--json"]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | environment(runtime),
        capture_output=True,
        check=True,
        stdin=subprocess.DEVNULL,
    )
    counted: dict[str, int] = json.loads(done.stdout)
    return counted


def figures(runtime: Runtime) -> set[tuple[object, ...]]:
    """(domain, kind, sort of bounce, how many), of what is told after the sending."""
    statement = f"""
        SELECT ({DOMAIN_OF}), kind::text, detail ->> 'bounce', sum(weight)
          FROM event
         WHERE kind <> 'sent'
         GROUP BY 1, 2, 3
    """
    return set(query(runtime, statement))


def test_reports_of_a_campaign_find_their_emails_and_suppress_who_is_gone(runtime: Runtime) -> None:
    with running(TRANSPORTS) as server:
        built = launched(runtime, server, leads=100)
        send_range.drain(runtime, seconds=60)
        assert sums(runtime, built.campaign_id) == {"sent": 100}
        waiting = [each for each in server.queue() if each["sender"] != "MAILER-DAEMON"]
        assert len(waiting) == 20
        assert all(re.fullmatch(rf"bounces\+[0-9a-f]{{40}}@{RETURNS}", str(each["sender"])) for each in waiting)
        assert all("mail1" in str(each["recipients"]) and "is full" in str(each["recipients"]) for each in waiting)
        paths = server.reports(60)
        copies = [path.read_bytes() for path in paths]
        assert bounces(runtime, "maildir", str(server.maildir)) == {
            "reports": 60, "unmatched": 0, "answers": 0, "others": 0,
        }  # fmt: skip
        assert not any(path.exists() for path in paths)
        assert bounces(runtime, "maildir", str(server.maildir))["reports"] == 0, "read again"
    ingest.read_waiting(runtime)
    told = {
        ("mail0", "bounced", "hard", 20),
        ("mail1", "deferred", None, 20),
        ("mail2", "bounced", "blocked", 20),
    }
    assert figures(runtime) == told
    gone = query(runtime, "SELECT email FROM suppression JOIN lead USING (email) ORDER BY email")
    assert gone == query(runtime, "SELECT email FROM lead WHERE email LIKE '%@mail0.%' ORDER BY email")

    assert returns.take(runtime, copies).reports == 60  # whoever reads them again changes nothing
    ingest.read_waiting(runtime)
    assert figures(runtime) == told
    assert query(runtime, "SELECT DISTINCT handed_at FROM pool_webhook") == [(None,)], "silence would mean something"


# Postfix lets no pipe run as root, and who is nobody may not read our Python: a thread of ours runs what it asks for.
ASK = """
asked="$(dirname "$0")/asked"; mkdir "$asked" || exit 75
cat > "$asked/mail"; touch "$asked/whole"
while [ ! -s "$asked/status" ]; do sleep 0.05; done
status="$(cat "$asked/status")"; rm -r "$asked"; exit "$status"
"""


def test_a_report_comes_through_a_pipe_and_waits_in_the_queue_while_the_database_is_away(runtime: Runtime) -> None:
    transports = dict.fromkeys(TRANSPORTS, "discard:") | {"mail0.example.com": TRANSPORTS["mail0.example.com"]}
    with running(transports | {RETURNS: "report:"}, ASK) as server:
        server.folder.chmod(0o777)
        launched(runtime, server, leads=5)
        send_range.drain(runtime, seconds=60)
        url = runtime.settings.database_url  # it takes no writes: as one does that is being replaced by its replica
        away = {"DATABASE_URL": f"{url}{'&' if '?' in url else '?'}options=-c%20default_transaction_read_only%3Don"}
        assert run_piped(server, environment(runtime) | away) == 75
        wait_for(server, lambda: "status=deferred" in (server.folder / "log").read_text())
        [waiting] = server.queue()
        assert waiting["sender"] == "MAILER-DAEMON"
        assert query(runtime, "SELECT count(*) FROM webhook") == [(0,)]
        assert run_piped(server, environment(runtime)) == 0
        wait_for(server, lambda: not server.queue())
    ingest.read_waiting(runtime)
    assert figures(runtime) == {("mail0", "bounced", "hard", 1)}


def run_piped(server: Postfix, variables: dict[str, str]) -> int:
    """Run `millrace bounces` on what Postfix pipes next; how it exited, which Postfix is told."""
    asked = server.folder / "asked"
    flushed = time.monotonic()

    def is_whole() -> bool:
        nonlocal flushed
        if time.monotonic() - flushed > 2:  # a transport that failed is left alone for a while, unless one asks
            flushed = time.monotonic()
            server.flush()
        return (asked / "whole").exists()

    wait_for(server, is_whole)
    with (asked / "mail").open("rb") as mail:
        done = subprocess.run(
            [sys.executable, "-m", "cli", "bounces"],
            cwd=ROOT,
            env=os.environ | variables,
            stdin=mail,
            check=False,
            stdout=subprocess.DEVNULL,
        )
    (asked / "status").write_text(str(done.returncode))
    wait_for(server, lambda: not asked.exists())
    return done.returncode


def test_a_server_that_dies_amid_leaves_what_it_took_sent_or_unknown_and_nothing_twice(runtime: Runtime) -> None:
    with running(TRANSPORTS) as server:
        built = launched(runtime, server, leads=800, more="&connections=8")
        sending = threading.Thread(target=send_range.drain, args=(runtime,), kwargs={"seconds": 60})
        sending.start()
        wait_for(server, lambda: len(taken(runtime, server)) > 100)
        server.kill()
        sending.join()
        before = sums(runtime, built.campaign_id)
        assert before.get("open"), "it died too late"
        lost = before.get("unknown", 0)
        back = postfix.again(server)
        try:
            later(runtime, 1000)
            send_range.drain(runtime, seconds=60)
            wait_for(back, lambda: sums(runtime, built.campaign_id).get("open", 0) == 0)
            after = sums(runtime, built.campaign_id)
            assert after == {"sent": 800 - lost} | ({"unknown": lost} if lost else {})
            wait_for(back, lambda: len(taken(runtime, back)) >= after["sent"])
            arrived = taken(runtime, back)
        finally:
            back.kill()
        assert len(set(arrived.values())) == len(arrived), "a lead was mailed twice"
        unknown = unknown_leads(runtime)
        assert set(arrived.values()) | unknown == leads(runtime), "a lead that counts as sent was not taken"
        reported = [path.read_bytes() for path in (server.maildir / "new").glob("*")]
    returns.take(runtime, reported)
    ingest.read_waiting(runtime)
    named = {lead_id for report in reported for _, lead_id in runtime.returns.find(report)}
    assert unknown_leads(runtime) == unknown - named, "a report proves that its email was sent"


def taken(runtime: Runtime, server: Postfix) -> dict[tuple[str, int], int]:
    """Place in the queue -> lead, of the emails that Postfix wrote into its queue and took charge of."""
    log = server.folder / "log"
    lines = log.read_bytes().splitlines() if log.exists() else []
    active = [line for line in lines if b"qmgr[" in line and b"(queue active)" in line and b"from=<bounces+" in line]
    found = {}
    for line in active:
        queue_id = line.split(b": ", 2)[1].decode()
        [(_, lead_id)] = runtime.returns.find(line)
        found[queue_id, lead_id] = lead_id  # with its lead, for a queue's ids are used again
    return found


def wait_for(server: Postfix, met: Callable[[], bool], seconds: float = 20.0) -> None:
    until = time.monotonic() + seconds
    while not met():
        if time.monotonic() > until:
            raise AssertionError((server.folder / "log").read_text()[-6000:])
        time.sleep(0.05)


def unknown_leads(runtime: Runtime) -> set[int]:
    statement = """
        SELECT lead_id
          FROM handoff
         CROSS JOIN unnest(lead_ids, string_to_array(outcomes, NULL)) AS one (lead_id, letter)
         WHERE letter = 'u'
    """
    return {int(str(lead_id)) for (lead_id,) in query(runtime, statement)}


def leads(runtime: Runtime) -> set[int]:
    return {int(str(lead_id)) for (lead_id,) in query(runtime, "SELECT id FROM lead")}
