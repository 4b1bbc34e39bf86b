"""Streams as people look after them: figures, what nobody knows of their messages, and what waits for a person."""

from __future__ import annotations

from dataclasses import dataclass

from app.models import alert, outbox, report, stream, unknown
from app.models.figures import Figures
from app.models.stream import StreamLine
from app.models.unknown import UnknownSums
from app.runtime import Runtime


@dataclass(frozen=True, slots=True)
class Looked:
    """A stream with its figures, all of its time together. `quarantined`: messages that wait for a person."""

    line: StreamLine
    figures: Figures
    unknown: UnknownSums
    quarantined: int


def list_streams(runtime: Runtime, organisation_id: int) -> list[tuple[StreamLine, Figures]]:
    """An organisation's streams by name, with their figures."""
    with runtime.db.begin() as conn:
        lines = stream.list_streams(conn, organisation_id)
    with runtime.reports.begin() as conn:
        figures = report.sum_campaigns(conn, organisation_id, [line.id for line in lines]) if lines else {}
    return [(line, figures[line.id]) for line in lines]


def exists(runtime: Runtime, organisation_id: int, campaign_id: int) -> bool:
    """Whether a campaign is a stream of messages."""
    with runtime.db.begin() as conn:
        return stream.exists(conn, organisation_id, campaign_id)


def look(runtime: Runtime, organisation_id: int, campaign_id: int) -> Looked:
    """One stream. Raises NotFound."""
    with runtime.db.begin() as conn:
        line = stream.find_line(conn, organisation_id, campaign_id)
        calls, quarantined = unknown.count(conn, campaign_id), stream.count_quarantined(conn, campaign_id)
    with runtime.reports.begin() as conn:
        return Looked(line, report.sum_campaign(conn, organisation_id, campaign_id), calls, quarantined)


def release(runtime: Runtime, organisation_id: int, campaign_id: int) -> None:
    """Let ranges go on that workers died on. Raises NotFound."""
    with runtime.db.begin() as conn:
        stream.find_line(conn, organisation_id, campaign_id)
        outbox.release(conn, campaign_id)
        alert.clear(conn, alert.Kind.QUARANTINED, campaign_id)
    runtime.ring("send", runtime.settings.worker_threads)
