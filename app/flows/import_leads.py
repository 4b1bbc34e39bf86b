"""Leads from CSV files: received in pieces, merged in batches, each batch one transaction with its own checkpoint.

What is committed is never done again: a batch's leads, its rejects, its counts and how far the file was read are one
transaction, held by a lease and a fence on the import. Whoever takes an import over begins at its checkpoint.
"""

from __future__ import annotations

import csv
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import chain, count
from typing import BinaryIO

from sqlalchemy import Connection

from app.csv_text import csv_line
from app.db import Database
from app.errors import Conflict, Invalid, LeaseLost, Unavailable
from app.flows import lead_columns, merge_leads
from app.flows.csv_shape import HEAD, Shape, find_shape
from app.flows.merge_leads import Source
from app.models import lead_import
from app.models.lead_import import PIECE, Job, LeadImport, Progress
from app.runtime import Runtime

log = logging.getLogger(__name__)

LARGEST = 4 << 30  # bytes of an uploaded file
REJECTS = 1000  # rejected rows that are read at a time
INTERRUPTED = "The command was interrupted: run it again, nothing is taken twice."
OUR_FAULT = "Something went wrong in Millrace itself, and was logged. What was imported stays; import the file again."

OnProgress = Callable[[Progress, int], None]  # how far it has come, and the file's bytes


@dataclass(frozen=True, slots=True)
class Options:
    """What a user may decide about a file; what is left open is found in the file itself.

    `mapping`: a header's cell → "email", "time_zone", an attribute's name, or "" to leave the column out.
    """

    mapping: Mapping[str, str] = field(default_factory=dict)
    encoding: str | None = None
    delimiter: str | None = None


def receive(
    runtime: Runtime,
    organisation_id: int,
    user_id: int | None,
    file_name: str,
    stream: BinaryIO,
    options: Options | None = None,
    *,
    largest: int = LARGEST,
) -> int:
    """Stores an uploaded file in pieces, never whole in memory, and rings for a worker; returns the import's id.

    Raises Invalid, and keeps nothing, when the file is no CSV file with a header that names the address, or too large.
    """
    options = options or Options()
    head = _read_full(stream, PIECE)
    check(head, options)
    with runtime.db.begin() as conn:
        import_id = lead_import.create(conn, organisation_id, user_id, file_name, asdict(options))
    try:
        size = _store(runtime.db, import_id, head, stream, largest)
    except BaseException:
        with runtime.db.begin() as conn:
            lead_import.delete(conn, import_id)
        raise
    with runtime.db.begin() as conn:
        lead_import.end_upload(conn, import_id, size)
    runtime.ring("import")
    return import_id


def check(head: bytes, options: Options) -> list[tuple[str, str]]:
    """What the columns of the file that begins with `head` (up to HEAD bytes) would be: (header's cell, what it is)."""
    shape = find_shape(head[:HEAD], options.encoding, options.delimiter)
    return list(zip(shape.header, lead_columns.name_columns(shape.header, options.mapping), strict=True))


def run_waiting(runtime: Runtime) -> bool:
    """Works on the oldest import that waits, until it ends or the process does; False when none waits."""
    with runtime.db.begin() as conn:
        lead_import.close_abandoned(conn)
        job = lead_import.claim(conn)
    if job is None:
        return False
    _run(runtime.db, job, _stored(runtime.db, job.id), lambda *_: None, runtime.stopping.is_set)
    return True


def run_import(db: Database, import_id: int, on_progress: OnProgress = lambda *_: None) -> None:
    """Works on one import that was received; raises Conflict when somebody else does, or it has ended."""
    with db.begin() as conn:
        job = lead_import.claim(conn, import_id)
    if job is None:
        raise Conflict("This import is being worked on, or has ended.")
    _run(db, job, _stored(db, job.id), on_progress, lambda: False)


def import_stream(
    db: Database,
    organisation_id: int,
    user_id: int | None,
    file_name: str,
    stream: BinaryIO,
    options: Options | None = None,
    *,
    file_bytes: int = 0,
    on_progress: OnProgress = lambda *_: None,
) -> int:
    """Imports straight from a stream, in this process; returns the import's id. Raises Invalid as `receive` does."""
    options = options or Options()
    head = _read_full(stream, HEAD)
    check(head, options)
    with db.begin() as conn:
        import_id = lead_import.create(conn, organisation_id, user_id, file_name, asdict(options))
        job = lead_import.claim_unstored(conn, import_id, file_bytes)

    def source(offset: int) -> Iterator[bytes]:
        return chain([head[offset:]], iter(lambda: stream.read(PIECE), b""))

    try:
        _run(db, job, source, on_progress, lambda: False)
    except KeyboardInterrupt:
        _give_up(db, job, INTERRUPTED)
        raise
    return import_id


