"""Campaigns over the API: drafts written, checked, launched; watched and steered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from datetime import datetime
from typing import Annotated, Any, Final

from pydantic import AwareDatetime, Field

from app.flows import edit_campaign, launch, steer
from app.flows.edit_campaign import Draft
from app.models import campaign, campaign_list, report
from app.models.campaign import Content
from web.api.cursors import Page, Paged, number, page_of
from web.api.route import Answering, Asking, Caller, Made, Routes
from web.api.shapes import Figures, Progress

routes: Final = Routes("campaigns")
LARGE: Final = 4 * 1024 * 1024  # bytes: HTML of a megabyte, escaped
AT: Final = {"sender": "/sender_id", "segment": "/segment_id", "start": "/start_at"}
Id = Annotated[int, Field(ge=1, lt=2**31)]


class CampaignDraft(Asking):
    """A draft. What is not said is left as it is, or (in a new one) open."""

    sender_id: Id | None = None
    segment_id: Annotated[Id | None, Field(description="null: every lead.")] = None
    subject: str = ""
    html: str = ""
    text: Annotated[str, Field(description="Left empty, it is made from the HTML.")] = ""
    start_at: Annotated[AwareDatetime | None, Field(description="null: when it is launched.")] = None
    unknown_policy: Annotated[str, Field(description=f"One of {', '.join(campaign.POLICIES)}.")] = "hold"
    track_opens: Annotated[str, Field(description="auto, on or off.")] = "auto"
    track_clicks: Annotated[str, Field(description="auto, on or off.")] = "auto"


class NewCampaign(CampaignDraft):
    """A new draft."""

    name: str


class CampaignChange(CampaignDraft):
    """What is to be different in a draft."""

    name: str = ""


class CampaignLine(Answering):
    """A campaign in a list: its state and how far it has come."""

    id: int
    name: str
    state: str
    notice: str | None
    owner: str
    sender: str | None
    segment: str | None
    subject: str | None
    start_at: datetime | None
    created_at: datetime
    launched_at: datetime | None
    finished_at: datetime | None
    exclusions: dict[str, int]
    progress: Progress


class Campaign(CampaignLine):
    """A campaign with what it says."""

    sender_id: int | None
    segment_id: int | None
    html: str
    text: str
    unknown_policy: str
    track_opens: str
    track_clicks: str


class Fault(Answering):
    """What stands in a launch's way: `field` is the draft's."""

    field: str
    detail: str


class Check(Answering):
    """What a launch would do: leads to be mailed, leads left out by reason, and what stands in its way."""

    audience: int
    exclusions: dict[str, int]
    faults: list[Fault]


class Status(Answering):
    """Where a campaign stands; `progress` is the sums over its ranges, as they are now."""

    id: int
    state: str
    notice: str | None
    progress: Progress


class Report(Answering):
    """A campaign's figures over all of its runs."""

    id: int
    figures: Figures


@routes.get("/campaigns", "campaigns:read", query=Paged, answer=Page[CampaignLine])
def list_all(caller: Caller, query: Paged) -> Page[CampaignLine]:
    """List campaigns, the newest first."""
    with caller.runtime.db.begin() as conn:
        found = campaign_list.find_page(conn, caller.organisation_id, number(query), query.limit + 1)
    return page_of(found, query, lambda line: line.id, CampaignLine.model_validate)


@routes.post("/campaigns", "campaigns:write", body=NewCampaign, answer=Campaign, status=201, largest=LARGE, at=AT)
def create(caller: Caller, body: NewCampaign) -> Made:
    """Write a new draft. Its content is compiled now, so that what is wrong with it is said now."""
    made = edit_campaign.create(
        caller.runtime, caller.organisation_id, caller.user_id, Draft(**body.model_dump(exclude_unset=True))
    )
    return Made(get(caller, made), f"campaigns/{made}")


@routes.get("/campaigns/<int:campaign_id>", "campaigns:read", answer=Campaign)
def get(caller: Caller, campaign_id: int) -> Campaign:
    """Read a campaign."""
    with caller.runtime.db.session() as session:
        line = campaign_list.find(session.connection(), caller.organisation_id, campaign_id)
        found = campaign.get(session, caller.organisation_id, campaign_id)
        content = session.get_one(Content, (campaign_id, 0))
        return Campaign(
            **CampaignLine.model_validate(line).model_dump(),
            sender_id=found.sender_id,
            segment_id=found.segment_id,
            html=content.html,
            text=content.text,
            unknown_policy=found.unknown_policy,
            track_opens=found.track_opens,
            track_clicks=found.track_clicks,
        )


