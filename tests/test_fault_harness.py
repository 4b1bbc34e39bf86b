"""The fault harness: it must fail where a promise broke, replay its seed, and hold on a short run of every fault."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text

from app.config import Settings
from app.models import process
from app.runtime import Runtime
from bench import __main__ as command
from bench import faults
from bench.fault_counts import Verdict, count, judge, read_log
from bench.fault_play import Happening, Play
from bench.fault_recovery import STARTS_IN, broken, covered
from bench.fault_schedule import KINDS, Fault, plan
from bench.fault_world import World as Stage
from bench.harness import Answer, Server
from tests import world
from tests.peers import Peer
from tests.sending_world import hand_over, launched

SENT, REFUSED, UNKNOWN = {"sent": 1}, {"refused": 1}, {"unknown": 1}
FAULTS = ("lost", "doubled", "unknown", "unknown_accepted", "miscounted", "strangers")
SEED = "1003"  # its drain asks every process of a worker at once, and its frozen one wakes by itself
Sheet = psycopg.Connection[tuple[object, ...]]


def found(verdict: Verdict) -> dict[str, int]:
    """What is wrong, without the zeros."""
    return {name: getattr(verdict, name) for name in FAULTS if getattr(verdict, name)}


def test_records_that_agree_have_nothing_wrong() -> None:
    verdict = judge([1, 2, 3, 4], {1: SENT, 2: REFUSED, 3: {"cancelled": 1}, 4: {"skipped": 1}}, {1: 1})
    assert found(verdict) == {}
    assert (verdict.audience, verdict.accepted) == (4, 1)
    assert verdict.outcomes == {"sent": 1, "refused": 1, "cancelled": 1, "skipped": 1}


@pytest.mark.parametrize(
    ("outcomes", "accepted", "wrong"),
    [
        ({}, 0, {"lost": 1}),
        ({}, 1, {"lost": 1}),
        (SENT, 0, {"lost": 1}),
        (REFUSED, 1, {"lost": 1}),
        ({"failed": 1}, 1, {"lost": 1}),
        ({"cancelled": 1}, 1, {"lost": 1}),
        (SENT, 2, {"doubled": 1}),
        (SENT, 4, {"doubled": 3}),
        (UNKNOWN, 0, {"unknown": 1}),
        (UNKNOWN, 1, {"unknown": 1, "unknown_accepted": 1}),
        (UNKNOWN, 2, {"doubled": 1, "unknown": 1, "unknown_accepted": 1}),
        ({"sent": 2}, 1, {"miscounted": 1}),
        ({"sent": -1}, 1, {"miscounted": 1}),
        (SENT | UNKNOWN, 1, {"miscounted": 1}),
    ],
)
def test_a_lead_is_judged_by_what_the_record_and_the_provider_say(
    outcomes: dict[str, int], accepted: int, wrong: dict[str, int]
) -> None:
    verdict = judge([7], {7: outcomes} if outcomes else {}, {7: accepted} if accepted else {})
    assert found(verdict) == wrong
    assert all("lead 7: " in each for examples in verdict.examples.values() for each in examples)


def test_whoever_no_audience_has_is_a_stranger_and_a_lead_frozen_twice_is_miscounted() -> None:
    assert found(judge([1], {1: SENT, 2: REFUSED}, {1: 1, 3: 1})) == {"strangers": 2}
    assert found(judge([1, 1], {1: SENT}, {1: 1})) == {"miscounted": 1}


@pytest.fixture
def house(settings: Settings, tmp_path: Path) -> tuple[str, int, Path]:
    """A database in which leads 1 to 4 of a campaign were frozen and sent, and the provider's log of it."""
    runtime = Runtime(settings)
    built = world.build(runtime.db, secret_key=settings.secret_key, leads=4)
    runtime.close()
    log = tmp_path / "accepted.log"
    log.write_text(f"{built.campaign_id} 1 11 key 1,2\n{built.campaign_id} 1 12 key 3,4\n")
    with psycopg.connect(settings.database_url) as conn:
        for parent, leads in ((None, [1, 2, 3, 4]), (1, [4])):  # the last was put off once
            conn.execute(
                "INSERT INTO outbox (id, campaign_id, parent_id, run, state, due_at, size, position, sent, moved,"
                " first_lead, last_lead, lead_ids) OVERRIDING SYSTEM VALUE"
                " VALUES (%s, %s, %s, 1, 'done', now(), %s, %s, %s, %s, %s, %s, %s)",
                [
                    *(2 if parent else 1, built.campaign_id, parent, len(leads), len(leads), 1 if parent else 3),
                    *(0 if parent else 1, leads[0], leads[-1], leads),
                ],
            )
        for lead, kind, weight in [
            *((lead, "sent", 1) for lead in (1, 2, 3, 4)),
            *((4, "deferred", 1), (3, "unknown", 1), (3, "unknown", -1)),
        ]:
            write(conn, built.campaign_id, lead, kind, weight)
    return settings.database_url, built.campaign_id, log


