"""The rows of one file merged into the leads, batch by batch: while one is merged, the next is put into the database by
another connection, and the one after it is read.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from app.db import Database
from app.flows.csv_shape import Shape
from app.flows.lead_columns import plan, suggest_types
from app.flows.read_csv import Block, Position, Reject, read_blocks
from app.flows.read_leads import LeadReader, Leads
from app.flows.seen import Tally
from app.models import lead, lead_import
from app.models.lead_import import Job, Progress, RejectedRow

Source = Callable[[int], Iterator[bytes]]  # the file's bytes from an offset on

TRIES = 5
# Somebody else added the same address at that moment, or held a lead that we held the other half of: do it again.
AGAIN = ("23505", "40P01", "40001")
MOST_DOMAINS = 200_000  # whose numbers are remembered
LONGEST_CELL = 2_000  # characters that a reject keeps of each cell


@dataclass(frozen=True, slots=True)
class Batch:
    """A block, ready to be merged: its leads as COPY's lines."""

    lines: str
    repeated: int
    rejects: Sequence[Reject]
    rows: int
    end: Position


def merge(
    db: Database, job: Job, shape: Shape, names: Sequence[str], source: Source
) -> Generator[Progress, None, None]:
    """Merges what lies behind the job's checkpoint; gives the progress after each batch that was committed.

    Raises LeaseLost when somebody else has taken the import over: nothing more of ours is committed then. Who closes it
    early waits for a batch under way, which is committed or not.
    """
    done = job.progress
    start = Position(done.bytes_read, done.lines_read + 1) if done.bytes_read else _first_row(shape)
    work = _Work(db, job, shape, names)
    with ThreadPoolExecutor(2, thread_name_prefix="merge") as hands:
        pending: Future[Progress] | None = None
        if done.bytes_read:
            work.recall(source, start)
        for block in read_blocks(source(start.bytes), shape, start):
            before, pending = pending, hands.submit(work.commit, work.prepare(block), pending)
            if before is not None:
                yield before.result()
        if pending is not None:
            yield pending.result()


def _first_row(shape: Shape) -> Position:
    return Position(shape.data_at, shape.data_line)


class _Work:
    """One file being merged: `prepare` belongs to the thread that reads, `commit` to the one that merges."""

    def __init__(self, db: Database, job: Job, shape: Shape, names: Sequence[str]) -> None:
        self.db = db
        self.job = job
        self.shape = shape
        self.names = names
        self.progress = job.progress
        self.tally = Tally()
        self.domains: dict[str, int] = {}
        self._reader: LeadReader | None = None

    def prepare(self, block: Block) -> Batch:
        """Reads a block's records as leads."""
        leads, rejects = self._leads(block)
        self._number(leads)
        rows = len(block.records) + len(block.rejects)
        return Batch(leads.lines(self.domains), leads.repeated, [*block.rejects, *rejects], rows, block.end)

    def commit(self, batch: Batch, before: Future[Progress] | None) -> Progress:
        """Merges a batch, once, after the one `before` it, and gives the progress with it. Raises what that one did."""
        for left in reversed(range(TRIES)):
            try:
                with self.db.begin() as conn:
                    merged, progress = self._merge(conn, batch, before)
                break
            except DBAPIError as error:
                if not left or getattr(error.orig, "sqlstate", None) not in AGAIN:
                    raise
        self.tally.remember(merged.added, merged.changed, merged.same)
        self.progress = progress
        return progress

    def recall(self, source: Source, until: Position) -> None:
        """After a takeover: meets again, without writing, the leads of the rows before the checkpoint."""
        first = _first_row(self.shape)
        for block in read_blocks(source(first.bytes), self.shape, first):
            if block.lines and block.lines[0] >= until.line:
                break
            leads, _ = self._leads(block)
            with self.db.begin() as conn:
                self.tally.remember(lead.find_ids(conn, self.job.organisation_id, leads.emails), (), ())
            if block.end.bytes >= until.bytes:
                break

    def _leads(self, block: Block) -> tuple[Leads, list[Reject]]:
        if self._reader is None:
            self._reader = self._open_reader(block)
        return self._reader.read(block.records, block.lines)

    def _open_reader(self, block: Block) -> LeadReader:
        """Types come from the registry; attributes new to it are entered with what the first rows suggest."""
        with self.db.begin() as conn:
            known = lead.load_attributes(conn, self.job.organisation_id)
            suggested = suggest_types(self.names, known, block.records)
            types = lead.register_attributes(conn, self.job.organisation_id, suggested)
            return LeadReader(plan(self.names, types), lead.load_time_zones(conn))

    def _number(self, leads: Leads) -> None:
        # In a transaction of its own, so that no two imports ever wait for each other's new domains.
        if unknown := set(leads.domains).difference(self.domains):
            if len(self.domains) > MOST_DOMAINS:
                self.domains.clear()
                unknown = set(leads.domains)
            with self.db.begin() as conn:
                self.domains |= lead.number_domains(conn, unknown)

    def _merge(self, conn: Connection, batch: Batch, before: Future[Progress] | None) -> tuple[lead.Merged, Progress]:
        lead_import.do_not_wait(conn)
        if batch.lines:
            lead.stage(conn, [batch.lines])
        if before is not None:
            before.result()  # committed: from here on this transaction sees its leads, and nobody holds the import
        lead_import.hold(conn, self.job, self.progress)
        merged = lead.merge(conn, self.job.organisation_id) if batch.lines else lead.NOTHING
        if batch.rejects:
            lead_import.add_rejects(conn, self.job, [_kept(reject) for reject in batch.rejects])
        progress = self._count(batch, merged)
        lead_import.keep_progress(conn, self.job, progress)
        return merged, progress

    def _count(self, batch: Batch, merged: lead.Merged) -> Progress:
        done = self.progress
        updated, unchanged, repeated = self.tally.count(merged.changed, merged.same)
        return Progress(
            bytes_read=batch.end.bytes,
            lines_read=batch.end.line - 1,
            rows_read=done.rows_read + batch.rows,
            added=done.added + len(merged.added),
            updated=done.updated + updated,
            unchanged=done.unchanged + unchanged,
            repeated=done.repeated + repeated + batch.repeated,
            rejected=done.rejected + len(batch.rejects),
        )


def _kept(reject: Reject) -> RejectedRow:
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow([cell[:LONGEST_CELL] for cell in reject.cells])
    return RejectedRow(reject.line, reject.reason, text.getvalue())
