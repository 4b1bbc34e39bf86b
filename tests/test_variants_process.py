"""A test from its launch to its end, by real processes: clicks come through the door, and the clock is killed amid it.

AB_LEADS=10000 sends to more; 1,200 by default.
"""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text
from werkzeug.test import Client

from app.config import Settings
from app.flows import edit_campaign, launch, variant_words
from app.flows.edit_campaign import Draft
from app.flows.edit_variants import Parts, TestDraft
from app.models import variant
from app.runtime import Runtime
from tests import world
from tests.peers import Peer, running_sink
from tests.test_workers import eventually, is_finished
from web import create_app
from workers.broker import Bell, open_broker

ROOT = Path(__file__).parent.parent
LEADS = int(os.environ.get("AB_LEADS", "1200"))
WAIT = timedelta(seconds=20)  # clicks are read eight seconds after they came
LIKES = {"First": 0.05, "Second": 0.2, "Third": 0.05}  # of each subject's readers so many click
HTML = '<p><a href="https://shop.example.com/">Shop</a></p><p><a href="{{ unsubscribe_url }}">Unsubscribe</a></p>'
AGENT = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
LINK = re.compile(r"/t/[^\"/]+/1\b")


@contextmanager
def process(settings: Settings, *module: str) -> Iterator[subprocess.Popen[bytes]]:
    environment = os.environ | {
        "DATABASE_URL": settings.database_url,
        "REDIS_URL": settings.redis_url,
        "SECRET_KEY": settings.secret_key,
        "MILLRACE_HOME": str(settings.home),
        "MILLRACE_RANGE_SIZE": "100",
    }
    started = subprocess.Popen([sys.executable, "-m", *module], cwd=ROOT, env=environment)
    try:
        yield started
    finally:
        started.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            started.wait(20)
        started.kill()
        started.wait()


@pytest.fixture
def peer() -> Iterator[Peer]:
    with running_sink() as peer:
        peer.sink.book.last = deque()  # everything is looked at, not the last 500
        yield peer


@pytest.fixture
def runtime(settings: Settings) -> Iterator[Runtime]:
    broker = open_broker(settings.redis_url)
    opened = Runtime(replace(settings, range_size=100), Bell(broker))
    yield opened
    opened.close()
    broker.close()


@pytest.mark.timeout(300)
def test_clicks_of_people_choose_what_everybody_else_gets_though_clocks_are_killed(
    settings: Settings, runtime: Runtime, peer: Peer
) -> None:
    built = world.build(runtime.db, secret_key=settings.secret_key, leads=LEADS, provider_url=peer.url)
    subjects = tuple(LIKES)
    draft = Draft(
        "Tested",
        built.sender_id,
        subject=subjects[0],
        html=HTML,
        track_clicks="on",
        variants=[Parts(subject) for subject in subjects[1:]],
        test=TestDraft(50, WAIT),
    )
    campaign_id = edit_campaign.create(runtime, built.organisation_id, built.user_id, draft)
    with process(settings, "dramatiq", "workers.main", "--processes", "1", "--threads", "4"):
        launch.launch(runtime, built.organisation_id, campaign_id)
        with process(settings, "cli", "clock"):
            assert eventually(lambda: begun(runtime, campaign_id), 60), "the wait for the winner has not begun"
        tested = Counter(str(letter["subject"]) for letter in peer.sink.book.messages(LEADS))
        time.sleep(3)  # what comes within two seconds is no person's
        follow(runtime, peer)
        kill_clocks_until(settings, lambda: chosen(runtime, campaign_id) is not None)
        with process(settings, "cli", "clock"):
            assert eventually(lambda: is_finished(runtime, campaign_id), 60)

    sent = Counter(str(letter["subject"]) for letter in peer.sink.book.messages(LEADS))
    assert chosen(runtime, campaign_id) == 1
    assert sent == tested + Counter({"Second": LEADS - tested.total()})
    assert (peer.sink.book.stats()["accepted"], peer.sink.book.stats()["duplicates"]) == (LEADS, 0)
    with runtime.db.begin() as conn:
        test = variant.find(conn, campaign_id)
        assert test is not None and not test.by_hand
        said = variant_words.conclude(test, variant.tally(conn, campaign_id))
    print(sent, said)
    assert said.said == "B does better than all others."


def follow(runtime: Runtime, peer: Peer) -> None:
    """Each reader clicks, or not, as much as the subject is liked; through the web process's own door."""
    app = create_app(runtime)
    browser, drawn = Client(app.wsgi_app), random.Random(3)
    for letter in peer.sink.book.messages(LEADS):
        if drawn.random() < LIKES[str(letter["subject"])]:
            [link] = set(LINK.findall(str(letter["html"])))
            answer = browser.get(link, headers={"User-Agent": AGENT})
            assert answer.headers["Location"] == "https://shop.example.com/"
    app.wsgi_app.door.drain()  # type: ignore[attr-defined]


def kill_clocks_until(settings: Settings, true: Callable[[], bool]) -> None:
    """Clock after clock begins and is killed, until something is true."""
    lives = random.Random(5)
    until = time.monotonic() + 120
    while not true():
        assert time.monotonic() < until, "nothing was chosen in two minutes"
        with process(settings, "cli", "clock") as clock:
            eventually(true, lives.uniform(4.0, 16.0))
            clock.kill()


def begun(runtime: Runtime, campaign_id: int) -> bool:
    with runtime.db.begin() as conn:
        statement = text("SELECT decide_at IS NOT NULL FROM variant_test WHERE campaign_id = :id")
        return bool(conn.execute(statement, {"id": campaign_id}).scalar_one())


def chosen(runtime: Runtime, campaign_id: int) -> int | None:
    with runtime.db.begin() as conn:
        found = variant.find(conn, campaign_id)
    return found.winner if found else None
