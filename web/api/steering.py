"""Steering campaigns over the API: other times for them or for what is left, how fast they go, and how they repeat."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field

from app.errors import Fault, Invalid
from app.flows import rate, recur, schedule
from app.models.campaign_rate import PER
from app.models.campaign_rate import Rate as Pace
from app.runtime import Runtime
from web.api.campaign_drafts import AT, ScheduleShape, read_schedule
from web.api.campaigns import Status, moved
from web.api.route import Answering, Asking, Caller, Routes
from web.api.values import AnyMoment, Moment

routes: Final = Routes("campaigns")
ZONED: Final = "Say the time zone: 2026-03-01T09:00:00Z, or with +01:00 at its end."
LOCAL: Final = "By each lead's own clock a time has no zone: 2026-03-01T09:00:00."


class Times(Asking):
    """Other times for a campaign that has not started."""

    start_at: Annotated[Moment | None, Field(description="null: now, or by the schedule's own clock.")] = None
    schedule: ScheduleShape = ScheduleShape()


class Rest(Asking):
    """When what is left goes. By each lead's own clock (`own`) times have no zone."""

    begins: AnyMoment
    deliver_by: Annotated[AnyMoment | None, Field(description="null: as fast as it can.")] = None
    own: bool = False


class Rate(Asking, Answering):
    """How many emails a campaign may send in a second, minute or hour."""

    emails: int
    per: Annotated[str, Field(description=f"One of {', '.join(PER)}.")]


class MaybeRate(Answering):
    """A campaign's rate; null: as fast as its pool allows."""

    rate: Rate | None


@routes.post("/campaigns/<int:campaign_id>/reschedule", "campaigns:send", body=Times, answer=Status, at=AT)
def reschedule(caller: Caller, campaign_id: int, body: Times) -> Status:
    """Give a scheduled campaign other times; it stays scheduled."""
    chosen = read_schedule(body.schedule)

    def move(runtime: Runtime, organisation_id: int, which: int) -> None:
        schedule.reschedule(runtime, organisation_id, which, body.start_at, chosen)

    return moved(caller, campaign_id, move)


@routes.post("/campaigns/<int:campaign_id>/move", "campaigns:send", body=Rest, answer=Status)
def move_rest(caller: Caller, campaign_id: int, body: Rest) -> Status:
    """Let what is left of a launched campaign go from another time on; a paused one goes on then."""
    faults = [
        Fault(name, LOCAL if body.own else ZONED)
        for name, at in (("begins", body.begins), ("deliver_by", body.deliver_by))
        if at is not None and (at.tzinfo is None) is not body.own
    ]
    if faults:
        raise Invalid(faults)

    def move(runtime: Runtime, organisation_id: int, which: int) -> None:
        schedule.move_rest(runtime, organisation_id, which, body.begins, body.deliver_by, own=body.own)

    return moved(caller, campaign_id, move)


@routes.get("/campaigns/<int:campaign_id>/rate", "campaigns:read", answer=MaybeRate)
def get_rate(caller: Caller, campaign_id: int) -> MaybeRate:
    """Read how fast a campaign may go."""
    return MaybeRate.model_validate({"rate": rate.find(caller.runtime, caller.organisation_id, campaign_id)[1]})


@routes.post("/campaigns/<int:campaign_id>/rate", "campaigns:send", body=Rate, answer=MaybeRate)
def set_rate(caller: Caller, campaign_id: int, body: Rate) -> MaybeRate:
    """Let a campaign go no faster than this, from its next page on."""
    rate.set_rate(caller.runtime, caller.organisation_id, campaign_id, Pace(body.emails, body.per))
    return get_rate(caller, campaign_id)


@routes.delete("/campaigns/<int:campaign_id>/rate", "campaigns:send")
def drop_rate(caller: Caller, campaign_id: int) -> None:
    """Let a campaign go as fast as its pool allows."""
    rate.set_rate(caller.runtime, caller.organisation_id, campaign_id, None)


@routes.post("/campaigns/<int:campaign_id>/repeats/pause", "campaigns:send", answer=Status)
def pause_repeats(caller: Caller, campaign_id: int) -> Status:
    """Make no more of a repeating campaign until it goes on."""
    return moved(caller, campaign_id, recur.pause)


@routes.post("/campaigns/<int:campaign_id>/repeats/go-on", "campaigns:send", answer=Status)
def go_on_repeating(caller: Caller, campaign_id: int) -> Status:
    """Go on with the next time to come; those of the pause are not made up for."""
    return moved(caller, campaign_id, recur.go_on)


@routes.post("/campaigns/<int:campaign_id>/repeats/end", "campaigns:send", answer=Status)
def end_repeats(caller: Caller, campaign_id: int) -> Status:
    """Repeat no more; what was made of it goes on."""
    return moved(caller, campaign_id, recur.end)
