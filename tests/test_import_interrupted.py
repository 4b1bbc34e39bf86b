"""Imports that are interrupted, taken over or run side by side: nothing is done twice, nothing is lost."""

from __future__ import annotations

import io
import os
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import text

from app.config import Settings
from app.db import Database
from app.errors import LeaseLost
from app.flows import import_leads, merge_leads
from app.models import lead_import
from app.models.lead_import import PROGRESS, Job, LeadImport, Progress
from app.runtime import Runtime

ROOT = Path(__file__).parent.parent
WORKER = """
import sys
from app.config import read
from app.flows import import_leads
from app.runtime import Runtime
import os
import_leads.run_waiting(Runtime(read(os.environ)))
"""


def make_file(addresses: int, rows: int, seed: int = 1) -> bytes:
    """Rows of which many repeat an address, some are bad; the last row of each address has the highest number."""
    dice = random.Random(seed)
    lines = ["email,name,n"]
    for n in range(rows):
        lines.append(f"lead{dice.randrange(addresses)}@x{n % 7}.de,{'x' * 60},{n}" if n % 97 else f"bad{n},,")
    return ("\n".join(lines) + "\n").encode()


FILE = make_file(20_000, 60_000)


@pytest.fixture
def organisation_id(runtime: Runtime) -> int:
    with runtime.db.begin() as conn:
        return int(conn.execute(text("INSERT INTO organisation (name) VALUES ('One') RETURNING id")).scalar_one())


def receive(runtime: Runtime, organisation_id: int, data: bytes = FILE) -> int:
    return import_leads.receive(runtime, organisation_id, None, "leads.csv", io.BytesIO(data))


def load(db: Database, import_id: int) -> LeadImport:
    with db.session() as session:
        return session.get_one(LeadImport, import_id)


def lapse(db: Database) -> None:
    """The lease of whoever works now is over."""
    with db.begin() as conn:
        conn.execute(text("UPDATE import SET lease_until = now() - interval '1 second' WHERE state = 'running'"))


def claim(db: Database) -> Job:
    with db.begin() as conn:
        job = lead_import.claim(conn)
    assert job is not None
    return job


def expected() -> dict[str, int]:
    """What FILE comes to, by a plain loop."""
    rows = [line.split(",") for line in FILE.decode().splitlines()[1:]]
    good = [row[0] for row in rows if "@" in row[0]]
    met = len(set(good))
    return {"rows_read": len(rows), "added": met, "repeated": len(good) - met, "rejected": len(rows) - len(good)}


def assert_whole(runtime: Runtime, import_id: int) -> None:
    found = load(runtime.db, import_id)
    assert found.state == "finished"
    assert {name: getattr(found, name) for name in PROGRESS if name not in ("bytes_read", "lines_read")} == {
        "updated": 0,
        "unchanged": 0,
        **expected(),
    }
    last = {}
    for line in FILE.decode().splitlines()[1:]:
        email, _, n = line.split(",")
        last[email] = n
    with runtime.db.begin() as conn:
        kept = conn.execute(text("SELECT email, attributes->>'n' FROM lead")).all()
        rejects = conn.execute(text("SELECT count(*) FROM import_reject")).scalar_one()
    assert dict(kept) == {email: n for email, n in last.items() if "@" in email}
    assert rejects == found.rejected


def test_a_worker_killed_with_9_is_taken_over_at_its_checkpoint(
    runtime: Runtime, settings: Settings, organisation_id: int
) -> None:
    import_id = receive(runtime, organisation_id)
    environ = os.environ | {
        "DATABASE_URL": settings.database_url,
        "REDIS_URL": settings.redis_url,
        "SECRET_KEY": settings.secret_key,
    }
    worker = subprocess.Popen([sys.executable, "-c", WORKER], env=environ, cwd=ROOT)
    try:
        while not load(runtime.db, import_id).rows_read:
            assert worker.poll() is None
            time.sleep(0.01)
        worker.send_signal(signal.SIGKILL)
    finally:
        worker.kill()
        worker.wait()
    left = load(runtime.db, import_id)
    assert (left.state, left.rows_read < 60_000) == ("running", True)
    assert not import_leads.run_waiting(runtime)  # its lease holds yet
    lapse(runtime.db)
    assert import_leads.run_waiting(runtime)
    assert_whole(runtime, import_id)


