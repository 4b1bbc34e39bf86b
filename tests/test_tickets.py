"""Connections to one mail server are shared: by all processes, and by what goes to each receiver."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from aiosmtpd.smtp import SMTP, Envelope, Session
from sqlalchemy import text

from app.config import Settings
from app.errors import ProviderDown
from app.flows import launch, send_range
from app.mail import Accepted, Batch, Deferred, Outcome
from app.models import connection, limit, outbox
from app.models.limit import Limit
from app.models.outbox import Progress
from app.providers import Provider, open_provider, smtp_lines
from app.runtime import Runtime
from app.tickets import PoolTickets
from tests import world
from tests.provider_peers import batch_of, letters_to
from tests.test_smtp import serve
from tests.test_smtp_returns import Crowd
from tests.world import World


class ByDomain(Crowd):
    """Knows, too, how many connections carried emails to a domain at once, and how many each carried."""

    def __init__(self) -> None:
        super().__init__()
        self.carrying: defaultdict[str, set[Session]] = defaultdict(set)
        self.to_most: Counter[str] = Counter()
        self.to_letters: defaultdict[str, Counter[int]] = defaultdict(Counter)

    async def handle_RCPT(self, server: SMTP, session: Session, envelope: Envelope, address: str, options: Any) -> str:
        domain = address.rpartition("@")[2]
        self.carrying[domain].add(session)
        self.carrying[domain] &= self.here
        self.to_most[domain] = max(self.to_most[domain], len(self.carrying[domain]))
        self.to_letters[domain][id(session)] += 1
        return await super().handle_RCPT(server, session, envelope, address, options)


class Slow(Crowd):
    """Takes its time for each letter, and knows who has hung up without a word."""

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        await asyncio.sleep(0.01)
        return await super().handle_DATA(server, session, envelope)

    async def handle_MAIL(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        self.here = {each for each in self.here if each in self.lines and not self.lines[each].is_closing()}
        self.lines[session] = server.transport
        return await super().handle_MAIL(server, session, envelope, address, options)

    def __init__(self) -> None:
        super().__init__()
        self.lines: dict[Session, Any] = {}


def batch(at: int, receiver: str = "", letters: int = 10) -> Batch:
    found = batch_of(letters_to(*(f"a{n}@example.com" for n in range(letters))), handoff=at)
    return replace(found, receiver=receiver)


def built_at(runtime: Runtime, port: int, more: str = "", leads: int = 0) -> World:
    url = f"smtp://127.0.0.1:{port}?tls=none{more}"
    return world.build(runtime.db, secret_key=runtime.settings.secret_key, provider_url=url, leads=leads)


def set_limits(runtime: Runtime, pool_id: int, *limits: Limit) -> None:
    with runtime.db.begin() as conn:
        limit.set_limits(conn, pool_id, limits)


@contextmanager
def processes(settings: Settings, pool_id: int, count: int) -> Iterator[list[Provider]]:
    """The pool's provider, as each of several processes has it."""
    with ExitStack() as opened:
        providers = []
        for _ in range(count):
            runtime = Runtime(settings)
            opened.callback(runtime.close)
            with runtime.db.begin() as conn:
                url = conn.execute(text("SELECT url FROM pool WHERE id = :id"), {"id": pool_id}).scalar_one()
            providers.append(runtime.provider(url, pool_id))
        yield providers


def send_all(providers: list[Provider], batches: list[Batch]) -> int:
    """All at once, in turn through each process; how many letters were taken, those that found no place sent again."""

    def send(place: int) -> int:
        left, taken = batches[place], 0
        while left.letters:
            try:
                outcomes = providers[place % len(providers)].send(left)
                taken += sum(isinstance(each, Accepted) for each in outcomes)
                put_off = [
                    each for each, outcome in zip(left.letters, outcomes, strict=True) if outcome_is_later(outcome)
                ]
                left = replace(left, letters=put_off)
            except ProviderDown as busy:
                assert busy.passing
                time.sleep(0.1)
        return taken

    with ThreadPoolExecutor(12) as calls:
        return sum(calls.map(send, range(len(batches))))


def outcome_is_later(outcome: Outcome) -> bool:
    """Of a batch that was under way when no connection was to be had any more."""
    return isinstance(outcome, Deferred) and outcome.retry_in is not None


def eventually(true: Callable[[], bool], seconds: float = 10.0) -> bool:
    until = time.monotonic() + seconds
    while not true() and time.monotonic() < until:
        time.sleep(0.05)
    return true()


