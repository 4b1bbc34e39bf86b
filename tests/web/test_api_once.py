"""Promises of the Idempotency-Key: the same is done once and answered alike, and what was refused was not done."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from threading import Event
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import text

from app.errors import Conflict, UnderWay
from app.flows import answer_once, api_keys, messages, segments
from app.flows.messages import NewMessage
from app.models.api_answer import Answer
from app.runtime import Runtime
from tests import world
from tests.web.conftest import People
from tests.web.programs import Program, faults, program

EVERYONE = {"combinator": "and", "rules": []}
SEGMENT = {"name": "All", "condition": EVERYONE}


@pytest.fixture
def shop(app: Flask, runtime: Runtime, people: People) -> Program:
    return program(app, runtime, people)


def count(runtime: Runtime, table: str) -> int:
    with runtime.db.begin() as conn:
        return int(conn.execute(text(f"SELECT count(*) FROM {table}")).scalar_one())


def age_answers(runtime: Runtime) -> None:
    with runtime.db.begin() as conn:
        conn.execute(text("UPDATE api_answer SET created_at = created_at - interval '25 hours'"))


def test_the_same_request_is_done_once_and_answered_alike(shop: Program, runtime: Runtime) -> None:
    draft = {"name": "May"}
    first = shop.post("/campaigns", draft, Idempotency_Key='"a b"')
    again = shop.post("/campaigns", draft, Idempotency_Key='"a b"')
    assert (first.status_code, again.status_code) == (201, 201)
    assert (first.data, first.headers["Location"]) == (again.data, again.headers["Location"])
    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["Idempotency-Replayed"] == "true"
    assert count(runtime, "campaign") == 1
    assert shop.post("/campaigns", draft, Idempotency_Key="b").data != first.data
    assert shop.post("/campaigns", draft).data != first.data
    assert count(runtime, "campaign") == 3


def test_what_was_removed_once_is_removed_alike(shop: Program) -> None:
    made: Any = shop.post("/segments", SEGMENT).json
    for _ in range(2):
        answer = shop.delete(f"/segments/{made['id']}", Idempotency_Key="x")
        assert (answer.status_code, answer.data) == (204, b"")
    assert shop.delete(f"/segments/{made['id']}").status_code == 404


def test_a_key_stands_for_one_request(shop: Program, runtime: Runtime) -> None:
    assert shop.post("/segments", SEGMENT, Idempotency_Key="k").status_code == 201
    assert "Idempotency-Key" in faults(shop.post("/segments", {**SEGMENT, "name": "Other"}, Idempotency_Key="k"))
    assert "Idempotency-Key" in faults(shop.post("/campaigns", {"name": "All"}, Idempotency_Key="k"))
    assert (count(runtime, "segment"), count(runtime, "campaign")) == (1, 0)


def test_what_was_refused_may_be_mended_under_the_same_key(shop: Program, runtime: Runtime) -> None:
    assert shop.post("/segments", {**SEGMENT, "name": ""}, Idempotency_Key="k").status_code == 422
    assert count(runtime, "api_answer") == 0
    assert shop.post("/segments", SEGMENT, Idempotency_Key="k").status_code == 201


@pytest.mark.parametrize("key", ["", '"', '""', '"a', 'a"b', "a\\b", "ä", "x" * 256])
def test_what_is_no_key_is_refused(shop: Program, runtime: Runtime, key: str) -> None:
    answer = shop.post("/segments", SEGMENT, Idempotency_Key=key)
    assert answer.status_code == 400
    assert answer.json["errors"][0]["header"] == "Idempotency-Key"  # type: ignore[index]
    assert count(runtime, "segment") == 0


def test_programs_keys_are_apart(app: Flask, shop: Program, runtime: Runtime, people: People) -> None:
    other = program(app, runtime, people)
    assert shop.post("/campaigns", {"name": "A"}, Idempotency_Key="1").status_code == 201
    assert other.post("/campaigns", {"name": "B"}, Idempotency_Key="1").status_code == 201


def test_while_it_is_under_way_the_same_is_refused_and_nothing_is_done_twice(runtime: Runtime, people: People) -> None:
    asked = answer_once.identify(_key(runtime, people), "k", "POST", "/x", b"{}")
    began, may_end = Event(), Event()

    def slowly(inside: Runtime) -> Answer:
        segments.create(inside, people.ours, "All", EVERYONE)
        began.set()
        assert may_end.wait(20)
        return Answer(201, b"{}")

    with ThreadPoolExecutor(1) as hands:
        first = hands.submit(answer_once.answer_once, runtime, asked, slowly)
        assert began.wait(20)
        with pytest.raises(UnderWay):
            answer_once.answer_once(runtime, asked, slowly)
        may_end.set()
        assert not first.result(20).again
    assert answer_once.answer_once(runtime, asked, slowly).again
    assert count(runtime, "segment") == 1


def test_of_many_at_once_one_is_done(shop: Program, runtime: Runtime) -> None:
    with ThreadPoolExecutor(8) as hands:
        answers = list(hands.map(lambda _: shop.post("/campaigns", {"name": "A"}, Idempotency_Key="k"), range(40)))
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert {answer.headers.get("Retry-After") for answer in answers if answer.status_code == 409} <= {"1"}
    assert len({answer.data for answer in answers if answer.status_code == 201}) == 1
    assert count(runtime, "campaign") == 1


def test_what_fails_at_the_end_has_done_nothing_and_kept_nothing(runtime: Runtime, people: People) -> None:
    rung: list[str] = []
    runtime.use_bell(rung.append)

    def fail(inside: Runtime) -> Answer:
        segments.create(inside, people.ours, "All", EVERYONE)
        inside.ring("send")
        raise RuntimeError("the process dies")

    with pytest.raises(RuntimeError):
        answer_once.answer_once(runtime, answer_once.identify(_key(runtime, people), "k", "POST", "/x", b""), fail)
    assert (count(runtime, "segment"), count(runtime, "api_answer"), rung) == (0, 0, [])


def test_bells_ring_after_the_commit(runtime: Runtime, people: People) -> None:
    seen: list[int] = []
    runtime.use_bell(lambda _: seen.append(count(runtime, "segment")))

    def work(inside: Runtime) -> Answer:
        inside.ring("send", 2)
        segments.create(inside, people.ours, "All", EVERYONE)
        assert seen == []
        return Answer(201, b"{}")

    answer_once.answer_once(runtime, answer_once.identify(_key(runtime, people), "k", "POST", "/x", b""), work)
    assert seen == [1, 1]


def test_a_secret_is_answered_again_and_kept_encrypted(shop: Program, runtime: Runtime) -> None:
    hook = {"name": "CRM", "url": "https://example.com/hook"}
    first, again = (shop.post("/webhooks", hook, Idempotency_Key="k") for _ in range(2))
    assert first.json == again.json
    with runtime.db.begin() as conn:
        kept = bytes(conn.execute(text("SELECT body FROM api_answer")).scalar_one())
    assert b"whsec_" not in kept


def test_after_a_day_a_key_is_forgotten_and_dropped(shop: Program, runtime: Runtime) -> None:
    first = shop.post("/campaigns", {"name": "A"}, Idempotency_Key="k")
    age_answers(runtime)
    second = shop.post("/campaigns", {"name": "A"}, Idempotency_Key="k")
    assert second.status_code == 201 and second.data != first.data
    assert shop.post("/campaigns", {"name": "A"}, Idempotency_Key="k").data == second.data
    assert answer_once.tidy(runtime) == 0
    age_answers(runtime)
    assert answer_once.tidy(runtime) == 1
    assert count(runtime, "api_answer") == 0


def _key(runtime: Runtime, people: People) -> int:
    return api_keys.create(runtime, people.ours, people.ann, "Shop", ["leads:read"]).id


def test_a_message_is_taken_in_the_transaction_of_its_answer(runtime: Runtime, people: People) -> None:
    key = _key(runtime, people)
    rung: SimpleQueue[str] = SimpleQueue()
    runtime.use_bell(rung.put)
    with runtime.db.begin() as conn:
        pool = {"provider": "sink", "url": runtime.vault.encrypt("sink+http://127.0.0.1:1"), "shown_url": "sink"}
        pool_id = world.insert(conn, "pool", organisation_id=people.ours, name="Pool", **pool)
        named = {"name": "Shop", "address": "shop@example.com"}
        world.insert(conn, "sender", organisation_id=people.ours, pool_id=pool_id, **named)
    asked = NewMessage("ann@example.com", subject="Hi", text="Hello")

    def take_and_fail(inside: Runtime) -> Answer:
        messages.take(inside, people.ours, people.ann, [asked])
        raise Conflict("no")

    def take(inside: Runtime) -> Answer:
        taken = messages.take(inside, people.ours, people.ann, [asked])
        assert rung.empty()
        return Answer(202, taken.ids[0].encode())

    for number, stored in ((1, 1), (2, 2)):  # the first of its stream, and one that takes the short way
        request = answer_once.identify(key, f"{number}", "POST", "/x", b"{}")
        with pytest.raises(Conflict):
            answer_once.answer_once(runtime, request, take_and_fail)
        assert count(runtime, "message") == count(runtime, "message_due") == stored - 1
        given = answer_once.answer_once(runtime, request, take)
        assert answer_once.answer_once(runtime, request, take).answer == given.answer
        assert count(runtime, "message") == count(runtime, "message_due") == stored
        assert rung.get(timeout=5) == "send"
