"""What an endpoint is posted: events and their envelope as JSON (docs/endpoints.md, docs/endpoint.schema.json)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import orjson

from app.addresses import LONGEST
from app.message_ids import from_public, is_message, to_public
from app.models.news import Item

MOST_EVENTS: Final = 500  # of one post
MOST_BYTES: Final = 256_000  # of the same
ENVELOPE: Final = 1_000  # bytes that its frame takes at most
ADDRESS: Final = LONGEST + 64 + 12  # bytes that an address adds at most: its part before the @ may be escaped

Event = dict[str, Any]


class Packed(NamedTuple):
    """The events of one post, as JSON without addresses."""

    events: int
    body: bytes


def event_of(item: Item, domains: Mapping[int, str], links: Mapping[int, str]) -> Event:
    """An event as endpoints read it. The address is put in when it is posted: who was erased meanwhile has none."""
    detail = item.detail
    url = links.get(item.link_id) or detail.get("url")
    return {
        "id": item.id,
        "type": item.kind,
        "at": item.at,
        "weight": item.weight,
        "campaign_id": item.campaign_id,
        "run": item.run,
        "variant": item.variant,
        "user_id": item.user_id,
        "pool_id": item.pool_id,
        "lead": {"id": 0 if is_message(item.lead_id) else item.lead_id, "domain": domains.get(item.domain_id)},
        "message": to_public(item.lead_id) if is_message(item.lead_id) else None,
        "machine": item.machine,
        "bounce": detail.get("bounce"),
        "reason": detail.get("reason"),
        "from": detail.get("from"),
        "link": {"id": item.link_id or None, "url": url} if url or item.link_id else None,
    }


def pack(events: Iterable[Event], *, with_email: bool) -> Iterator[Packed]:
    """Posts of at most 500 events and 256 kB, addresses counted in."""
    pieces: list[bytes] = []
    size = ENVELOPE
    for event in events:
        piece = orjson.dumps(event, option=orjson.OPT_UTC_Z)
        own = len(piece) + 1
        if with_email:
            own += ADDRESS
        if pieces and (len(pieces) == MOST_EVENTS or size + own > MOST_BYTES):
            yield _packed(pieces)
            pieces, size = [], ENVELOPE
        pieces.append(piece)
        size += own
    if pieces:
        yield _packed(pieces)


def named_in(body: bytes) -> set[tuple[int, int]]:
    """The (campaign, lead or message) pairs that a post speaks of."""
    return {(event["campaign_id"], _number(event)) for event in orjson.loads(body)}


def _number(event: Mapping[str, Any]) -> int:
    """The lead or message of an event, by its number."""
    message = event.get("message")
    return int(event["lead"]["id"]) if message is None else from_public(message) or 0


def body_of(
    organisation_id: int, endpoint_id: int, created_at: datetime, events: bytes, addresses: Mapping[int, str] | None
) -> bytes:
    """A post's body; `addresses` by lead or message, None where the endpoint gets none."""
    told: Sequence[Event] = orjson.loads(events)
    if addresses is not None:
        for event in told:
            event["lead"]["email"] = addresses.get(_number(event))
    return _enveloped("events", organisation_id, endpoint_id, created_at, told)


def test_body(organisation_id: int, endpoint_id: int, created_at: datetime) -> bytes:
    """A test's body: signed as others are, and without any event."""
    return _enveloped("test", organisation_id, endpoint_id, created_at, [])


def _enveloped(
    kind: str, organisation_id: int, endpoint_id: int, created_at: datetime, events: Sequence[Event]
) -> bytes:
    data = {"organisation_id": organisation_id, "endpoint_id": endpoint_id, "events": events}
    post = {"type": kind, "timestamp": created_at.astimezone(UTC), "data": data}
    return orjson.dumps(post, option=orjson.OPT_UTC_Z)


def _packed(pieces: Sequence[bytes]) -> Packed:
    return Packed(len(pieces), b"[" + b",".join(pieces) + b"]")
