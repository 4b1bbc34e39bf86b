"""Segments over the API: written, read, counted, removed."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final

from pydantic import Field

from app.flows import segments
from app.models import segment
from app.models.field import load_fields
from app.models.segment import Listed
from web.api.cursors import Page, Paged, page_of, text
from web.api.route import Answering, Asking, Caller, Made, Routes

routes: Final = Routes("segments")
PATIENCE: Final = 20.0  # seconds that a count may take
AT: Final = {"/": "/condition"}
Condition = Annotated[dict[str, Any], Field(description="A condition over leads, as docs/segments.md has it.")]


class NewSegment(Asking):
    """A segment as it is written."""

    name: Annotated[str, Field(max_length=segment.NAME)]
    condition: Condition


class SegmentChange(Asking):
    """What is to be different; what is not said stays."""

    name: Annotated[str, Field(max_length=segment.NAME)] | None = None
    condition: Condition | None = None


class Asked(Asking):
    """A condition that is not saved."""

    condition: Condition


class Segment(Answering):
    """A segment."""

    id: int
    name: str
    condition: dict[str, Any]
    updated_at: datetime


class SegmentLine(Segment):
    """A segment in a list; `campaigns` counts those that use it."""

    campaigns: int


class Count(Answering):
    """How many leads match now, of every status; null where 20 seconds were too short to count them."""

    leads: int | None


@routes.get("/segments", "segments:read", query=Paged, answer=Page[SegmentLine])
def list_all(caller: Caller, query: Paged) -> Page[SegmentLine]:
    """List segments by name."""
    with caller.runtime.db.begin() as conn:
        found = segment.find_page(conn, caller.organisation_id, after=text(query), limit=query.limit + 1)
    return page_of(found, query, lambda each: each.name, _line)


@routes.post("/segments", "segments:write", body=NewSegment, answer=Segment, status=201, at=AT)
def create(caller: Caller, body: NewSegment) -> Made:
    """Save a new segment. Its condition is checked against the attributes that leads have."""
    made = segments.create(caller.runtime, caller.organisation_id, body.name, body.condition)
    return Made(get(caller, made), f"segments/{made}")


@routes.get("/segments/<int:segment_id>", "segments:read", answer=Segment)
def get(caller: Caller, segment_id: int) -> Segment:
    """Read a segment."""
    with caller.runtime.db.session() as session:
        return Segment.model_validate(segment.get(session, caller.organisation_id, segment_id))


@routes.patch("/segments/<int:segment_id>", "segments:write", body=SegmentChange, answer=Segment, at=AT)
def change(caller: Caller, segment_id: int, body: SegmentChange) -> Segment:
    """Change a segment. Campaigns that were launched keep the condition that they were launched with."""
    known = get(caller, segment_id)
    name = known.name if body.name is None else body.name
    condition = known.condition if body.condition is None else body.condition
    segments.update(caller.runtime, caller.organisation_id, segment_id, name, condition)
    return get(caller, segment_id)


@routes.delete("/segments/<int:segment_id>", "segments:write")
def remove(caller: Caller, segment_id: int) -> None:
    """Remove a segment; 409 while a campaign refers to it."""
    segments.delete(caller.runtime, caller.organisation_id, segment_id)


@routes.get("/segments/<int:segment_id>/count", "segments:read", answer=Count)
def count(caller: Caller, segment_id: int) -> Count:
    """Count who is in a segment now."""
    return _count(caller, get(caller, segment_id).condition)


@routes.post("/segments/count", "segments:read", body=Asked, answer=Count, once=False, at=AT)
def count_condition(caller: Caller, body: Asked) -> Count:
    """Count whom a condition finds, without saving it."""
    return _count(caller, body.condition)


def _count(caller: Caller, condition: dict[str, Any]) -> Count:
    with caller.runtime.reports.begin() as conn:
        fields = load_fields(conn, caller.organisation_id)
        clause = segment.compile(segment.parse(condition, fields), fields)
        return Count(leads=segment.count_within(conn, caller.organisation_id, clause, PATIENCE))


def _line(each: Listed) -> SegmentLine:
    return SegmentLine.model_validate(each)
