"""Drafts as programs write them: content, variants and their test, and when it goes."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Annotated, Any, Final

from pydantic import Field
from sqlalchemy.orm import Session

from app.flows import edit_variants
from app.flows.edit_campaign import Draft
from app.flows.edit_variants import Parts, TestDraft
from app.flows.recur import Repeats
from app.models import campaign, recurrence, schedule, variant
from app.models.campaign import Campaign, Content
from app.models.open_time import Windows
from app.models.schedule import OwnClock, Schedule
from app.models.variant import LETTERS
from web.api.route import Answering, Asking
from web.api.values import Clock, LocalMoment, Moment

Id = Annotated[int, Field(ge=1, lt=2**31)]
# What flows call the fields.
AT: Final = {
    "sender": "/sender_id",
    "segment": "/segment_id",
    "start": "/start_at",
    "zone": "/schedule/zone",
    "deliver_by": "/schedule/deliver_by",
    "lateness": "/schedule/lateness",
    "own_ends": "/schedule/own_clock/ends",
    "past": "/schedule/own_clock/past",
    "days": "/schedule/windows/days",
    "rule": "/repeats/rule",
    "skip_sent": "/repeats/skip_sent",
    "test_share": "/test/share",
    "test_wait": "/test/wait",
    "test_goal": "/test/goal",
    **{
        f"{part}_{letter.lower()}": f"/variants/{place}/{part}"
        for place, letter in enumerate(LETTERS[1:])
        for part in ("subject", "html", "text")
    },
}


class VariantShape(Asking, Answering):
    """A variant: what is left empty is as the first one's."""

    subject: str = ""
    html: str = ""
    text: str = ""


class TestShape(Asking, Answering):
    """How variants are compared."""

    share: Annotated[int, Field(description="Percent of the audience; 100: equally to all, and nobody waits.")] = 20
    wait: Annotated[int, Field(description="Minutes until the winner is chosen.", ge=0, lt=10**6)] = 240
    goal: Annotated[str, Field(description=f"One of {', '.join(variant.GOALS)}.")] = "clicked"


class OwnClockShape(Asking, Answering):
    """Times by each lead's own clock, without a zone."""

    starts: LocalMoment
    ends: LocalMoment | None = None
    past: Annotated[str, Field(description="Where that time has passed: now or next_day.")] = "now"


class WindowsShape(Asking, Answering):
    """When mail may go: on these weekdays (1 is Monday) from `opens` to `closes`."""

    days: Annotated[list[int], Field(max_length=7)]
    opens: Clock
    closes: Clock
    own: Annotated[bool, Field(description="By each lead's own clock.")] = False


class ScheduleShape(Asking, Answering):
    """When it goes, beside `start_at`."""

    deliver_by: Moment | None = None
    own_clock: OwnClockShape | None = None
    zone: Annotated[str, Field(description="Of the windows, and of leads without one.", max_length=64)] = "UTC"
    windows: WindowsShape | None = None
    lateness: Annotated[int | None, Field(description="Minutes; later than that it is not begun.", ge=1, lt=10**7)] = (
        None
    )


class RepeatsShape(Asking, Answering):
    """How it repeats: at each time a copy of it goes to who matches then."""

    rule: Annotated[str, Field(description="By RFC 5545: FREQ=WEEKLY;BYDAY=MO", max_length=500)]
    skip_sent: Annotated[bool, Field(description="Leave out who got one of them.")] = True


