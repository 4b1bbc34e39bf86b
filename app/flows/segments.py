"""Saving and removing segments, each in one transaction."""

from __future__ import annotations

from app.models import segment
from app.runtime import Runtime


def create(runtime: Runtime, organisation_id: int, name: str, condition: object) -> int:
    """Save a new segment (`condition`: JSON text, or decoded); its id. Raises Invalid: "name", or JSON pointers."""
    with runtime.db.session() as session:
        return segment.create(session, organisation_id, name, condition).id


def update(runtime: Runtime, organisation_id: int, segment_id: int, name: str, condition: object) -> None:
    """Save a segment again. Raises as `create`, and NotFound."""
    with runtime.db.session() as session:
        segment.update(session, organisation_id, segment_id, name, condition)


def delete(runtime: Runtime, organisation_id: int, segment_id: int) -> None:
    """Remove a segment. Raises NotFound, or Conflict while a campaign refers to it."""
    with runtime.db.session() as session:
        segment.delete(session, organisation_id, segment_id)
