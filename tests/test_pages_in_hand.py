"""Pages that a process has in hand for longer than it should, since the database was away or composing took long."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from sqlalchemy import Connection, text

from app.errors import Unavailable
from app.flows import send_range
from app.runtime import Runtime
from app.uptime import uptime
from tests.peers import Peer
from tests.sending_world import claim, launched, query, sums
from tests.test_sending import events

pytestmark = pytest.mark.settings(range_size=10)


def keep(runtime: Runtime, pages: int) -> None:
    """Pages that were in hand when the database went away."""
    for _ in range(pages):
        lease = send_range.claim(runtime)
        assert lease is not None
        runtime.kept.append(lease)


def test_every_page_that_was_kept_is_given_back_whatever_other_threads_do(runtime: Runtime, peer: Peer) -> None:
    """Two threads at once, held at the same point: with the page in hand and before it is given back."""
    launched(runtime, peer, leads=40)
    keep(runtime, 4)
    together, failed = threading.Barrier(2), list[BaseException]()
    begin = runtime.db.begin

    @contextmanager
    def begin_together() -> Iterator[Connection]:
        together.wait(10)
        with begin() as conn:
            yield conn
            together.wait(10)

    def put_back() -> None:
        try:
            send_range._put_back_kept(runtime)
        except BaseException as error:
            failed.append(error)

    runtime.db.begin = begin_together  # type: ignore[method-assign]
    threads = [threading.Thread(target=put_back) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    runtime.db.begin = begin  # type: ignore[method-assign]
    assert failed == []
    assert query(runtime, "SELECT state, crashes, count(*) FROM outbox GROUP BY 1, 2") == [("ready", 0, 4)]


def test_a_page_that_cannot_be_given_back_yet_is_kept(runtime: Runtime, peer: Peer) -> None:
    launched(runtime, peer, leads=20)
    keep(runtime, 2)
    begin = runtime.db.begin

    def away() -> None:
        raise Unavailable("away")

    runtime.db.begin = away  # type: ignore[method-assign, assignment]
    with pytest.raises(Unavailable):
        send_range._put_back_kept(runtime)
    runtime.db.begin = begin  # type: ignore[method-assign]
    assert len(runtime.kept) == 2
    send_range._put_back_kept(runtime)
    assert query(runtime, "SELECT state, count(*) FROM outbox GROUP BY 1") == [("ready", 2)]


def suppress(runtime: Runtime, place: int) -> None:
    with runtime.db.begin() as conn:
        conn.execute(
            text(
                "INSERT INTO suppression (organisation_id, email, reason) SELECT organisation_id, email, 'unsubscribed'"
                " FROM lead ORDER BY id LIMIT 1 OFFSET :place"
            ),
            {"place": place},
        )


@pytest.mark.parametrize("more", ["", "?idempotent=3600"], ids=["", "frozen"])
def test_who_was_suppressed_while_a_page_was_in_hand_for_long_is_not_mailed(
    runtime: Runtime, peer: Peer, more: str
) -> None:
    built = launched(runtime, peer, leads=10, more=more)
    page = claim(runtime)
    suppress(runtime, 3)
    send_range.send(runtime, replace(page, read_at=uptime() - 6))
    assert sums(runtime, built.campaign_id) == {"sent": 9, "skipped": 1}
    assert events(runtime, built.campaign_id) == {"sent": 9, "skipped": 1}
    assert query(runtime, "SELECT detail->>'reason', lead_id FROM event WHERE kind = 'skipped'") == [
        ("suppressed", page.leads[3].id)
    ]
    assert query(runtime, "SELECT cardinality(lead_ids), outcomes FROM handoff") == [(9, "s" * 9)]
    assert peer.sink.book.stats()["accepted"] == 9


def test_who_was_suppressed_while_the_database_was_away_is_not_mailed(
    runtime: Runtime, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first try to hand the page over fails, and the reply to the second one's commit is lost."""
    built = launched(runtime, peer, leads=10)
    page = replace(claim(runtime), read_at=uptime() - 4.9)
    write, tries = send_range._write, list[int]()

    def write_with_trouble(*args: object) -> object:
        tries.append(1)
        if len(tries) == 1:
            suppress(runtime, 0)
            raise Unavailable("away")
        if len(tries) == 2:
            with runtime.db.begin() as conn:  # committed, and the reply to the commit never arrives
                write(runtime, conn, *args[2:])  # type: ignore[arg-type]
            raise Unavailable("the reply was lost")
        return write(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(send_range, "_write", write_with_trouble)
    send_range.send(runtime, page)
    assert len(tries) == 3
    assert sums(runtime, built.campaign_id) == {"sent": 9, "skipped": 1}
    assert events(runtime, built.campaign_id) == {"sent": 9, "skipped": 1}
    assert peer.sink.book.stats()["accepted"] == 9


def test_where_nobody_is_left_to_mail_no_call_is_made(runtime: Runtime, peer: Peer) -> None:
    built = launched(runtime, peer, leads=1)
    page = claim(runtime)
    suppress(runtime, 0)
    send_range.send(runtime, replace(page, read_at=uptime() - 6))
    assert sums(runtime, built.campaign_id) == {"skipped": 1}
    assert query(runtime, "SELECT FROM handoff") == []
    assert peer.sink.book.stats()["calls"] == 0
