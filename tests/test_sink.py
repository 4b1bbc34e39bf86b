"""The sink over real HTTP: what it counts is the truth that trials and benchmarks are judged by."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from uuid import UUID, uuid4

import httpx
import pytest
from click.testing import CliRunner

from app.errors import ProviderDown, ProviderUnsure
from app.mail import Accepted, Batch, Deferred, Refused
from app.providers import Provider, open_provider
from cli.sink import sink
from cli.sink_behaviour import Behaviour
from cli.sink_book import Book, Leads
from cli.sink_server import Sink
from tests.provider_peers import batch_of, letters_to, sink_process


@pytest.fixture(scope="module")
def shared() -> Iterator[str]:
    with sink_process() as url:
        yield url


@pytest.fixture
def url(shared: str) -> str:
    """A sink with its first settings and nothing counted."""
    change(
        shared,
        latency=0,
        refuse=0,
        defer=0,
        down=0,
        unsure=0,
        unsure_how="cut",
        strict=False,
        idempotent=False,
        batch=50,
    )
    httpx.post(f"{shared}/reset", json={}).raise_for_status()
    return shared


@pytest.fixture
def provider(url: str) -> Iterator[Provider]:
    opened = open_provider(f"sink+{url}", deadline=5.0)
    yield opened
    opened.close()


def change(url: str, **settings: object) -> None:
    httpx.post(f"{url}/settings", json=settings).raise_for_status()


def stats(url: str) -> dict:
    return httpx.get(f"{url}/stats").json()


def batch(leads: range, *, handoff: int = 1, key: UUID | None = None) -> Batch:
    letters = [
        each._replace(lead_id=lead)
        for lead, each in zip(leads, letters_to(*(f"lead{n}@example.com" for n in leads)), strict=True)
    ]
    return batch_of(letters, handoff=handoff, key=key or uuid4())


def test_every_letter_is_taken_and_counted_once(url: str, provider: Provider) -> None:
    with ThreadPoolExecutor(16) as calls:
        results = list(calls.map(provider.send, [batch(range(at, at + 50)) for at in range(1, 5001, 50)]))
    refs = {outcome.ref for outcomes in results for outcome in outcomes if isinstance(outcome, Accepted)}
    assert len(refs) == 5000
    counted = stats(url)
    assert {name: counted[name] for name in ("calls", "accepted", "distinct", "duplicates", "keys")} == {
        "calls": 100, "accepted": 5000, "distinct": 5000, "duplicates": 0, "keys": 100,
    }  # fmt: skip
    assert counted["campaigns"] == [{"campaign": 3, "run": 1, "accepted": 5000, "distinct": 5000, "duplicates": 0}]


def test_a_lead_that_gets_the_same_run_twice_is_a_duplicate(url: str, provider: Provider) -> None:
    provider.send(batch(range(1, 51)))
    provider.send(batch(range(41, 61)))
    counted = stats(url)
    assert (counted["accepted"], counted["distinct"], counted["duplicates"]) == (70, 60, 10)


def test_the_same_seed_refuses_the_same_leads_every_time(url: str, provider: Provider) -> None:
    change(url, refuse=0.2)
    first, again = (provider.send(batch(range(1, 51))) for _ in range(2))
    refused = [type(outcome) is Refused for outcome in first]
    assert refused == [type(outcome) is Refused for outcome in again]
    assert 2 <= sum(refused) <= 20
    assert stats(url)["refused"] == 2 * sum(refused)


def test_rates_say_how_many(url: str, provider: Provider) -> None:
    change(url, defer=0.5)
    outcomes = [outcome for at in range(1, 1001, 50) for outcome in provider.send(batch(range(at, at + 50)))]
    deferred = sum(isinstance(outcome, Deferred) for outcome in outcomes)
    assert 400 < deferred < 600
    assert stats(url)["accepted"] == 1000 - deferred


def test_down_means_that_nothing_was_taken(url: str, provider: Provider) -> None:
    change(url, down=1.0, retry_after=7)
    with pytest.raises(ProviderDown) as caught:
        provider.send(batch(range(1, 11)))
    assert caught.value.retry_in == 7.0
    assert stats(url)["accepted"] == 0


@pytest.mark.parametrize("how", ["cut", "error", "silence"])
def test_unsure_means_that_it_was_taken_and_we_do_not_hear_so(url: str, how: str) -> None:
    change(url, unsure=1.0, unsure_how=how)
    provider = open_provider(f"sink+{url}", deadline=0.5)
    with pytest.raises(ProviderUnsure):
        provider.send(batch(range(1, 11)))
    provider.close()
    counted = stats(url)
    assert (counted["accepted"], counted["calls_unsure"]) == (10, 1)


def test_the_same_key_and_body_is_answered_alike_and_taken_once(url: str, provider: Provider) -> None:
    change(url, idempotent=True, defer=0.3)
    call = batch(range(1, 51))
    assert provider.send(call) == provider.send(call)
    counted = stats(url)
    assert counted["duplicates"] == 0
    assert counted["calls_repeated"] == 1
    with pytest.raises(ProviderUnsure):
        provider.send(batch(range(1, 11), key=call.key))
    assert stats(url)["calls_conflicting"] == 1


def test_a_lost_reply_is_told_again_to_who_asks_with_its_key(url: str, provider: Provider) -> None:
    change(url, idempotent=True, unsure=1.0)
    call = batch(range(1, 51))
    with pytest.raises(ProviderUnsure):
        provider.send(call)
    change(url, unsure=0)
    assert all(isinstance(outcome, Accepted) for outcome in provider.send(call))
    assert stats(url)["accepted"] == 50


def test_a_strict_sink_refuses_a_call_for_one_address_and_the_others_leave_all_the_same(
    url: str, provider: Provider
) -> None:
    change(url, refuse=0.02, strict=True)
    outcomes = provider.send(batch(range(1, 51)))
    refused = sum(isinstance(outcome, Refused) for outcome in outcomes)
    assert 1 <= refused <= 5
    counted = stats(url)
    assert (counted["accepted"], counted["distinct"]) == (50 - refused, 50 - refused)
    assert counted["calls_refused"] > 0


def test_the_halves_of_a_refused_call_have_keys_of_their_own_and_the_same_ones_again(
    url: str, provider: Provider
) -> None:
    change(url, refuse=0.02, strict=True, idempotent=True)
    call = batch(range(1, 51))
    first, again = provider.send(call), provider.send(call)
    assert {type(outcome) for outcome in first} == {Accepted, Refused}
    assert first == again
    counted = stats(url)
    assert (counted["duplicates"], counted["calls_conflicting"]) == (0, 0)


def test_a_call_with_too_many_letters_is_refused(url: str, provider: Provider) -> None:
    change(url, batch=20)
    assert len(provider.send(batch(range(1, 51)))) == 50
    assert stats(url)["accepted"] == 50
    assert stats(url)["calls_refused"] == 3  # 50, then 25 and 25


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b'{"key": "x"}', b'{"key": 5, "letters": []}', b"\xff", b"[" * 5000],
)
def test_a_call_that_is_none_is_refused_and_counts_nothing(url: str, body: bytes) -> None:
    reply = httpx.post(f"{url}/send", content=body)
    assert reply.status_code == 400
    assert stats(url)["accepted"] == 0


def test_a_letter_without_an_unsubscribe_link_is_no_letter(url: str, provider: Provider) -> None:
    call = batch(range(1, 3))
    bare = replace(call, letters=[letter._replace(unsubscribe_url="") for letter in call.letters])
    assert [type(outcome) for outcome in provider.send(bare)] == [Refused, Refused]


def test_latency_delays_calls_and_nothing_else(url: str, provider: Provider) -> None:
    change(url, latency=1.0)
    started = time.monotonic()
    with ThreadPoolExecutor(8) as calls:
        running = [calls.submit(provider.send, batch(range(at, at + 5))) for at in range(1, 41, 5)]
        time.sleep(0.1)
        asked = time.monotonic()
        assert stats(url)["accepted"] == 40
        assert time.monotonic() - asked < 0.9
        assert all(len(each.result()) == 5 for each in running)
    assert time.monotonic() - started >= 1.0


def test_without_latency_a_call_is_answered_at_once(url: str, provider: Provider) -> None:
    provider.send(batch(range(1, 3)))
    started = time.monotonic()
    for at in range(30):
        provider.send(batch(range(10 * at + 5, 10 * at + 7)))
    assert time.monotonic() - started < 0.9, "each reply waits for a delayed acknowledgement (40 ms)"


def test_the_last_letters_can_be_looked_at(url: str, provider: Provider) -> None:
    provider.send(batch(range(1, 31)))
    [newest, before] = httpx.get(f"{url}/messages?n=2").json()
    assert (newest["lead"], before["lead"]) == (30, 29)
    assert newest["subject"] == "Hello Ada!" and newest["from"]["address"] == "news@example.com"
    assert newest["headers"]["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    page = httpx.get(f"{url}/")
    assert "lead30@example.com: Hello Ada!" in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert httpx.get(f"{url}/nothing").status_code == 404


def test_a_letter_cannot_act_on_the_sink_s_page(url: str, provider: Provider) -> None:
    call = batch(range(1, 2))
    hostile = '"><script>alert(1)</script>'
    provider.send(replace(call, letters=[call.letters[0]._replace(values=(hostile,), address="a@b.c")]))
    page = httpx.get(f"{url}/").text
    assert "<script" not in page and "sandbox srcdoc" in page


@pytest.mark.parametrize(
    "settings",
    [
        {"refuse": 2},
        {"latency": -1},
        {"batch": 0},
        {"batch": 1.5},
        {"speed": 5},
        {"unsure_how": "x"},
        [],
        {"strict": 1},
    ],
)
def test_settings_that_make_no_sense_change_nothing(url: str, settings: object) -> None:
    before = stats(url)["settings"]
    reply = httpx.post(f"{url}/settings", json=settings)
    assert reply.status_code == 400 and reply.json()["error"]
    assert stats(url)["settings"] == before


def test_settings_are_not_for_web_pages_nor_for_other_machines(url: str) -> None:
    assert httpx.post(f"{url}/settings", content=b'{"latency": 9}').status_code == 415
    outsider = {"client": ("192.0.2.7", 5), "headers": [(b"content-type", b"application/json")]}
    assert Sink(Behaviour(), seed=1).change(outsider, b'{"latency": 9}').status == 403


def test_the_log_names_every_accepted_lead_and_when(tmp_path: Path) -> None:
    log = tmp_path / "accepted.log"
    with sink_process("--log", str(log), "--refuse", "0.1") as url:
        provider = open_provider(f"sink+{url}", deadline=5.0)
        call = batch(range(1, 51), handoff=99)
        outcomes = provider.send(call)
        provider.close()
        accepted = [lead for lead, outcome in zip(range(1, 51), outcomes, strict=True) if isinstance(outcome, Accepted)]
        [line] = log.read_text().splitlines()
    told, at = line.rsplit(" ", 1)
    assert told == f"3 1 99 {call.key} {','.join(map(str, accepted))}"
    assert time.time() - 60 < float(at) < time.time() + 1


def test_a_stopped_sink_means_that_nothing_left_us() -> None:
    with sink_process() as url:
        provider = open_provider(f"sink+{url}", deadline=5.0)
        provider.send(batch(range(1, 2)))
    with pytest.raises(ProviderDown):
        provider.send(batch(range(2, 3)))
    provider.close()


def test_a_million_leads_take_a_few_hundred_kilobytes() -> None:
    book = Book()
    leads = Leads()
    assert leads.add(range(1, 1_000_001)) == 0
    assert leads.add(range(999_991, 1_000_011)) == 10
    assert leads.distinct == 1_000_010
    assert sum(len(page) for page in leads.pages.values()) < 200_000
    for number in range(260_000):
        book.remember(number.to_bytes(16), None)
    assert len(book.keys) == 250_000


def test_a_taken_port_is_said_in_a_sentence(url: str) -> None:
    port = url.rpartition(":")[2]
    result = CliRunner().invoke(sink, ["--port", port])
    assert result.exit_code == 1
    assert "another --port" in result.output
    assert CliRunner().invoke(sink, ["--refuse", "7"]).exit_code == 2
