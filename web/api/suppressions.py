"""Suppressions over the API: listed, entered, taken back."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final

from pydantic import Field

from app.addresses import read_address
from app.flows import suppressions
from app.models import suppression
from app.models.suppression import EVERYBODY
from web.api.cursors import Page, Paged, page_of, read, strange
from web.api.route import MANY, Answering, Asking, Caller, Query, Routes

routes: Final = Routes("suppressions")
AT: Final = {"sender": "/sender_id"}
SenderId = Annotated[int, Field(description="One sender only; 0: whoever it is from.", ge=0, lt=2**31)]


class SuppressionQuery(Paged):
    """Suppressions, all or some."""

    prefix: Annotated[str, Field(description="How the address begins.", max_length=320)] = ""


class NewSuppressions(Asking):
    """Addresses that are not to be mailed any more."""

    emails: Annotated[list[str], Field(min_length=1, max_length=MANY)]
    sender_id: SenderId = EVERYBODY
    note: Annotated[str, Field(description="Why, for whoever asks later.", max_length=200)] = ""


class Removal(Query):
    """Which of an address's suppressions is taken back."""

    sender_id: SenderId = EVERYBODY
    consent: Annotated[
        bool, Field(description="The person has asked for it: needed where they unsubscribed or complained.")
    ] = False


class Suppression(Answering):
    """An address that is not mailed, by one sender or (0) by any, and why."""

    email: str
    sender_id: int
    reason: str
    source: str
    happened_at: datetime


class Added(Answering):
    """How many of the addresses were not suppressed before."""

    added: int


@routes.get("/suppressions", "suppressions:read", query=SuppressionQuery, answer=Page[Suppression])
def list_all(caller: Caller, query: SuppressionQuery) -> Page[Suppression]:
    """List suppressions by address."""
    with caller.runtime.db.begin() as conn:
        found = suppression.find_page(conn, caller.organisation_id, query.prefix, _after(query), query.limit + 1)
    return page_of(found, query, lambda row: [row.email, row.sender_id], Suppression.model_validate)


@routes.post("/suppressions", "suppressions:write", body=NewSuppressions, answer=Added, at=AT)
def add(caller: Caller, body: NewSuppressions) -> Added:
    """Suppress up to 1,000 addresses. Doing it again changes nothing."""
    added = suppressions.add(
        caller.runtime,
        caller.organisation_id,
        body.emails,
        sender_id=body.sender_id,
        note=body.note or f"API key {caller.key.name}",
        user_id=caller.user_id,
    )
    return Added(added=added)


@routes.get("/suppressions/<email>", "suppressions:read", answer=Page[Suppression])
def get(caller: Caller, email: str) -> Page[Suppression]:
    """Read what keeps one address from being mailed: an empty list where nothing does."""
    with caller.runtime.db.begin() as conn:
        found = suppression.find_all(conn, caller.organisation_id, read_address(email)[0])
    return Page[Suppression](items=[Suppression.model_validate(row) for row in found], next=None)


@routes.delete("/suppressions/<email>", "suppressions:write", query=Removal)
def remove(caller: Caller, email: str, query: Removal) -> None:
    """Mail an address again."""
    suppressions.remove(
        caller.runtime,
        caller.organisation_id,
        read_address(email)[0],
        sender_id=query.sender_id,
        consent=query.consent,
        user_id=caller.user_id,
    )


def _after(query: Paged) -> tuple[str, int]:
    match read(query):
        case None:
            return "", EVERYBODY
        case [str(email), int(sender_id)] if 0 <= sender_id < 2**31:
            return email, sender_id
    raise strange()