@routes.patch(
    "/campaigns/<int:campaign_id>", "campaigns:write", body=CampaignChange, answer=Campaign, largest=LARGE, at=AT
)
def change(caller: Caller, campaign_id: int, body: CampaignChange) -> Campaign:
    """Change a draft; 409 once it was launched."""
    draft = Draft(**(_known(caller, campaign_id) | body.model_dump(exclude_unset=True)))
    edit_campaign.update(caller.runtime, caller.organisation_id, campaign_id, draft)
    return get(caller, campaign_id)


@routes.get("/campaigns/<int:campaign_id>/check", "campaigns:read", answer=Check)
def check(caller: Caller, campaign_id: int) -> Check:
    """Say what a launch would do, and do nothing."""
    found = launch.check(caller.runtime, caller.organisation_id, campaign_id)
    faults = [
        Fault(field=AT.get(fault.pointer, fault.pointer).strip("/"), detail=fault.message) for fault in found.faults
    ]
    return Check(audience=found.audience, exclusions=found.exclusions, faults=faults)


@routes.post("/campaigns/<int:campaign_id>/launch", "campaigns:send", answer=Status, status=202, at=AT)
def go(caller: Caller, campaign_id: int) -> Status:
    """Send a draft now, or at its time. Its audience is frozen when it starts."""
    return _moved(caller, campaign_id, launch.launch)


@routes.post("/campaigns/<int:campaign_id>/unschedule", "campaigns:send", answer=Status)
def unschedule(caller: Caller, campaign_id: int) -> Status:
    """Make a scheduled campaign a draft again."""
    return _moved(caller, campaign_id, steer.unschedule)


@routes.post("/campaigns/<int:campaign_id>/pause", "campaigns:send", answer=Status)
def pause(caller: Caller, campaign_id: int) -> Status:
    """Pause: what is being handed over is finished, then nothing is sent."""
    return _moved(caller, campaign_id, steer.pause)


@routes.post("/campaigns/<int:campaign_id>/resume", "campaigns:send", answer=Status)
def resume(caller: Caller, campaign_id: int) -> Status:
    """Go on with what is left."""
    return _moved(caller, campaign_id, steer.resume)


@routes.post("/campaigns/<int:campaign_id>/cancel", "campaigns:send", answer=Status)
def cancel(caller: Caller, campaign_id: int) -> Status:
    """Stop for good."""
    return _moved(caller, campaign_id, steer.cancel)


@routes.get("/campaigns/<int:campaign_id>/progress", "campaigns:read", answer=Status)
def progress(caller: Caller, campaign_id: int) -> Status:
    """Say how far a campaign has come, to the page."""
    with caller.runtime.db.begin() as conn:
        return Status.model_validate(campaign_list.find(conn, caller.organisation_id, campaign_id))


@routes.get("/campaigns/<int:campaign_id>/report", "reports:read", answer=Report)
def figures(caller: Caller, campaign_id: int) -> Report:
    """Sum what became of a campaign's emails."""
    with caller.runtime.reports.begin() as conn:
        report.find_campaign(conn, caller.organisation_id, campaign_id)
        found = report.sum_campaign(conn, caller.organisation_id, campaign_id)
    return Report(id=campaign_id, figures=Figures.model_validate(found))


def _moved(caller: Caller, campaign_id: int, move: Callable[[Any, int, int], object]) -> Status:
    move(caller.runtime, caller.organisation_id, campaign_id)
    return progress(caller, campaign_id)


def _known(caller: Caller, campaign_id: int) -> dict[str, Any]:
    """A draft as it is: every field of Draft that the campaign or its content has."""
    with caller.runtime.db.session() as session:
        found = campaign.get(session, caller.organisation_id, campaign_id)
        content = session.get_one(Content, (campaign_id, 0))
        return {
            each.name: getattr(found if hasattr(found, each.name) else content, each.name)
            for each in fields(Draft)
            if hasattr(found, each.name) or hasattr(content, each.name)
        }