def test_a_worker_that_lost_its_lease_cannot_commit(runtime: Runtime, organisation_id: int) -> None:
    import_id = receive(runtime, organisation_id)
    job = claim(runtime.db)
    source = import_leads._stored(runtime.db, job.id)
    shape, names = import_leads._columns(runtime.db, job, source)
    slow = merge_leads.merge(runtime.db, job, shape, names, source)
    next(slow)
    heir = None
    while heir is None:  # a batch that is under way renews the lease once more
        lapse(runtime.db)
        with runtime.db.begin() as conn:
            heir = lead_import.claim(conn)
    with pytest.raises(LeaseLost):
        list(slow)
    assert load(runtime.db, import_id).rows_read == heir.progress.rows_read
    import_leads._run(runtime.db, heir, source, lambda *_: None, lambda: False)
    assert_whole(runtime, import_id)


def test_a_worker_whose_server_lost_its_last_batch_does_not_go_on(runtime: Runtime, organisation_id: int) -> None:
    import_id = receive(runtime, organisation_id)
    job = claim(runtime.db)
    source = import_leads._stored(runtime.db, job.id)
    shape, names = import_leads._columns(runtime.db, job, source)
    batches = merge_leads.merge(runtime.db, job, shape, names, source)
    next(batches)
    with runtime.db.begin() as conn:  # a crash: the batches were committed without waiting for the disk
        conn.execute(text("SELECT FROM import FOR UPDATE"))  # after the batch that is under way, or before it
        conn.execute(text("DELETE FROM lead"))
        conn.execute(text("DELETE FROM import_reject"))
        conn.execute(text("UPDATE import SET " + ", ".join(f"{name} = 0" for name in PROGRESS)))
    with pytest.raises(LeaseLost):
        list(batches)
    lapse(runtime.db)
    assert import_leads.run_waiting(runtime)
    assert_whole(runtime, import_id)


def test_an_import_whose_last_batch_was_lost_does_not_end(runtime: Runtime, organisation_id: int) -> None:
    import_id = receive(runtime, organisation_id, b"email\na@x.de\n")
    with pytest.raises(LeaseLost), runtime.db.begin() as conn:
        lead_import.hold(conn, claim(runtime.db), Progress(bytes_read=13))
    assert load(runtime.db, import_id).state == "running"


def test_a_worker_that_slept_through_its_lease_leaves_the_end_to_others(runtime: Runtime, organisation_id: int) -> None:
    import_id = receive(runtime, organisation_id)
    stale = claim(runtime.db)
    lapse(runtime.db)
    assert import_leads.run_waiting(runtime)
    import_leads._run(runtime.db, stale, import_leads._stored(runtime.db, stale.id), lambda *_: None, lambda: False)
    assert_whole(runtime, import_id)


def test_an_import_is_worked_on_by_one_worker_only(runtime: Runtime, organisation_id: int) -> None:
    import_id = receive(runtime, organisation_id)
    with ThreadPoolExecutor(4) as workers:
        began = [workers.submit(import_leads.run_waiting, runtime) for _ in range(4)]
        assert sorted(each.result() for each in began) == [False, False, False, True]
    assert load(runtime.db, import_id).fence == 1
    assert_whole(runtime, import_id)


def test_a_process_that_stops_puts_its_import_back_for_the_next(
    runtime: Runtime, settings: Settings, organisation_id: int
) -> None:
    import_id = receive(runtime, organisation_id)
    stopped = Runtime(settings, name="stopped")
    stopped.stopping.set()
    while load(runtime.db, import_id).state == "waiting" and load(runtime.db, import_id).fence < 10:
        before = load(runtime.db, import_id).rows_read
        assert import_leads.run_waiting(stopped)
        left = load(runtime.db, import_id)
        assert left.rows_read > before or left.rows_read == 60_000
        if left.fence == 2:
            break
    stopped.close()
    assert load(runtime.db, import_id).state == "waiting"
    assert import_leads.run_waiting(runtime)
    assert_whole(runtime, import_id)


