"""Webhooks over the API: the endpoints of the users' own that are told of events."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final

from pydantic import Field

from app.flows import endpoints
from app.flows.endpoints import KINDS, Entry
from app.mail import Kind
from app.models import endpoint, endpoint_post
from app.models.endpoint import Line
from web.api.cursors import Page, Paged, number, page_of
from web.api.route import Answering, Asking, Caller, Made, Routes

routes: Final = Routes("webhooks")
AT: Final = {"campaign": "/campaign_id"}
Kinds = Annotated[list[str], Field(description=f"Of {', '.join(KINDS)}.", min_length=1, max_length=len(Kind))]
CampaignId = Annotated[int, Field(ge=1, lt=2**31)]


class NewWebhook(Asking):
    """An endpoint as it is entered."""

    name: str
    url: Annotated[str, Field(description="https://, at a public address, without user and password.")]
    kinds: Kinds = Field(default_factory=lambda: list(KINDS))
    campaign_id: Annotated[CampaignId | None, Field(description="Events of this campaign only.")] = None
    with_email: Annotated[bool, Field(description="Tell the leads' addresses, too.")] = False


class WebhookChange(Asking):
    """What is to be different; what is not said stays."""

    name: str | None = None
    url: str | None = None
    kinds: Kinds | None = None
    campaign_id: CampaignId | None = None
    with_email: bool | None = None


class Webhook(Answering):
    """An endpoint. `host` is of its address, whose path is often a key and not shown. State: new, working, failing,
    disabled. Sums are in events.
    """

    id: int
    name: str
    host: str
    kinds: list[str]
    campaign_id: int | None
    with_email: bool
    state: str
    disabled_why: str | None
    created_at: datetime
    told: int
    waiting_events: int
    given_up: int
    dropped: int


class WithSecret(Answering):
    """An endpoint's number, and the secret that its posts are signed with: shown this once."""

    id: int
    secret: str


class Post(Answering):
    """A post to an endpoint; `key` is its webhook-id, `took` is in seconds."""

    key: str
    state: str
    events: int
    created_at: datetime
    tries: int
    status: int | None
    said: str | None
    took: float | None


class Tested(Answering):
    """What the endpoint answered to a test; `status` is null where nothing came."""

    taken: bool
    status: int | None
    said: str


@routes.get("/webhooks", "webhooks:read", answer=Page[Webhook])
def list_all(caller: Caller) -> Page[Webhook]:
    """List all endpoints by name."""
    with caller.runtime.db.begin() as conn:
        found = endpoint.find_lines(conn, caller.organisation_id)
    return Page[Webhook](items=[Webhook.model_validate(each) for each in found], next=None)


@routes.post("/webhooks", "webhooks:write", body=NewWebhook, answer=WithSecret, status=201, secret=True, at=AT)
def create(caller: Caller, body: NewWebhook) -> Made:
    """Add an endpoint. It hears of what happens from now on; its secret is shown once."""
    entry = Entry(body.name, body.url, body.kinds, body.campaign_id, body.with_email)
    added = endpoints.add(caller.runtime, caller.organisation_id, entry)
    return Made(WithSecret(id=added.id, secret=added.secret), f"webhooks/{added.id}")


@routes.get("/webhooks/<int:webhook_id>", "webhooks:read", answer=Webhook)
def get(caller: Caller, webhook_id: int) -> Webhook:
    """Read an endpoint."""
    return Webhook.model_validate(_find(caller, webhook_id))


@routes.patch("/webhooks/<int:webhook_id>", "webhooks:write", body=WebhookChange, answer=Webhook, at=AT)
def change(caller: Caller, webhook_id: int, body: WebhookChange) -> Webhook:
    """Change an endpoint; what waits is posted to the new address. `campaign_id` null: events of all campaigns."""
    known = _find(caller, webhook_id)
    campaign_id = body.campaign_id if "campaign_id" in body.model_fields_set else known.campaign_id
    entry = Entry(
        name=known.name if body.name is None else body.name,
        url=body.url or "",
        kinds=known.kinds if body.kinds is None else body.kinds,
        campaign_id=campaign_id,
        with_email=known.with_email if body.with_email is None else body.with_email,
    )
    endpoints.change(caller.runtime, caller.organisation_id, webhook_id, entry)
    return get(caller, webhook_id)


@routes.delete("/webhooks/<int:webhook_id>", "webhooks:write")
def remove(caller: Caller, webhook_id: int) -> None:
    """Remove an endpoint, with what waits for it."""
    endpoints.remove(caller.runtime, caller.organisation_id, webhook_id)


@routes.get("/webhooks/<int:webhook_id>/posts", "webhooks:read", query=Paged, answer=Page[Post])
def posts(caller: Caller, webhook_id: int, query: Paged) -> Page[Post]:
    """List what was posted to an endpoint, the newest first."""
    _find(caller, webhook_id)
    with caller.runtime.db.begin() as conn:
        found = endpoint_post.find_page(conn, webhook_id, number(query), query.limit + 1)
    return page_of(found, query, lambda post: post.id, _post)


@routes.post("/webhooks/<int:webhook_id>/rotate", "webhooks:write", answer=WithSecret, secret=True)
def rotate(caller: Caller, webhook_id: int) -> WithSecret:
    """Make a new secret, shown once; the one before signs as well for a day."""
    return WithSecret(id=webhook_id, secret=endpoints.rotate(caller.runtime, caller.organisation_id, webhook_id))


@routes.post("/webhooks/<int:webhook_id>/test", "webhooks:write", answer=Tested, once=False)
def test(caller: Caller, webhook_id: int) -> Tested:
    """Post a signed test without events, once and now; it may take ten seconds."""
    reply = endpoints.send_test(caller.runtime, caller.organisation_id, webhook_id)
    return Tested(taken=reply.taken, status=reply.status, said=reply.said)


@routes.post("/webhooks/<int:webhook_id>/disable", "webhooks:write", answer=Webhook)
def disable(caller: Caller, webhook_id: int) -> Webhook:
    """Post nothing to it; what it would hear is kept for a week."""
    endpoints.disable(caller.runtime, caller.organisation_id, webhook_id, caller.user_id)
    return get(caller, webhook_id)


@routes.post("/webhooks/<int:webhook_id>/enable", "webhooks:write", answer=Webhook)
def enable(caller: Caller, webhook_id: int) -> Webhook:
    """Post to it again, also what was kept meanwhile."""
    endpoints.enable(caller.runtime, caller.organisation_id, webhook_id)
    return get(caller, webhook_id)


def _find(caller: Caller, webhook_id: int) -> Line:
    return endpoints.find(caller.runtime, caller.organisation_id, webhook_id)


def _post(each: endpoint_post.Line) -> Post:
    return Post(
        key=str(each.key),
        state=each.state,
        events=each.events,
        created_at=each.created_at,
        tries=each.tries,
        status=each.status,
        said=each.said,
        took=each.took,
    )
