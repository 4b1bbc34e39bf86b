"""Imports: one CSV file on its way into the leads, how far it has come, and the rows that were not taken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import BigInteger, Connection, FetchedValue, ForeignKey, RowMapping, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.db import Base, Statements
from app.errors import LeaseLost, NotFound

SQL = Statements("lead_import")
PIECE = 1 << 20  # bytes of every stored piece of a file but its last
LEASE = 60.0  # seconds; a batch takes one at most
MOST_CLAIMS = 50  # a file that so many workers took up, and did not end, kills them: it is given up

# uploading → waiting → running → finished | failed; running → waiting when its worker stops in good order.
STATES = ("uploading", "waiting", "running", "finished", "failed")


class LeadImport(Base):
    """One file. `columns` holds what its user chose ("options") and what was found in it ("shape", "names")."""

    __tablename__ = "import"

    id: Mapped[int] = mapped_column(primary_key=True)
    organisation_id: Mapped[int] = mapped_column(ForeignKey("organisation.id"))
    user_id: Mapped[int | None]
    file_name: Mapped[str]
    file_bytes: Mapped[int] = mapped_column(BigInteger, default=0)
    state: Mapped[str] = mapped_column(default="uploading")
    columns: Mapped[dict[str, Any]] = mapped_column(JSONB, default=dict)
    bytes_read: Mapped[int] = mapped_column(BigInteger, default=0)
    lines_read: Mapped[int] = mapped_column(BigInteger, default=0)
    rows_read: Mapped[int] = mapped_column(BigInteger, default=0)
    added: Mapped[int] = mapped_column(BigInteger, default=0)
    updated: Mapped[int] = mapped_column(BigInteger, default=0)
    unchanged: Mapped[int] = mapped_column(BigInteger, default=0)
    repeated: Mapped[int] = mapped_column(BigInteger, default=0)
    rejected: Mapped[int] = mapped_column(BigInteger, default=0)
    error: Mapped[str | None]
    lease_until: Mapped[datetime | None]
    fence: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[datetime] = mapped_column(server_default=FetchedValue())
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an import has come. Every row read is exactly one of added, updated, unchanged, repeated, rejected."""

    bytes_read: int = 0
    lines_read: int = 0
    rows_read: int = 0
    added: int = 0
    updated: int = 0
    unchanged: int = 0
    repeated: int = 0
    rejected: int = 0


PROGRESS = tuple(field.name for field in fields(Progress))


@dataclass(frozen=True, slots=True)
class Job:
    """An import that is this worker's until its lease runs out or somebody else's fence is higher."""

    id: int
    organisation_id: int
    fence: int
    file_bytes: int
    columns: Mapping[str, Any]
    progress: Progress


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """A row that was not taken: the line where it begins, why, and what it said, as CSV."""

    line: int
    reason: str
    row: str


def create(
    conn: Connection, organisation_id: int, user_id: int | None, file_name: str, options: Mapping[str, Any]
) -> int:
    """A new import, still uploading; returns its id."""
    values = {"organisation_id": organisation_id, "user_id": user_id, "file_name": file_name[:255].replace("\0", "")}
    return int(conn.execute(SQL.create_import, values | {"columns": _json({"options": options})}).scalar_one())


def _json(value: Mapping[str, Any]) -> str:
    return orjson.dumps(value).decode()


def append_piece(conn: Connection, import_id: int, position: int, piece: bytes) -> None:
    """Stores the file's piece number `position`, counted from 0; each is PIECE bytes, but the last."""
    conn.execute(SQL.append_piece, {"import_id": import_id, "position": position, "bytes": piece})


def read_piece(conn: Connection, import_id: int, position: int) -> bytes | None:
    """A piece; None behind the last."""
    piece: bytes | None = conn.execute(
        SQL.read_piece, {"import_id": import_id, "position": position}
    ).scalar_one_or_none()
    return piece


def end_upload(conn: Connection, import_id: int, file_bytes: int) -> None:
    """The file is whole: the import waits for a worker."""
    conn.execute(SQL.end_upload, {"import_id": import_id, "file_bytes": file_bytes})


def delete(conn: Connection, import_id: int) -> None:
    """Forgets an import, its pieces and its rejects; the leads stay."""
    conn.execute(SQL.delete_import, {"import_id": import_id})


def claim(conn: Connection, import_id: int | None = None) -> Job | None:
    """The oldest import that waits, or whose worker is gone, with a lease and a new fence; None when there is none.

    With `import_id` that one only.
    """
    values = {"import_id": import_id, "lease": LEASE, "most_claims": MOST_CLAIMS}
    row = conn.execute(SQL.claim, values).one_or_none()
    return None if row is None else _job(row._mapping)


