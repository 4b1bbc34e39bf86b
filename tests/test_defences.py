"""Single lines that stand between a fault and a lost or doubled email; tests/mutations.py takes each of them away."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import psycopg
import pytest
from sqlalchemy import text

from app.config import Settings
from app.errors import ProviderDown
from app.flows import launch, repeat, send_range
from app.flows.resolve import Evidence, use_evidence
from app.mail import Accepted, Batch, Kind, Outcome
from app.models import campaign, pool
from app.runtime import Runtime
from tests import world
from tests.sending_world import claim, hand_over, later, lose_the_lease, one, query, settle_with, sums
from tests.stranger import Mood, Stranger
from tests.world import World


@pytest.fixture
def runtime(settings: Settings) -> Iterator[Runtime]:
    runtime = Runtime(replace(settings, range_size=100, calls=1))
    yield runtime
    runtime.close()


def launched(runtime: Runtime, stranger: Stranger, leads: int = 20, batch: int = 10) -> World:
    """A launched campaign that is sent through this provider."""
    built = world.build(runtime.db, secret_key=runtime.settings.secret_key, leads=leads, batch=batch)
    [(url,)] = query(runtime, "SELECT url FROM pool")
    runtime._providers[url] = stranger  # type: ignore[index]
    launch.launch(runtime, built.organisation_id, built.campaign_id)
    return built


def test_the_hand_over_renews_the_lease(runtime: Runtime) -> None:
    launched(runtime, Stranger())
    page = claim(runtime)
    with runtime.db.begin() as conn:  # composing has taken nearly all of it
        conn.execute(text("UPDATE outbox SET lease_until = now() + interval '2 seconds'"))
    letters, skipped = send_range.compose_page(send_range.composer_of(runtime, page.sending), page)
    assert send_range.hand_over(runtime, page, letters, skipped)
    left = one(runtime, "SELECT extract(epoch FROM lease_until - now())::float8 AS seconds FROM outbox")["seconds"]
    assert float(str(left)) > runtime.settings.lease - 5


def test_nothing_is_said_to_a_provider_before_it_is_written_down_and_committed(runtime: Runtime) -> None:
    class Watching(Stranger):
        def send(self, batch: Batch) -> list[Outcome]:
            with psycopg.connect(runtime.settings.database_url) as conn:
                seen.extend(conn.execute("SELECT state FROM handoff WHERE id = %s", [batch.handoff_id]))
                open_ones.extend(conn.execute("SELECT query FROM pg_stat_activity WHERE state LIKE 'idle in trans%'"))
            return super().send(batch)

    seen: list[object] = []
    open_ones: list[object] = []
    built = launched(runtime, Watching())
    send_range.drain(runtime)
    assert seen == [("handed",), ("handed",)]
    assert open_ones == []
    assert sums(runtime, built.campaign_id) == {"sent": 20}


def test_a_settle_that_fails_at_its_commit_leaves_nothing_behind_and_is_done_again(runtime: Runtime) -> None:
    built = launched(runtime, Stranger())
    with runtime.db.begin() as conn:  # a sequence counts on, whatever is rolled back
        conn.execute(text("CREATE SEQUENCE commits"))
        conn.execute(
            text(
                "CREATE FUNCTION fail_once() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
                " IF nextval('commits') = 1 THEN RAISE SQLSTATE '40001'; END IF; RETURN NULL; END $$"
            )
        )
        conn.execute(
            text(
                "CREATE CONSTRAINT TRIGGER fail_once AFTER UPDATE ON handoff DEFERRABLE INITIALLY DEFERRED"
                " FOR EACH ROW WHEN (OLD.state <> NEW.state) EXECUTE FUNCTION fail_once()"
            )
        )
    send_range.drain(runtime)
    assert one(runtime, "SELECT last_value > 1 AS failed FROM commits") == {"failed": True}
    assert query(runtime, "SELECT kind::text, count(*) FROM event GROUP BY kind") == [("sent", 20)]
    assert sums(runtime, built.campaign_id) == {"sent": 20}
    assert one(runtime, "SELECT state FROM campaign") == {"state": "finished"}


@pytest.mark.parametrize("whole", ["short", "breaks", "lost"])
def test_a_call_that_took_its_emails_and_was_not_answered_right_is_unknown(runtime: Runtime, whole: str) -> None:
    stranger = Stranger()
    stranger.behave([Mood("s", whole), Mood()])
    built = launched(runtime, stranger)
    send_range.drain(runtime)
    later(runtime, 7200)
    send_range.drain(runtime)
    assert sums(runtime, built.campaign_id) == {"sent": 10, "unknown": 10}
    assert max(map(len, stranger.taken.values())) == 1


def test_a_call_of_which_some_leads_are_known_is_made_again_whole(runtime: Runtime) -> None:
    stranger = Stranger(idempotent_for=3600.0)
    stranger.behave([Mood("s", "lost"), Mood()])
    built = launched(runtime, stranger, leads=10)
    send_range.drain(runtime)
    [(call, leads)] = query(runtime, "SELECT id, lead_ids[1:5] FROM handoff")
    with runtime.db.begin() as conn:
        use_evidence(conn, built.pool_id, [Evidence(int(str(call)), lead, Kind.SENT) for lead in list(leads)])  # type: ignore[call-overload]
    assert sums(runtime, built.campaign_id) == {"sent": 5, "unknown": 5}
    later(runtime, 60)
    repeat.repeat_due(runtime)
    assert [len(batch.letters) for batch in stranger.calls] == [10, 10]
    assert stranger.clashes == []
    assert sums(runtime, built.campaign_id) == {"sent": 10}


def test_the_day_after_which_leads_fail_does_not_begin_while_the_provider_is_down(runtime: Runtime) -> None:
    stranger = Stranger()
    stranger.behave([Mood("s", "busy"), Mood("d"), Mood()])
    launched(runtime, stranger, leads=30)
    send_range.drain(runtime)
    begun = query(runtime, "SELECT lead_ids[1], deferred_since IS NOT NULL FROM outbox WHERE parent_id > 0 ORDER BY 1")
    assert begun == [(1, False), (11, True)]


def test_of_two_workers_that_see_a_pool_at_the_same_moment_one_tries_it(runtime: Runtime) -> None:
    built = launched(runtime, Stranger())
    with runtime.db.begin() as conn:
        pool.break_off(conn, built.pool_id, "503", None, probe=False)
    later(runtime, 60)
    with runtime.db.begin() as conn:
        assert [choice.probe for choice in campaign.pick(conn)] == [True]  # both see this
    with runtime.db.begin() as conn:
        assert pool.begin_probe(conn, built.pool_id, 60.0)
    with runtime.db.begin() as conn:
        assert not pool.begin_probe(conn, built.pool_id, 60.0)


def test_an_old_page_that_comes_in_well_does_not_stand_in_for_a_try(runtime: Runtime) -> None:
    launched(runtime, Stranger(), leads=10)
    page, handoffs = hand_over(runtime)
    with runtime.db.begin() as conn:
        pool.break_off(conn, page.sending.pool_id, "503", None, probe=False)
    later(runtime, 60)
    settle_with(runtime, page, handoffs, [Accepted("ref")] * 10)
    assert one(runtime, "SELECT state FROM pool") == {"state": "paused"}


def test_a_pool_is_not_opened_before_the_time_that_its_provider_named(runtime: Runtime) -> None:
    built = launched(runtime, Stranger())
    with runtime.db.begin() as conn:
        pool.break_off(conn, built.pool_id, "429", 600.0, probe=False)
        pool.revive(conn, built.pool_id)  # the answer to a call that was made before it was told to wait
    assert one(runtime, "SELECT state FROM pool") == {"state": "paused"}


def test_a_worker_that_wakes_after_its_call_was_made_again_in_vain_puts_nobody_off(runtime: Runtime) -> None:
    stranger = Stranger(idempotent_for=3600.0)
    built = launched(runtime, stranger, leads=10)
    page, handoffs = hand_over(runtime)  # stopped here: the provider has not heard of it
    lose_the_lease(runtime)
    stranger.behave([Mood("s", "lost"), Mood()])
    repeat.repeat_due(runtime)  # taken, and the answer was lost
    later(runtime, 3600)
    repeat.repeat_due(runtime)  # the key is too old
    settle_with(runtime, page, handoffs, ProviderDown("the call was not begun in time", passing=True))
    later(runtime, 60)
    send_range.drain(runtime)
    assert sums(runtime, built.campaign_id) == {"unknown": 10}
    assert max(map(len, stranger.taken.values())) == 1


def test_whom_a_repeat_is_unsure_of_is_not_put_off_by_a_worker_that_wakes(runtime: Runtime) -> None:
    stranger = Stranger(idempotent_for=3600.0)
    built = launched(runtime, stranger, leads=10)
    page, handoffs = hand_over(runtime)
    lose_the_lease(runtime)
    stranger.behave([Mood("ud"), Mood()])
    repeat.repeat_due(runtime)
    settle_with(runtime, page, handoffs, ProviderDown("the call was not begun in time", passing=True))
    later(runtime, 120)
    send_range.drain(runtime)
    assert sums(runtime, built.campaign_id) == {"sent": 5, "unknown": 5}
    assert max(map(len, stranger.taken.values())) == 1