def rejects_csv(db: Database, import_id: int) -> Iterator[str]:
    """The rows that were not taken as a CSV file, line by line: line, reason, and the row under the file's own header.

    Safe to open in a spreadsheet. Whoever asks was told by `lead_import.get` that the import is theirs.
    """
    with db.session() as session:
        found = session.get_one(LeadImport, import_id)
    header = found.columns.get("shape", {}).get("header", ())
    return chain([csv_line(["line", "reason", *header])], _reject_lines(db, import_id))


def _reject_lines(db: Database, import_id: int) -> Iterator[str]:
    line = 0
    while True:
        with db.begin() as conn:
            page = lead_import.find_rejects(conn, import_id, line, REJECTS)
        if not page:
            return
        for reject in page:
            yield csv_line([str(reject.line), reject.reason, *next(csv.reader([reject.row]), ())])
        line = page[-1].line


def _run(db: Database, job: Job, source: Source, on_progress: OnProgress, stopping: Callable[[], bool]) -> None:
    """The import from its checkpoint to its end. A file that cannot be read ends it, with a sentence in `error`."""
    done = job.progress
    try:
        shape, names = _columns(db, job, source)
        stopped = False
        with closing(merge_leads.merge(db, job, shape, names, source)) as batches:
            for done in batches:
                on_progress(done, job.file_bytes)
                if stopped := stopping():
                    break
        if stopped:
            _end(db, job, lead_import.put_back)
        else:
            _end(db, job, lead_import.finish, done)
    except LeaseLost as error:
        log.warning("import %s: %s", job.id, error)
    except Invalid as error:
        _give_up(db, job, " ".join(fault.message for fault in error.faults))
    except Unavailable:
        raise  # the lease runs out, and whoever is there by then goes on
    except Exception:
        _give_up(db, job, OUR_FAULT)
        raise


def _columns(db: Database, job: Job, source: Source) -> tuple[Shape, list[str]]:
    """What was found in the file: by whoever began with it, or now."""
    if "shape" in job.columns:
        return Shape.from_json(job.columns["shape"]), job.columns["names"]
    options = Options(**job.columns["options"])
    shape = find_shape(_head(source), options.encoding, options.delimiter)
    names = lead_columns.name_columns(shape.header, options.mapping)
    with db.begin() as conn:
        lead_import.hold(conn, job)
        lead_import.keep_columns(conn, job, {**job.columns, "shape": shape.to_json(), "names": names})
    return shape, names


def _end(db: Database, job: Job, how: Callable[[Connection, Job], None], at: Progress | None = None) -> None:
    with db.begin() as conn:
        lead_import.hold(conn, job, at)
        how(conn, job)


def _give_up(db: Database, job: Job, error: str) -> None:
    with suppress(LeaseLost):  # then it is no longer ours to end
        _end(db, job, partial(lead_import.fail, error=error))


def _head(source: Source) -> bytes:
    head = b""
    for chunk in source(0):
        head += chunk
        if len(head) >= HEAD:
            break
    return head[:HEAD]


def _stored(db: Database, import_id: int) -> Source:
    """The file out of its pieces, one at a time."""

    def source(offset: int) -> Iterator[bytes]:
        for position in count(offset // PIECE):
            with db.begin() as conn:
                piece = lead_import.read_piece(conn, import_id, position)
            if piece is None:
                return
            yield piece[max(0, offset - position * PIECE) :]

    return source


def _store(db: Database, import_id: int, head: bytes, stream: BinaryIO, largest: int) -> int:
    """Stores the file, of which `head` was read already; returns its bytes."""
    size = 0
    pieces = chain([head], iter(lambda: _read_full(stream, PIECE), b""))
    for position, piece in enumerate(pieces):
        size += len(piece)
        if size > largest:
            raise Invalid.one("file", f"The file is larger than {largest / (1 << 20):,.0f} MB: cut it into several.")
        with db.begin() as conn:
            lead_import.append_piece(conn, import_id, position, piece)
    return size


def _read_full(stream: BinaryIO, size: int) -> bytes:
    """Exactly `size` bytes, less only at the end: what comes over a network comes in crumbs."""
    parts: list[bytes] = []
    while size > 0 and (part := stream.read(size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
