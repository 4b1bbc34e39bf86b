"""Promises of telling endpoints that only processes and all sorts of events can break: kill -9, a worker, sizes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.config import Settings
from app.flows import endpoint_words, launch
from app.flows.endpoint_words import MOST_BYTES, MOST_EVENTS
from app.models import endpoint_post
from app.models.news import Item
from app.runtime import Runtime
from tests import world
from tests.endpoint_readers import Reader, reading
from tests.endpoint_world import add, happen, pass_time, tell
from tests.peers import running_sink
from tests.test_workers import eventually, is_finished, working

ROOT = Path(__file__).parent.parent
TELLING = (
    "import os; from app.config import read; from app.runtime import Runtime; from app.flows import tell_endpoints;"
    " tell_endpoints.tell_due(Runtime(read(os.environ)))"
)
AT = datetime(2026, 3, 29, 8, 0, tzinfo=UTC)


@pytest.fixture
def house(settings: Settings) -> Settings:
    return replace(settings, look_every=0.2, range_size=50, private_providers=frozenset({"127.0.0.1"}))


@pytest.fixture
def reader() -> Iterator[Reader]:
    with reading() as reader:
        yield reader


def test_a_running_worker_tells_of_a_campaign_by_itself(house: Settings, reader: Reader) -> None:
    with running_sink() as peer, working(house) as runtime:
        built = world.build(runtime.db, secret_key=house.secret_key, leads=120, provider_url=peer.url)
        add(runtime, built, reader)
        launch.launch(runtime, built.organisation_id, built.campaign_id)
        assert eventually(lambda: is_finished(runtime, built.campaign_id))
        assert eventually(lambda: len(reader.events) == 120)
    assert {each["type"] for each in reader.events} == {"sent"}


def test_what_a_killed_process_was_posting_is_posted_again_under_the_same_ids(house: Settings, reader: Reader) -> None:
    runtime = Runtime(house)
    built = world.build(runtime.db, secret_key=house.secret_key)
    add(runtime, built, reader)
    happen(runtime, built, 1500)
    reader.delay = 3.0
    environ = {
        "DATABASE_URL": house.database_url,
        "REDIS_URL": house.redis_url,
        "SECRET_KEY": house.secret_key,
        "MILLRACE_PRIVATE_PROVIDERS": "127.0.0.1",
    }
    process = subprocess.Popen([sys.executable, "-c", TELLING], cwd=ROOT, env=os.environ | environ)
    assert eventually(lambda: len(reader.tries) == 3)
    process.send_signal(signal.SIGKILL)
    process.wait()
    first = set(reader.ids)
    time.sleep(3.2)  # the endpoint took them, and nobody heard its answers
    reader.delay = 0.0
    reader.taken.clear()
    assert tell(runtime) == 0
    pass_time(runtime, endpoint_post.HOLD + 1)
    assert tell(runtime) == 3
    assert set(reader.ids) == first
    assert {each["lead"]["id"] for each in reader.events} == set(range(1, 1501))
    runtime.close()


items = st.builds(
    Item,
    id=st.just("1.1"),
    at=st.just(AT),
    kind=st.just("bounced"),
    weight=st.just(1),
    lead_id=st.integers(1, 2**55),
    domain_id=st.integers(0, 2),
    user_id=st.just(1),
    campaign_id=st.just(1),
    pool_id=st.just(1),
    variant=st.just(0),
    run=st.just(1),
    link_id=st.just(0),
    machine=st.booleans(),
    detail=st.fixed_dictionaries({"reason": st.text(max_size=300), "url": st.text(max_size=2000)}),
)


@given(some=st.lists(items, min_size=1, max_size=4), times=st.integers(1, 700), with_email=st.booleans())
def test_whatever_happened_posts_keep_their_limits_and_nothing_is_left_out(
    some: list[Item], times: int, with_email: bool
) -> None:
    domains = {1: "example.com", 2: "x" * 60 + ".example.com"}
    events = [endpoint_words.event_of(item, domains, {}) for item in some] * times
    told = []
    for packed in endpoint_words.pack(events, with_email=with_email):
        leads = {number for _, number in endpoint_words.named_in(packed.body)}
        addresses = dict.fromkeys(leads, '"' * 64 + "@" + "x" * 189) if with_email else None
        body = endpoint_words.body_of(1, 1, AT, packed.body, addresses)
        assert len(body) <= MOST_BYTES
        told.append([each["lead"]["id"] for each in orjson.loads(body)["data"]["events"]])
        assert len(told[-1]) == packed.events <= MOST_EVENTS
    assert [lead for each in told for lead in each] == [event["lead"]["id"] for event in events]