def open_now(runtime: Runtime, pool_id: int) -> dict[str, int]:
    with runtime.db.begin() as conn:
        return connection.count_open(conn, pool_id)


def test_processes_together_never_open_more_connections_than_the_pool_has(runtime: Runtime, settings: Settings) -> None:
    server = Crowd()
    with serve(server) as port:
        built = built_at(runtime, port, "&connections=3&messages=15")
        with processes(settings, built.pool_id, 3) as providers:
            assert send_all(providers, [batch(at) for at in range(1, 25)]) == 240
            assert sum(open_now(runtime, built.pool_id).values()) <= 3
        assert server.most == 3, "the limit is not reached, or not kept"
        assert max(server.letters.values()) == 15
        assert open_now(runtime, built.pool_id) == {}, "tickets are not given back"


def test_a_receiver_has_its_own_connections_and_emails_over_each(runtime: Runtime, settings: Settings) -> None:
    server = Crowd()
    with serve(server) as port:
        built = built_at(runtime, port, "&connections=8")
        set_limits(runtime, built.pool_id, Limit("yahoo", connections=2, messages=7))
        with processes(settings, built.pool_id, 2) as providers:
            assert send_all(providers, [batch(at, "yahoo") for at in range(1, 13)]) == 120
            assert (server.most, max(server.letters.values())) == (2, 7)
            letters = dict(server.letters)
            assert send_all(providers, [batch(at, "") for at in range(13, 25)]) == 120
    assert server.most > 2, "others are not held up by it"
    assert max(server.letters[each] for each in server.letters.keys() - letters.keys()) > 7


def test_emails_to_two_receivers_never_share_a_connection(runtime: Runtime, settings: Settings) -> None:
    server = Crowd()
    with serve(server) as port:
        built = built_at(runtime, port, "&connections=1")
        with processes(settings, built.pool_id, 1) as [provider]:
            for receiver in ("yahoo", "google", "yahoo"):  # one goes so that another may come
                assert send_all([provider], [batch(1, receiver)]) == 10
        assert (server.most, len(server.letters)) == (1, 3)


def test_what_a_process_left_behind_runs_out(runtime: Runtime, settings: Settings) -> None:
    with serve(Crowd()) as port:
        built = built_at(runtime, port, "&connections=1")
        with runtime.db.begin() as conn:
            assert connection.take(conn, uuid4(), built.pool_id, "", 1, 60.0) is not None  # and it was killed
        with processes(settings, built.pool_id, 1) as [provider]:
            begun = time.monotonic()
            with pytest.raises(ProviderDown, match="Other processes") as busy:
                provider.send(batch(1))
            assert (busy.value.passing, busy.value.retry_in) == (True, smtp_lines.LATER)
            assert time.monotonic() - begun < smtp_lines.PATIENCE + 1.0, "a worker is held up by a pool that is full"
            with runtime.db.begin() as conn:
                conn.execute(text("UPDATE pool_connection SET until = now()"))
            assert send_all([provider], [batch(2)]) == 10


def test_an_idle_connection_is_closed_soon_so_that_another_process_may_have_it(
    runtime: Runtime, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smtp_lines, "HELD_IDLE", 0.3)
    server = Crowd()
    with serve(server) as port:
        built = built_at(runtime, port, "&connections=1")
        with processes(settings, built.pool_id, 2) as [one, other]:
            assert send_all([one], [batch(1)]) == 10
            assert send_all([other], [batch(2)]) == 10
            assert eventually(lambda: open_now(runtime, built.pool_id) == {} and not server.here)
    assert server.most == 1


def test_a_ticket_is_renewed_while_its_connection_is_used_and_lost_when_its_time_is_over(runtime: Runtime) -> None:
    built = built_at(runtime, 25)
    tickets = PoolTickets(runtime.db, built.pool_id, deadline=18.0)
    first = tickets.take("", 1)
    assert first is not None and tickets.take("", 1) is None
    assert tickets.renew(first) == first, "it asks the database where it need not"
    old = first._replace(until=time.monotonic() + 20.0)
    renewed = tickets.renew(old)
    assert renewed is not None and renewed.until > old.until + 30.0
    with runtime.db.begin() as conn:
        conn.execute(text("UPDATE pool_connection SET until = now() - interval '1 second'"))
    assert tickets.renew(old) is None
    assert tickets.take("", 1) is not None