def test_two_imports_of_the_same_addresses_at_once_make_each_lead_once(runtime: Runtime, organisation_id: int) -> None:
    rows = [f"lead{n}@new{n % 50}.de,{n % 3}\n" for n in range(40_000)]
    files = []
    for seed in (1, 2):
        random.Random(seed).shuffle(rows)
        files.append(("email,n\n" + "".join(rows)).encode())
    with ThreadPoolExecutor(2) as commands:
        done = list(
            commands.map(
                lambda data: import_leads.import_stream(
                    runtime.db, organisation_id, None, "x.csv", Slices(data, 100_000)
                ),
                files,
            )
        )
    found = [load(runtime.db, each) for each in done]
    assert [each.state for each in found] == ["finished", "finished"]
    assert sum(each.added for each in found) == 40_000
    assert all(each.added + each.unchanged == 40_000 for each in found)
    with runtime.db.begin() as conn:
        assert conn.execute(text("SELECT count(*) FROM lead")).scalar_one() == 40_000


class Slices(io.BytesIO):
    """A stream that gives little at a time, so that there are many batches."""

    def __init__(self, data: bytes, size: int) -> None:
        super().__init__(data)
        self.size = size

    def read(self, size: int | None = -1) -> bytes:
        return super().read(min(size or 0, self.size))


def test_a_command_that_was_killed_is_told_of_and_the_next_changes_nothing_twice(
    runtime: Runtime, organisation_id: int
) -> None:
    with runtime.db.begin() as conn:
        dead = lead_import.create(conn, organisation_id, None, "leads.csv", {})
        lead_import.claim_unstored(conn, dead, len(FILE))
    lapse(runtime.db)
    assert not import_leads.run_waiting(runtime)
    left = load(runtime.db, dead)
    assert (left.state, left.error) == (
        "failed",
        "The command that read the file was interrupted: run it again, nothing is taken twice.",
    )


def test_an_upload_that_broke_off_is_closed_after_a_day(runtime: Runtime, organisation_id: int) -> None:
    with runtime.db.begin() as conn:
        young, old = (lead_import.create(conn, organisation_id, None, name, {}) for name in ("young", "old"))
        lead_import.append_piece(conn, old, 0, b"email\n")
        conn.execute(text("UPDATE import SET created_at = now() - interval '25 hours' WHERE id = :id"), {"id": old})
    assert not import_leads.run_waiting(runtime)
    assert (load(runtime.db, young).state, load(runtime.db, old).state) == ("uploading", "failed")
    with runtime.db.begin() as conn:
        assert conn.execute(text("SELECT count(*) FROM import_piece")).scalar_one() == 0


def test_a_file_that_kills_every_worker_is_given_up(runtime: Runtime, organisation_id: int) -> None:
    import_id = receive(runtime, organisation_id)
    with runtime.db.begin() as conn:
        conn.execute(text("UPDATE import SET fence = :most"), {"most": lead_import.MOST_CLAIMS - 1})
    claim(runtime.db)
    lapse(runtime.db)
    assert not import_leads.run_waiting(runtime)
    assert load(runtime.db, import_id).state == "failed"


def test_a_fault_of_ours_ends_the_import_with_a_sentence(runtime: Runtime, organisation_id: int) -> None:
    import_id = receive(runtime, organisation_id)
    job = replace(claim(runtime.db), columns={})
    with pytest.raises(KeyError):
        import_leads._run(runtime.db, job, import_leads._stored(runtime.db, job.id), lambda *_: None, lambda: False)
    assert load(runtime.db, import_id).error == import_leads.OUR_FAULT