def write(conn: Sheet, campaign_id: int, lead: int, kind: str, weight: int) -> None:
    conn.execute(
        "INSERT INTO event (lead_id, organisation_id, user_id, campaign_id, domain_id, kind, weight)"
        " VALUES (%s, 1, 1, %s, 1, %s, %s)",
        [lead, campaign_id, kind, weight],
    )


def test_a_true_record_is_found_to_be_true(house: tuple[str, int, Path]) -> None:
    database_url, campaign_id, log = house
    with psycopg.connect(database_url) as conn:
        verdict, differences = count(conn, log, [campaign_id])
    assert (found(verdict), differences, verdict.audience, verdict.accepted) == ({}, [], 4, 4)


def lose(conn: Sheet, campaign_id: int, log: Path) -> None:
    conn.execute("DELETE FROM event WHERE lead_id = 2")


def forget_that_it_went(conn: Sheet, campaign_id: int, log: Path) -> None:
    conn.execute("UPDATE event SET kind = 'cancelled' WHERE lead_id = 2")


def claim_that_it_went(conn: Sheet, campaign_id: int, log: Path) -> None:
    log.write_text(log.read_text().replace("1,2", "1"))


def mail_twice(conn: Sheet, campaign_id: int, log: Path) -> None:
    log.write_text(log.read_text() + f"{campaign_id} 1 13 other 2\n")


def leave_unknown(conn: Sheet, campaign_id: int, log: Path) -> None:
    write(conn, campaign_id, 2, "sent", -1)
    write(conn, campaign_id, 2, "unknown", 1)


def count_twice(conn: Sheet, campaign_id: int, log: Path) -> None:
    write(conn, campaign_id, 2, "sent", 1)


def mail_a_stranger(conn: Sheet, campaign_id: int, log: Path) -> None:
    log.write_text(log.read_text() + f"{campaign_id} 1 13 other 99\n")


def mail_for_nobody(conn: Sheet, campaign_id: int, log: Path) -> None:
    log.write_text(log.read_text() + f"{campaign_id + 1} 1 13 other 1\n")


@pytest.mark.parametrize(
    ("doctor", "wrong"),
    [
        (lose, {"lost": 1}),
        (forget_that_it_went, {"lost": 1}),
        (claim_that_it_went, {"lost": 1}),
        (mail_twice, {"doubled": 1}),
        (leave_unknown, {"unknown": 1, "unknown_accepted": 1}),
        (count_twice, {"miscounted": 1}),
        (mail_a_stranger, {"strangers": 1}),
        (mail_for_nobody, {"strangers": 1}),
    ],
)
def test_a_doctored_record_is_found_out(
    house: tuple[str, int, Path], doctor: Callable[[Sheet, int, Path], None], wrong: dict[str, int]
) -> None:
    database_url, campaign_id, log = house
    with psycopg.connect(database_url) as conn:
        doctor(conn, campaign_id, log)
        verdict, differences = count(conn, log, [campaign_id])
    assert found(verdict) == wrong
    assert bool(differences) == (doctor in (lose, forget_that_it_went, leave_unknown, count_twice))


def test_a_log_of_nothing_accepts_nobody(tmp_path: Path) -> None:
    assert read_log(tmp_path / "none") == {}


def test_a_seed_replays_its_schedule_and_every_kind_of_fault_is_in_it() -> None:
    first = plan(7, 5, 50, 9.0, faults.CHARACTERS)
    assert first == plan(7, 5, 50, 9.0, faults.CHARACTERS) != plan(8, 5, 50, 9.0, faults.CHARACTERS)
    assert {fault.kind for fault in first} == set(KINDS)
    assert sum(KINDS[fault.kind].group == "kill" for fault in first) == 50
    assert [fault.at for fault in first] == sorted(fault.at for fault in first)
    assert all(0 < fault.at < 300 for fault in first)
    assert all(fault.seconds > 9.0 for fault in first if fault.kind == "stop_worker")


def test_in_a_run_of_seconds_nobody_is_put_off_for_minutes() -> None:
    assert {fault.kind for fault in plan(7, 0.5, 4, 9.0, ["keys"])} == set(KINDS) - {"provider_defers"}


def test_a_promise_that_broke_ends_the_command_with_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for promises, code in (((), 0), (("keys: 1 lost, at most 0",), 1)):
        monkeypatch.setattr(faults, "run", lambda args, found=promises: Answer({}, {"lost": 1}, {}, {}, found))
        assert command.main(["faults"]) == code
    assert "BROKEN: keys: 1 lost, at most 0" in capsys.readouterr().out


