"""Writing a campaign: a draft is saved whole or not at all, and its content is compiled as it is saved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from sqlalchemy.orm import Session

from app.errors import Conflict, Fault, Invalid
from app.flows import edit_variants, recur
from app.flows.edit_variants import USUAL_TEST, Parts, TestDraft
from app.flows.recur import Repeats
from app.models import campaign, campaign_rate, recurrence, segment, track
from app.models.campaign import Campaign, Content
from app.models.field import load_fields
from app.models.schedule import AT_ONCE, Schedule, from_json, to_json
from app.models.schedule import faults_of as schedule_faults
from app.models.sender import Sender
from app.models.template import Compiled, compile_content
from app.runtime import Runtime

LONGEST_NAME: Final = 200


@dataclass(frozen=True, slots=True)
class Draft:
    """A campaign's form. `start_at` None: when launched; `segment_id` None: every lead; see flows/unknowns.py."""

    name: str
    sender_id: int | None = None
    segment_id: int | None = None
    subject: str = ""
    html: str = ""
    text: str = ""
    start_at: datetime | None = None
    unknown_policy: str = "hold"
    track_opens: str = "auto"
    track_clicks: str = "auto"
    variants: Sequence[Parts] = ()  # from the second on
    test: TestDraft = USUAL_TEST  # of the variants, where there are any
    schedule: Schedule = AT_ONCE
    repeats: Repeats | None = None


def create(runtime: Runtime, organisation_id: int, owner_id: int, draft: Draft) -> int:
    """Save a new draft; its id. Raises Invalid naming every field that is wrong."""
    with runtime.db.session() as session:
        compiled, others = _check(session, organisation_id, draft)
        found = Campaign(organisation_id=organisation_id, owner_id=owner_id, name=draft.name.strip())
        session.add(found)
        _fill(found, draft)
        session.flush()
        session.add(_content(Content(campaign_id=found.id), draft))
        session.flush()
        edit_variants.save(session, found.id, compiled, others, draft.test)
        _keep_repeats(session, found.id, draft)
        return found.id


def update(runtime: Runtime, organisation_id: int, campaign_id: int, draft: Draft) -> None:
    """Save a draft again. Raises Invalid, NotFound, or Conflict where it was launched meanwhile."""
    with runtime.db.session() as session:
        state = campaign.lock(session.connection(), organisation_id, campaign_id)["state"]
        if state != "draft":
            raise Conflict(f"The campaign is {state}: its content can no longer be changed.")
        compiled, others = _check(session, organisation_id, draft)
        _fill(campaign.get(session, organisation_id, campaign_id), draft)
        content = session.get_one(Content, (campaign_id, 0))
        if (content.subject, content.html, content.text) != (draft.subject, draft.html, draft.text):
            content.version += 1
        _content(content, draft)
        edit_variants.save(session, campaign_id, compiled, others, draft.test)
        _keep_repeats(session, campaign_id, draft)


def duplicate(runtime: Runtime, organisation_id: int, owner_id: int, campaign_id: int) -> int:
    """Copy a campaign in any state into a new draft; its id. Raises NotFound."""
    with runtime.db.session() as session:
        source = campaign.get(session, organisation_id, campaign_id)
        content = session.get_one(Content, (campaign_id, 0))
        variants, test = edit_variants.read(session, campaign_id)
        draft = Draft(
            name=f"{source.name} (copy)"[:LONGEST_NAME],
            sender_id=source.sender_id,
            segment_id=source.segment_id,
            subject=content.subject,
            html=content.html,
            text=content.text,
            unknown_policy=source.unknown_policy,
            track_opens=source.track_opens,
            track_clicks=source.track_clicks,
            variants=variants,
            test=test,
            schedule=_without_times(from_json(source.schedule)),
        )
    copied = create(runtime, organisation_id, owner_id, draft)
    with runtime.db.begin() as conn:
        campaign_rate.copy(conn, campaign_id, copied)
    return copied


def _check(
    session: Session, organisation_id: int, draft: Draft
) -> tuple[Compiled | None, list[tuple[Parts, Compiled | None]]]:
    """Everything that may be wrong with a draft, at once; the compiled contents, None while there is none yet."""
    faults = []
    if not draft.name.strip():
        faults.append(Fault("name", "Give the campaign a name."))
    elif len(draft.name) > LONGEST_NAME:
        faults.append(Fault("name", f"The name is longer than {LONGEST_NAME} characters."))
    elif "\0" in draft.name:
        faults.append(Fault("name", "The name has a NUL character in it, which cannot be kept."))
    if draft.sender_id is not None:
        sender = session.get(Sender, draft.sender_id)
        if sender is None or sender.organisation_id != organisation_id:
            faults.append(Fault("sender", "There is no such sender."))
    if draft.segment_id is not None and not segment.exists(session, organisation_id, draft.segment_id):
        faults.append(Fault("segment", "There is no such segment."))
    if draft.unknown_policy not in campaign.POLICIES:
        faults.append(Fault("unknown_policy", f"Choose one of these: {', '.join(campaign.POLICIES)}."))
    for name in ("track_opens", "track_clicks"):
        if getattr(draft, name) not in track.CHOICES:
            faults.append(Fault(name, f"Choose one of these: {', '.join(track.CHOICES)}."))
    faults.extend(schedule_faults(draft.schedule, draft.start_at))
    if draft.repeats is not None and not faults:
        faults.extend(recur.faults_of(draft.repeats, recur.begins_of(draft.schedule, draft.start_at)))
    compiled, others = None, []
    fields = load_fields(session.connection(), organisation_id)
    if draft.html.strip() or draft.subject.strip():
        try:
            compiled = compile_content(draft.subject, draft.html, draft.text, fields)
        except Invalid as error:
            faults.extend(error.faults)
    compiled = compiled if draft.html.strip() else None
    if draft.variants:
        tracked = {"track_opens": draft.track_opens, "track_clicks": draft.track_clicks}
        faults.extend(edit_variants.check_test(draft.test, tracked))
        try:
            first = Parts(draft.subject, draft.html, draft.text)
            others = edit_variants.compile_variants(first, compiled, draft.variants, fields)
        except Invalid as error:
            faults.extend(error.faults)
    if faults:
        raise Invalid(faults)
    return compiled, list(zip(draft.variants, others, strict=True))


def _fill(found: Campaign, draft: Draft) -> None:
    found.name = draft.name.strip()
    found.sender_id = draft.sender_id
    found.segment_id = draft.segment_id
    found.start_at = draft.schedule.first_moment() or draft.start_at
    found.schedule = to_json(draft.schedule)
    found.unknown_policy = draft.unknown_policy
    found.track_opens, found.track_clicks = draft.track_opens, draft.track_clicks


def _keep_repeats(session: Session, campaign_id: int, draft: Draft) -> None:
    conn, begins = session.connection(), recur.begins_of(draft.schedule, draft.start_at)
    if draft.repeats is None or begins is None:
        recurrence.drop(conn, campaign_id)
    else:
        repeats, zone = draft.repeats, draft.schedule.zone
        recurrence.keep(conn, campaign_id, repeats.rule, begins, zone, skip_sent=repeats.skip_sent)


def _without_times(schedule: Schedule) -> Schedule:
    """What a copy keeps: windows and their zone, not days that will have passed."""
    return replace(schedule, deliver_by=None, own=None)


def _content(content: Content, draft: Draft) -> Content:
    content.subject, content.html, content.text = draft.subject, draft.html, draft.text
    return content
