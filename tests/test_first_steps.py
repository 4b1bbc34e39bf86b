"""The first start: a user, and a demo that can be launched; interrupted at any point, the next start completes it."""

from __future__ import annotations

from app.flows import first_steps, launch, login
from app.models import campaign
from app.models import pool as pools
from app.runtime import Runtime

SINK = "sink+http://127.0.0.1:9025"


def test_the_first_user_can_log_in_with_the_password_that_was_printed(runtime: Runtime) -> None:
    user = first_steps.ensure_first_user(runtime)
    assert user.password is not None
    assert login.log_in(runtime.db, user.email, user.password)
    assert first_steps.ensure_first_user(runtime) == first_steps.FirstUser(user.email, None)


def test_the_demo_is_ready_to_launch_and_loaded_once(runtime: Runtime) -> None:
    first_steps.ensure_first_user(runtime)
    assert first_steps.ensure_demo(runtime, SINK, leads=50)
    assert not first_steps.ensure_demo(runtime, SINK, leads=50)
    with runtime.db.session() as session:
        (draft,) = campaign.newest(session, 10)
    found = launch.check(runtime, draft.organisation_id, draft.id)
    assert found.faults == () and 0 < found.audience <= 50


def test_a_demo_that_was_interrupted_is_completed(runtime: Runtime) -> None:
    first_steps.ensure_first_user(runtime)
    with runtime.db.session() as session:
        owner = first_steps.users.oldest(session)
    assert owner is not None
    pool_id = first_steps.pools.ensure_pool(runtime, owner.organisation_id, first_steps.DEMO_POOL, SINK)
    first_steps.senders.add_sender(runtime, owner.organisation_id, pool_id, *reversed(first_steps.DEMO_SENDER))
    assert first_steps.ensure_demo(runtime, SINK, leads=20)


def test_the_demos_pool_follows_a_sink_that_has_moved(runtime: Runtime) -> None:
    first_steps.ensure_first_user(runtime)
    first_steps.ensure_demo(runtime, SINK, leads=20)
    first_steps.ensure_demo(runtime, "sink+http://127.0.0.1:9999", leads=20)
    with runtime.db.session() as session:
        owner = first_steps.users.oldest(session)
        assert owner is not None
        pool = pools.find_named(session, owner.organisation_id, first_steps.DEMO_POOL)
        assert pool is not None
        assert runtime.vault.decrypt(pool.url) == "sink+http://127.0.0.1:9999"