class CampaignDraft(Asking):
    """A draft. What is not said is left as it is, or (in a new one) open."""

    sender_id: Id | None = None
    segment_id: Annotated[Id | None, Field(description="null: every lead.")] = None
    subject: str = ""
    html: str = ""
    text: Annotated[str, Field(description="Left empty, it is made from the HTML.")] = ""
    variants: Annotated[list[VariantShape], Field(description="From the second on.", max_length=variant.MOST)] = []
    test: TestShape = TestShape()
    start_at: Annotated[Moment | None, Field(description="null: when it is launched.")] = None
    schedule: ScheduleShape = ScheduleShape()
    repeats: RepeatsShape | None = None
    unknown_policy: Annotated[str, Field(description=f"One of {', '.join(campaign.POLICIES)}.")] = "hold"
    track_opens: Annotated[str, Field(description="auto, on or off.")] = "auto"
    track_clicks: Annotated[str, Field(description="auto, on or off.")] = "auto"


class NewCampaign(CampaignDraft):
    """A new draft."""

    name: str


class CampaignChange(CampaignDraft):
    """What is to be different in a draft."""

    name: str = ""


def fill(body: CampaignDraft, known: Draft) -> Draft:
    """The draft with what the body says of it."""
    return replace(known, **{name: _read(getattr(body, name)) for name in body.model_fields_set})


def blank() -> Draft:
    """What a new draft is, before anything is said."""
    return Draft(name="")


def known_draft(session: Session, found: Campaign) -> Draft:
    """A campaign's draft as it was written."""
    content = session.get_one(Content, (found.id, 0))
    repeats = recurrence.find(session.connection(), found.id)
    variants, test = edit_variants.read(session, found.id)
    return Draft(
        name=found.name,
        sender_id=found.sender_id,
        segment_id=found.segment_id,
        subject=content.subject,
        html=content.html,
        text=content.text,
        start_at=found.start_at,
        unknown_policy=found.unknown_policy,
        track_opens=found.track_opens,
        track_clicks=found.track_clicks,
        variants=variants,
        test=test,
        schedule=schedule.from_json(found.schedule),
        repeats=Repeats(repeats.rule, repeats.skip_sent) if repeats else None,
    )


def shape_of(draft: Draft) -> dict[str, Any]:
    """The draft's part of an answer: what `fill` would be given."""
    own, windows = draft.schedule.own, draft.schedule.windows
    return {
        "sender_id": draft.sender_id,
        "segment_id": draft.segment_id,
        "html": draft.html,
        "text": draft.text,
        "variants": [VariantShape(subject=each.subject, html=each.html, text=each.text) for each in draft.variants],
        "test": TestShape(
            share=draft.test.share, wait=int(draft.test.wait.total_seconds() // 60), goal=draft.test.goal
        ),
        "schedule": ScheduleShape(
            deliver_by=draft.schedule.deliver_by,
            own_clock=OwnClockShape(starts=own.starts, ends=own.ends, past=own.past) if own else None,
            zone=draft.schedule.zone,
            windows=WindowsShape(days=list(windows.days), opens=windows.opens, closes=windows.closes, own=windows.own)
            if windows
            else None,
            lateness=draft.schedule.lateness,
        ),
        "repeats": draft.repeats and RepeatsShape(rule=draft.repeats.rule, skip_sent=draft.repeats.skip_sent),
        "unknown_policy": draft.unknown_policy,
        "track_opens": draft.track_opens,
        "track_clicks": draft.track_clicks,
    }


def _read(value: Any) -> Any:
    """A field of the body as flows have it."""
    match value:
        case TestShape():
            return TestDraft(value.share, timedelta(minutes=value.wait), value.goal)
        case ScheduleShape():
            return read_schedule(value)
        case RepeatsShape():
            return Repeats(value.rule, value.skip_sent)
        case list():
            return [Parts(each.subject, each.html, each.text) for each in value]
    return value


def read_schedule(value: ScheduleShape) -> Schedule:
    """The schedule as flows have it."""
    own, windows = value.own_clock, value.windows
    return Schedule(
        deliver_by=value.deliver_by,
        own=OwnClock(own.starts, own.ends, own.past) if own else None,
        zone=value.zone,
        windows=Windows(tuple(windows.days), windows.opens, windows.closes, windows.own) if windows else None,
        lateness=value.lateness,
    )
