"""Campaigns over the API: drafts written, checked, launched; watched and steered."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Final

from app.flows import edit_campaign, launch, steer
from app.models import campaign, campaign_list, report
from app.runtime import Runtime
from web.api.campaign_drafts import (
    AT,
    CampaignChange,
    NewCampaign,
    RepeatsShape,
    ScheduleShape,
    TestShape,
    VariantShape,
    blank,
    fill,
    known_draft,
    shape_of,
)
from web.api.cursors import Page, Paged, number, page_of
from web.api.problems import pointer
from web.api.route import Answering, Caller, Made, Routes
from web.api.shapes import Figures, Progress

routes: Final = Routes("campaigns")
LARGE: Final = 4 * 1024 * 1024  # bytes: HTML of a megabyte, escaped


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
    variants: list[VariantShape]
    test: TestShape
    schedule: ScheduleShape
    repeats: RepeatsShape | None
    unknown_policy: str
    track_opens: str
    track_clicks: str


class Fault(Answering):
    """What stands in a launch's way; the pointer is into the draft."""

    pointer: str
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
    made = edit_campaign.create(caller.runtime, caller.organisation_id, caller.user_id, fill(body, blank()))
    return Made(get(caller, made), f"campaigns/{made}")


@routes.get("/campaigns/<int:campaign_id>", "campaigns:read", answer=Campaign)
def get(caller: Caller, campaign_id: int) -> Campaign:
    """Read a campaign."""
    with caller.runtime.db.session() as session:
        line = campaign_list.find(session.connection(), caller.organisation_id, campaign_id)
        draft = known_draft(session, campaign.get(session, caller.organisation_id, campaign_id))
    return Campaign(**CampaignLine.model_validate(line).model_dump(), **shape_of(draft))


@routes.patch(
    "/campaigns/<int:campaign_id>", "campaigns:write", body=CampaignChange, answer=Campaign, largest=LARGE, at=AT
)
def change(caller: Caller, campaign_id: int, body: CampaignChange) -> Campaign:
    """Change a draft; 409 once it was launched."""
    with caller.runtime.db.session() as session:
        known = known_draft(session, campaign.get(session, caller.organisation_id, campaign_id))
    edit_campaign.update(caller.runtime, caller.organisation_id, campaign_id, fill(body, known))
    return get(caller, campaign_id)


@routes.get("/campaigns/<int:campaign_id>/check", "campaigns:read", answer=Check)
def check(caller: Caller, campaign_id: int) -> Check:
    """Say what a launch would do, and do nothing."""
    found = launch.check(caller.runtime, caller.organisation_id, campaign_id)
    faults = [
        Fault(pointer=AT.get(fault.pointer) or pointer([fault.pointer]), detail=fault.message) for fault in found.faults
    ]
    return Check(audience=found.audience, exclusions=found.exclusions, faults=faults)


@routes.post("/campaigns/<int:campaign_id>/launch", "campaigns:send", answer=Status, status=202, at=AT)
def go(caller: Caller, campaign_id: int) -> Status:
    """Send a draft now, or at its time. Its audience is frozen when it starts."""
    return moved(caller, campaign_id, launch.launch)


@routes.post("/campaigns/<int:campaign_id>/unschedule", "campaigns:send", answer=Status)
def unschedule(caller: Caller, campaign_id: int) -> Status:
    """Make a scheduled campaign a draft again."""
    return moved(caller, campaign_id, steer.unschedule)


@routes.post("/campaigns/<int:campaign_id>/pause", "campaigns:send", answer=Status)
def pause(caller: Caller, campaign_id: int) -> Status:
    """Pause: what is being handed over is finished, then nothing is sent."""
    return moved(caller, campaign_id, steer.pause)


@routes.post("/campaigns/<int:campaign_id>/resume", "campaigns:send", answer=Status)
def resume(caller: Caller, campaign_id: int) -> Status:
    """Go on with what is left."""
    return moved(caller, campaign_id, steer.resume)


@routes.post("/campaigns/<int:campaign_id>/cancel", "campaigns:send", answer=Status)
def cancel(caller: Caller, campaign_id: int) -> Status:
    """Stop for good."""
    return moved(caller, campaign_id, steer.cancel)


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


def moved(caller: Caller, campaign_id: int, move: Callable[[Runtime, int, int], object]) -> Status:
    """Make a move, and say where the campaign stands then."""
    move(caller.runtime, caller.organisation_id, campaign_id)
    return progress(caller, campaign_id)