@pytest.mark.timeout(400)
def test_whatever_fails_nobody_is_lost_or_mailed_twice(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["faults", "--leads", "1500", "--minutes", "0.45", "--kills", "5", "--seed", SEED, "--json"]
    code = command.main(arguments)
    shown = capsys.readouterr()
    answer = json.loads(shown.out.splitlines()[-1])
    assert (answer.get("broken"), code) == (None, 0), shown.err
    ours = answer["ours"]
    assert (ours["lost"], ours["doubled"], ours["unknown_keys"]) == (0, 0, 0)
    assert ours["unknown_no_keys"] <= ours["unknown_bound_no_keys"]
    assert ours["audience_keys"] == 1500 + 1500 // 5 + 1500 // 60
    assert ours["skipped_faults"] == 0
    assert ours["faults"] == len(plan(int(SEED), 0.45, 5, faults.LEASE, faults.CHARACTERS))


def test_time_that_several_faults_cover_is_excused_once() -> None:
    assert covered((10.0, 20.0), []) == 0
    assert covered((10.0, 20.0), [(0.0, 12.0), (11.0, 13.0), (12.5, 12.6), (19.0, 40.0), (30.0, 31.0)]) == 4.0
    assert covered((10.0, 20.0), [(0.0, 40.0)]) == 10.0


@pytest.fixture
def stage(settings: Settings, tmp_path: Path) -> Iterator[Stage]:
    """A stage without processes, on a real database."""
    server = Server(settings.database_url, settings.redis_url, "apache", tmp_path, {}, None)  # type: ignore[arg-type]
    with closing(Runtime(settings)) as runtime:
        yield Stage(server, runtime, None, None, None, {})  # type: ignore[arg-type]


def fault(kind: str) -> Fault:
    return Fault(0.0, kind, 0.0, 0, "keys", True, 0.0)


@pytest.mark.parametrize(
    ("took", "beside", "gaps", "kept"),
    [
        (23.9, [], [], True),
        (24.5, [], [], False),
        (24.5, [("kill_web", 105.0)], [], False),
        (24.5, [("kill_clock", 105.0)], [], True),
        (24.5, [("kill_clock", 200.0)], [], False),
        (40.0, [("kill_clock", 105.0)], [], False),
        (26.5, [], [(110.0, 113.0)], True),
    ],
)
def test_a_kill_that_is_accounted_for_too_late_breaks_a_promise_unless_something_else_stood_in_its_way(
    stage: Stage, took: float, beside: list[tuple[str, float]], gaps: list[tuple[float, float]], kept: bool
) -> None:
    play = Play(stage, gaps=gaps)
    play.happened = [Happening(fault("kill_worker"), 100.0, 100.0, settled=100.0 + took)]
    play.happened += [Happening(fault(kind), at, at) for kind, at in beside]
    assert (broken(play, 9.0) == []) == kept


def test_a_machine_that_starts_processes_slowly_has_longer(stage: Stage) -> None:
    play = Play(stage)
    play.happened = [Happening(fault("kill_worker"), 100.0, 100.0, settled=130.0)]
    assert broken(play, 9.0) == ["kill_worker known: 30.0 s, at most 24.0 s, and 0.0 s for what else happened"]
    stage.started_in = 2 * STARTS_IN
    assert broken(play, 9.0) == []


def test_what_was_in_flight_at_a_kill_and_never_had_an_outcome_breaks_a_promise(stage: Stage) -> None:
    play = Play(stage)
    play.happened = [Happening(fault("kill_worker"), 100.0, 100.0, standing={7})]
    assert broken(play, 9.0) == ["1 calls in flight at a kill are not accounted for at all"]


@pytest.mark.parametrize(
    ("due", "handed", "kept"),
    [
        (-50.0, 14.0, True),
        (-50.0, 16.0, False),
        (10.0, 24.0, True),
        (10.0, 26.0, False),
        (60.0, 61.0, True),  # nothing was due: nothing can be said
    ],
)
def test_a_redis_that_is_back_and_keeps_what_is_due_waiting_breaks_a_promise(
    stage: Stage, peer: Peer, due: float, handed: float, kept: bool
) -> None:
    launched(stage.runtime, peer, leads=10)
    hand_over(stage.runtime)
    with stage.runtime.db.begin() as conn:
        conn.execute(text("UPDATE outbox SET due_at = to_timestamp(:at)"), {"at": 1000.0 + due})
        conn.execute(text("UPDATE handoff SET handed_at = to_timestamp(:at)"), {"at": 1000.0 + handed})
    play = Play(stage)
    play.happened = [Happening(fault("restart_valkey"), 990.0, 1000.0)]
    assert (broken(play, 9.0) == []) == kept


def test_what_may_be_unknown_is_what_the_worker_that_was_hit_had_and_nobody_else(
    stage: Stage, settings: Settings, peer: Peer
) -> None:
    """Two workers that have not said their numbers yet, and one that has."""
    first, second, known = (Runtime(replace(settings, range_size=10)) for _ in range(3))
    launched(first, peer, leads=30)
    for worker in (first, second, known):
        hand_over(worker)
    with known.db.begin() as conn:
        process.beat(conn, known.id, "worker", "here", 33)
    assert stage.held_by([]) == {}  # a clock, or a web process
    assert [each.owner for each in stage.held_by([33]).values()] == [known.id]
    held = stage.held_by([11])
    assert {each.owner for each in held.values()} == {first.id, second.id}
    with second.db.begin() as conn:
        process.beat(conn, second.id, "worker", "here", 22)  # it lives, and was not hit
    assert list(stage.own(held).values()) == [10]
    for worker in (first, second, known):
        worker.close()