def test_a_lower_limit_acts_on_connections_that_are_open(runtime: Runtime) -> None:
    built = built_at(runtime, 25)
    tickets = PoolTickets(runtime.db, built.pool_id, deadline=18.0)
    taken = [tickets.take("yahoo", 9) for _ in range(3)]
    set_limits(runtime, built.pool_id, Limit("yahoo", connections=1, messages=5))
    assert tickets.take("yahoo", 9) is None
    kept = [tickets.renew(each._replace(until=0.0)) for each in taken if each is not None]
    assert [each.messages for each in kept if each is not None] == [5]


def test_many_that_ask_at_once_get_no_more_than_there_are(settings: Settings, runtime: Runtime) -> None:
    built = built_at(runtime, 25)
    gate = threading.Barrier(8)
    tickets = PoolTickets(runtime.db, built.pool_id, deadline=18.0)

    def take(_: int) -> bool:
        gate.wait(10)
        return tickets.take("", 3) is not None

    with ThreadPoolExecutor(8) as asking:
        assert sum(asking.map(take, range(8))) == 3


def test_who_asks_while_another_takes_the_last_one_waits_and_gets_none(runtime: Runtime) -> None:
    built = built_at(runtime, 25)
    tickets = PoolTickets(runtime.db, built.pool_id, deadline=18.0)
    with ThreadPoolExecutor(1) as asking:
        with runtime.db.begin() as conn:
            assert connection.take(conn, uuid4(), built.pool_id, "", 1, 60.0) is not None
            second = asking.submit(tickets.take, "", 1)
            time.sleep(0.3)
            assert not second.done(), "it does not see a ticket that is about to be taken"
        assert second.result(10) is None


def test_a_campaign_by_two_workers_keeps_to_a_receivers_connections(settings: Settings, runtime: Runtime) -> None:
    server = ByDomain()
    with serve(server) as port:
        built = built_at(runtime, port, "&connections=6&batch=10", leads=400)
        with runtime.db.begin() as conn:
            conn.execute(text("UPDATE domain SET receiver = 'yahoo' WHERE name = 'mail1.example.com'"))
        set_limits(runtime, built.pool_id, Limit("yahoo", connections=1, messages=20))
        launch.launch(runtime, built.organisation_id, built.campaign_id)
        workers = [Runtime(settings) for _ in range(2)]
        until = time.monotonic() + 60

        def work(worker: Runtime) -> None:
            while time.monotonic() < until and open_leads() > 0:
                send_range.drain(worker, seconds=2)
                time.sleep(0.2)

        def open_leads() -> int:
            with runtime.db.begin() as conn:
                return outbox.progress(conn, built.campaign_id).open

        with ThreadPoolExecutor(2) as threads:
            list(threads.map(work, workers))
        for worker in workers:
            worker.close()
        with runtime.db.begin() as conn:
            assert outbox.progress(conn, built.campaign_id) == Progress(400, 400, 0, 0, 0, 0, 0, 0)
    assert server.to_most["mail1.example.com"] == 1, "two connections carried emails to the receiver at once"
    assert max(server.to_letters["mail1.example.com"].values()) <= 20
    assert server.most > 1


def test_alone_a_process_asks_nobody(settings: Settings) -> None:
    """As a check and a test send do: they have no pool's tickets, and no database."""
    server = Crowd()
    with serve(server) as port:
        provider = open_provider(f"smtp://127.0.0.1:{port}?tls=none&connections=2", deadline=10.0)
        assert send_all([provider], [batch(at) for at in range(1, 7)]) == 60
        provider.close()
    assert server.most == 2


WORK = """
import os, time
from app import config
from app.flows import send_range
from app.runtime import Runtime
runtime = Runtime(config.read(os.environ))
print("up", flush=True)
while True:
    send_range.drain(runtime, seconds=5)
    time.sleep(0.1)
"""


@contextmanager
def worker_processes(settings: Settings, count: int) -> Iterator[list[subprocess.Popen[str]]]:
    """Processes of their own that send what is due."""
    environ = {
        "DATABASE_URL": settings.database_url,
        "REDIS_URL": settings.redis_url,
        "SECRET_KEY": settings.secret_key,
        "MILLRACE_HOME": str(settings.home),
    }
    started = [
        subprocess.Popen([sys.executable, "-c", WORK], env=os.environ | environ, stdout=subprocess.PIPE, text=True)
        for _ in range(count)
    ]
    try:
        for each in started:
            assert each.stdout is not None and each.stdout.readline() == "up\n"
        yield started
    finally:
        for each in started:
            each.kill()
            each.wait(10)
            assert each.stdout is not None
            each.stdout.close()


