"""Messages over the API: emails asked for one by one or by the thousand, looked at, and called back in time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Final

import orjson
from pydantic import Field

from app.flows import messages
from app.flows.messages import MessageStatus, NewMessage
from app.message_ids import from_public
from web.api.cursors import Page, Paged, page_of, strange, text
from web.api.route import MANY, MANY_LIMIT, Answering, Asking, Caller, Routes
from web.api.values import Moment

routes: Final = Routes("messages")


class Message(Asking):
    """An email to one address: a template by its name, or a subject with HTML or text or both."""

    to: Annotated[str, Field(max_length=320)]
    template: Annotated[str | None, Field(description="A template's name.")] = None
    subject: str | None = None
    html: str | None = None
    text: str | None = None
    data: Annotated[dict[str, Any], Field(description="The template's values.")] = {}
    sender: Annotated[
        str | None, Field(description="The address of a sender; null: the template's, or the only one.")
    ] = None
    send_at: Annotated[Moment | None, Field(description="With its zone, up to a year ahead; null, or past: now.")] = (
        None
    )
    metadata: Annotated[dict[str, Any] | None, Field(description="Comes back with its status, to you alone.")] = None
    idempotency_key: Annotated[
        str | None, Field(description="Of two messages with the same one the second is the first.", max_length=255)
    ] = None


class Taken(Answering):
    """The messages' ids, in the order in which they were asked for."""

    ids: list[str]


class Step(Answering):
    """Something that happened to it; `machine`: opened or clicked by a program, as far as can be told."""

    at: datetime
    kind: str
    reason: str | None
    url: str | None
    machine: bool


class Status(Answering):
    """A message, and what became of it.

    State: scheduled, queued (its time has come), sent, delivered, bounced, complained, refused, failed, skipped,
    unknown, cancelled.
    """

    id: str
    to: str
    template: str | None
    sender: str
    state: str
    created_at: datetime
    send_at: datetime
    metadata: dict[str, Any] | None
    events: list[Step]


@routes.post("/messages", "messages:send", body=Message, answer=Taken, status=202, many=MANY, largest=MANY_LIMIT)
def send(caller: Caller, body: Sequence[Message]) -> bytes:
    """Send an email, now or at its time: one message, or a list of up to 1,000; all of them are taken over, or none."""
    asked = [_asked(each) for each in body]
    taken = messages.take(caller.runtime, caller.organisation_id, caller.user_id, asked)
    return orjson.dumps({"ids": taken.ids})


@routes.get("/messages", "messages:read", query=Paged, answer=Page[Status])
def list_all(caller: Caller, query: Paged) -> Page[Status]:
    """List messages, those due latest first."""
    before = text(query) or None
    if before is not None and from_public(before) is None:
        raise strange()
    with caller.runtime.db.begin() as conn:
        found = messages.find_page(conn, caller.organisation_id, before=before, limit=query.limit + 1)
    return page_of(found, query, lambda each: each.id, _status)


@routes.get("/messages/<message_id>", "messages:read", answer=Status)
def get(caller: Caller, message_id: str) -> Status:
    """Read what became of a message."""
    with caller.runtime.db.begin() as conn:
        return _status(messages.read(conn, caller.organisation_id, message_id))


@routes.delete("/messages/<message_id>", "messages:send")
def cancel(caller: Caller, message_id: str) -> None:
    """Call a message back before it leaves, also once its time has come; 409 while a worker has it and afterwards."""
    with caller.runtime.db.begin() as conn:
        messages.cancel(conn, caller.organisation_id, message_id)


def _asked(each: Message) -> NewMessage:
    return NewMessage(
        to=each.to,
        template=each.template,
        subject=each.subject,
        html=each.html,
        text=each.text,
        data=each.data,
        sender=each.sender,
        send_at=each.send_at,
        metadata=each.metadata,
        idempotency_key=each.idempotency_key,
    )


def _status(each: MessageStatus) -> Status:
    return Status.model_validate(each)