def claim_unstored(conn: Connection, import_id: int, file_bytes: int) -> Job:
    """Claims an import whose file its own process reads: nobody else can take it over."""
    values = {"import_id": import_id, "file_bytes": file_bytes, "lease": LEASE}
    return _job(conn.execute(SQL.claim_unstored, values).one()._mapping)


def _job(row: RowMapping) -> Job:
    progress = Progress(**{name: row[name] for name in PROGRESS})
    return Job(row["id"], row["organisation_id"], row["fence"], row["file_bytes"], row["columns"], progress)


def hold(conn: Connection, job: Job, at: Progress | None = None) -> None:
    """Locks the import for this transaction; raises LeaseLost when it is somebody else's by now.

    Or, with `at`, when its checkpoint is not there: the server has crashed, and what had not reached the disk is lost.
    """
    values = {"import_id": job.id, "fence": job.fence, "bytes_read": None if at is None else at.bytes_read}
    if conn.execute(SQL.hold, values).one_or_none() is None:
        raise LeaseLost("This import was given to another worker, or the database has lost its last steps.")


def do_not_wait(conn: Connection) -> None:
    """Commits this transaction without waiting for the disk. Leads and checkpoint are lost together, or not at all."""
    conn.execute(SQL.do_not_wait)


def keep_columns(conn: Connection, job: Job, columns: Mapping[str, Any]) -> None:
    """Writes down what was found in the file, so that a takeover reads it the same way."""
    conn.execute(SQL.keep_columns, {"import_id": job.id, "columns": _json(columns)})


def keep_progress(conn: Connection, job: Job, progress: Progress) -> None:
    """Writes down how far it has come, and renews the lease; within the transaction that `hold` began."""
    values = {name: getattr(progress, name) for name in PROGRESS}
    conn.execute(SQL.keep_progress, values | {"import_id": job.id, "lease": LEASE})


def add_rejects(conn: Connection, job: Job, rejects: Sequence[RejectedRow]) -> None:
    values = {
        "import_id": job.id,
        "lines": [reject.line for reject in rejects],
        "reasons": [reject.reason for reject in rejects],
        "rows": [reject.row for reject in rejects],
    }
    conn.execute(SQL.add_rejects, values)


def finish(conn: Connection, job: Job) -> None:
    """All is read: the stored file is no longer needed."""
    conn.execute(SQL.finish, {"import_id": job.id})
    conn.execute(SQL.delete_pieces, {"import_id": job.id})


def fail(conn: Connection, job: Job, error: str) -> None:
    """It cannot go on; what was imported stays."""
    conn.execute(SQL.fail, {"import_id": job.id, "error": error})
    conn.execute(SQL.delete_pieces, {"import_id": job.id})


def put_back(conn: Connection, job: Job) -> None:
    """Another worker may go on at once."""
    conn.execute(SQL.put_back, {"import_id": job.id})


def close_abandoned(conn: Connection) -> int:
    """Ends imports that nobody can go on with: the upload or the command was interrupted, or every worker died."""
    return conn.execute(SQL.close_abandoned, {"most_claims": MOST_CLAIMS}).rowcount


def get(session: Session, organisation_id: int, import_id: int) -> LeadImport:
    """One import; raises NotFound when there is none such, or it is another organisation's."""
    found = session.get(LeadImport, import_id)
    if found is None or found.organisation_id != organisation_id:
        raise NotFound("There is no such import.")
    return found


def find_page(session: Session, organisation_id: int, before_id: int | None, limit: int) -> list[LeadImport]:
    """Imports, the newest first, at most `limit`; with `before_id` those older than that one."""
    own = select(LeadImport).where(LeadImport.organisation_id == organisation_id)
    older = own if before_id is None else own.where(LeadImport.id < before_id)
    return list(session.scalars(older.order_by(LeadImport.id.desc()).limit(limit)))


def find_rejects(conn: Connection, import_id: int, after_line: int, limit: int) -> list[RejectedRow]:
    """Rejected rows by line, at most `limit`, behind the line `after_line`."""
    values = {"import_id": import_id, "after_line": after_line, "limit": limit}
    return [RejectedRow(**row._mapping) for row in conn.execute(SQL.find_rejects, values)]


def is_waiting(conn: Connection) -> bool:
    """Whether any import waits for a worker."""
    return bool(conn.execute(SQL.is_waiting).scalar_one())