def test_worker_processes_one_of_which_is_killed_keep_to_the_pools_connections(
    settings: Settings, runtime: Runtime
) -> None:
    server = Slow()
    with serve(server) as port:
        built = built_at(runtime, port, "&connections=3&batch=10", leads=600)
        runtime.settings = replace(settings, range_size=50)
        with worker_processes(settings, 3) as workers:
            launch.launch(runtime, built.organisation_id, built.campaign_id)
            assert eventually(lambda: len(server.received) > 50, 30)
            workers[0].kill()
            eventually(lambda: len(server.received) > 200, 5)  # not at once, where it had all tickets: they run out
            assert 0 < sum(open_now(runtime, built.pool_id).values()) <= 3
    assert server.most <= 3
    assert len({to for _, [to], _ in server.received}) == len(server.received), "somebody was mailed twice"


def test_a_process_that_finds_all_connections_taken_leaves_the_work_to_those_who_have_them(
    settings: Settings, runtime: Runtime
) -> None:
    with serve(Crowd()) as port:
        built = built_at(runtime, port, "&connections=1&batch=10", leads=30)
        launch.launch(runtime, built.organisation_id, built.campaign_id)
        other = uuid4()
        with runtime.db.begin() as conn:
            assert connection.take(conn, other, built.pool_id, "", 1, 60.0) is not None
        assert send_range.drain(runtime, seconds=5) == 1  # tried once
        with runtime.db.begin() as conn:
            conn.execute(text("UPDATE outbox SET due_at = now()"))
        begun = time.monotonic()
        assert send_range.drain(runtime, seconds=5) == 0
        assert time.monotonic() - begun < 0.5
        with runtime.db.begin() as conn:
            connection.give_back(conn, other)
        assert send_range.drain(runtime, seconds=5) == 1
        with runtime.db.begin() as conn:
            assert outbox.progress(conn, built.campaign_id).sent == 30


def test_only_the_receiver_whose_connections_are_taken_is_left_to_others(settings: Settings, runtime: Runtime) -> None:
    with serve(Crowd()) as port:
        built = built_at(runtime, port, "&connections=3&batch=10", leads=50)
        with runtime.db.begin() as conn:
            conn.execute(text("UPDATE domain SET receiver = 'yahoo' WHERE name = 'mail1.example.com'"))
        set_limits(runtime, built.pool_id, Limit("yahoo", connections=1))
        launch.launch(runtime, built.organisation_id, built.campaign_id)
        other = uuid4()
        with runtime.db.begin() as conn:
            assert connection.take(conn, other, built.pool_id, "yahoo", 3, 60.0) is not None
        send_range.drain(runtime, seconds=8)
        with runtime.db.begin() as conn:
            conn.execute(text("UPDATE outbox SET due_at = now()"))
            assert outbox.progress(conn, built.campaign_id).sent == 40
        assert send_range.drain(runtime, seconds=5) == 0
        with runtime.db.begin() as conn:
            connection.give_back(conn, other)
        send_range.drain(runtime, seconds=5)
        with runtime.db.begin() as conn:
            assert outbox.progress(conn, built.campaign_id).sent == 50


def test_many_campaigns_through_a_pool_whose_connections_are_taken_do_not_hide_those_of_other_pools(
    settings: Settings, runtime: Runtime
) -> None:
    crowded = world.build(runtime.db, secret_key=settings.secret_key, state="sending")
    other = world.build(runtime.db, secret_key=settings.secret_key, state="sending", name="Other")
    tickets = runtime._tickets.setdefault(crowded.pool_id, PoolTickets(runtime.db, crowded.pool_id, 1.0))
    with runtime.db.begin() as conn:
        for _ in range(25):
            named = (crowded.organisation_id, crowded.user_id, crowded.sender_id)
            world.add_range(conn, world.add_campaign(conn, *named, state="sending"), [1])
        for lead_id in (1, 2):
            world.add_range(conn, other.campaign_id, [lead_id])
        assert outbox.claim(conn, other.campaign_id, uuid4(), 60.0) is not None  # so it comes behind all of those
        assert connection.take(conn, uuid4(), crowded.pool_id, "", 1, 60.0) is not None
    tickets.leave("", 1)
    lease = send_range.claim(runtime)
    assert lease is not None
    assert lease.campaign_id == other.campaign_id
    assert send_range.claim(runtime) is None
