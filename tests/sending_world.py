"""Steps of sending, one by one: what a test needs to stop a worker between any two of them."""

from __future__ import annotations

from sqlalchemy import text

from app.flows import answers, launch, rescue, send_range, settle
from app.flows.send_range import Page
from app.models import outbox
from app.models.handoff import HandOff
from app.runtime import Runtime
from tests import world
from tests.peers import Peer
from tests.test_sending import build, claim
from tests.world import World

__all__ = [
    "claim",
    "hand_over",
    "later",
    "launched",
    "letters_of",
    "lose_the_lease",
    "one",
    "query",
    "settle_with",
    "sums",
]


def launched(runtime: Runtime, peer: Peer, leads: int = 100, more: str = "") -> World:
    """A campaign to so many leads through the peer, launched. `more` is added to the pool's URL."""
    built = build(runtime, Peer(peer.url + more, peer.sink), leads)
    launch.launch(runtime, built.organisation_id, built.campaign_id)
    return built


def hand_over(runtime: Runtime) -> tuple[Page, list[HandOff]]:
    """Claim a page and hand it over; the provider is not asked yet."""
    page = claim(runtime)
    letters, skipped = send_range.compose_page(send_range.composer_of(runtime, page.sending), page)
    handoffs = send_range.hand_over(runtime, page, letters, skipped)
    assert handoffs is not None
    return page, handoffs


def settle_with(runtime: Runtime, page: Page, handoffs: list[HandOff], *results: object) -> None:
    """Settle a page with these answers, one a call."""
    given = [answers.Answer(each, result) for each, result in zip(handoffs, results, strict=True)]  # type: ignore[arg-type]
    settle.settle_page(runtime, page.lease, page.sending, page.source, page.leads, given)


def lose_the_lease(runtime: Runtime) -> None:
    """The worker died, or slept for too long, and the rescuer came by."""
    with runtime.db.begin() as conn:
        conn.execute(text("UPDATE outbox SET lease_until = now() - interval '1 second' WHERE state = 'leased'"))
    assert rescue.rescue_expired(runtime) == 1


def later(runtime: Runtime, seconds: float) -> None:
    """So much time has passed for all that waits."""
    with runtime.db.begin() as conn:
        for change in (
            "outbox SET due_at = due_at - :step, deferred_since = deferred_since - :step",
            "handoff SET handed_at = handed_at - :step, repeat_at = repeat_at - :step,"
            " unknown_since = unknown_since - :step",
            "handoff SET look_up_at = look_up_at - :step, repeat_until = repeat_until - :step,"
            " made_at = made_at - :step",
            "pool SET resume_at = resume_at - :step, probe_until = probe_until - :step",
            "pool_webhook SET handed_at = handed_at - :step",
            "campaign SET updated_at = updated_at - :step, look_at = look_at - :step",
        ):
            conn.execute(text(f"UPDATE {change}".replace(":step", "make_interval(secs => :s)")), {"s": seconds})


def webhooks_arrive(runtime: Runtime, built: World) -> None:
    """A webhook has spoken of a call that was handed over just now, and others came all the while of the last hours."""
    with runtime.db.begin() as conn:
        arrived = "INSERT INTO pool_webhook (pool_id, seen_at, handed_at, lags) VALUES (:p, now(), now(), '{}')"
        conn.execute(text(arrived), {"p": built.pool_id})
    heard_since(runtime, built.pool_id, 12 * 3600)


def heard_since(runtime: Runtime, pool_id: int, seconds: float) -> None:
    """Posts of a pool came in every slot of so many seconds, up to now."""
    with runtime.db.begin() as conn:
        heard = (
            "INSERT INTO pool_heard (pool_id, slot) SELECT :p, slot"
            "  FROM generate_series(floor((extract(epoch FROM now()) - :s) / 30)::int,"
            "                       floor(extract(epoch FROM now()) / 30)::int) AS slot"
        )
        conn.execute(text(heard), {"p": pool_id, "s": seconds})


def sums(runtime: Runtime, campaign_id: int) -> dict[str, int]:
    """The campaign's outcomes that are not 0, by name; they always add up."""
    with runtime.db.begin() as conn:
        found = outbox.progress(conn, campaign_id)
    assert found.adds_up
    names = ("sent", "refused", "failed", "skipped", "cancelled", "unknown", "open")
    return {name: getattr(found, name) for name in names if getattr(found, name)}


def letters_of(runtime: Runtime) -> list[str | None]:
    """The letters of all calls, in order."""
    with runtime.db.begin() as conn:
        return list(conn.execute(text("SELECT outcomes FROM handoff ORDER BY id")).scalars())


def query(runtime: Runtime, statement: str, **values: object) -> list[tuple[object, ...]]:
    """All rows."""
    with runtime.db.begin() as conn:
        return [tuple(row) for row in conn.execute(text(statement), values)]


def one(runtime: Runtime, statement: str, **values: object) -> dict[str, object]:
    """One row."""
    with runtime.db.begin() as conn:
        return dict(world.row(conn, statement, **values))
