"""Launching: check, say what will happen, freeze the audience into ranges, ring."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection
from sqlalchemy.orm import Session

from app.errors import Conflict, Fault, Invalid, Unavailable
from app.flows import edit_variants, not_started, recur, schedule
from app.flows.compose import has_unsubscribe_link
from app.flows.one_by_one import do_each
from app.flows.schedule import Layout
from app.models import audience, campaign, outbox, recurrence, segment, variant
from app.models.audience import Audience
from app.models.campaign import Campaign, Content
from app.models.field import load_fields
from app.models.outbox import Test
from app.models.schedule import Schedule, from_json
from app.models.template import Compiled
from app.runtime import Runtime

EVERYONE: Mapping[str, object] = {"combinator": "and", "rules": []}
EMPTY = Fault("segment", "Nobody would get this: the audience is empty.")


@dataclass(frozen=True, slots=True)
class LaunchCheck:
    """What a launch would do: leads to be mailed, leads left out by reason, and what stands in its way."""

    audience: int
    exclusions: dict[str, int]
    faults: tuple[Fault, ...]


def check(runtime: Runtime, organisation_id: int, campaign_id: int) -> LaunchCheck:
    """Look at everything that a launch needs, without changing anything. Raises NotFound."""
    with runtime.db.session() as session:
        found = campaign.get(session, organisation_id, campaign_id)
        faults = _faults(session, found)
        counted = Audience(0, {})
        try:
            conn = session.connection()
            segment_of = clause(conn, organisation_id, found.segment_id)
            counted = audience.count(conn, organisation_id, found.sender_id, segment_of)
        except Invalid as error:
            faults.append(Fault("segment", f"The segment needs mending: {error}"))
        else:
            faults.extend([] if counted.included else [EMPTY])
            faults.extend(edit_variants.find_shortage(session, campaign_id, counted.included))
    return LaunchCheck(counted.included, counted.excluded, tuple(faults))


def launch(runtime: Runtime, organisation_id: int, campaign_id: int) -> None:
    """Send now, or at the campaign's time. Raises Invalid naming every fault, Conflict when it is no draft."""
    with runtime.db.session() as session:
        conn = session.connection()
        row = campaign.lock(conn, organisation_id, campaign_id)
        if row["state"] != "draft":
            raise Conflict(f"The campaign is {row['state']}: it was launched already.")
        if faults := _faults(session, campaign.get(session, organisation_id, campaign_id)):
            raise Invalid(faults)
        now = campaign.now(conn)
        chosen = recur.schedule_first(conn, row, now)
        row = campaign.lock(conn, organisation_id, campaign_id)
        if late := schedule.faults_of(chosen, row["start_at"], now):
            raise Invalid(late)
        if row["start_at"] is not None and row["start_at"] > now:
            campaign.move(conn, campaign_id, "scheduled")
            return
        if not _start(conn, row, runtime.settings.range_size):
            raise Invalid([EMPTY])
    runtime.ring("send", runtime.settings.worker_threads)


def start_due(runtime: Runtime) -> int:
    """Start the scheduled campaigns whose time has come; how many. The audience is who matches now."""
    with runtime.db.begin() as conn:
        due = campaign.due_to_start(conn)
    started = do_each(due, lambda each: _start_or_tell(runtime, *each), "starting (organisation, campaign)")
    not_started.clear_over(runtime)
    return started


def _start_or_tell(runtime: Runtime, organisation_id: int, campaign_id: int) -> bool:
    try:
        return _start_or_take_back(runtime, organisation_id, campaign_id)
    except Unavailable:  # the server is: that is no fault of this one's
        raise
    except Exception as error:
        not_started.tell(runtime, campaign_id, error)
        raise


def _start_or_take_back(runtime: Runtime, organisation_id: int, campaign_id: int) -> bool:
    try:
        return _start_scheduled(runtime, organisation_id, campaign_id)
    except Invalid as error:  # its segment names a field that is gone
        with runtime.db.begin() as conn:
            campaign.move(conn, campaign_id, "draft", f"It could not be started, and is a draft again: {error}")
            recur.take_back(conn, campaign_id)
        return False


def _start_scheduled(runtime: Runtime, organisation_id: int, campaign_id: int) -> bool:
    with runtime.db.begin() as conn:
        row, now = campaign.lock(conn, organisation_id, campaign_id), campaign.now(conn)
        if row["state"] != "scheduled" or row["start_at"] is None or row["start_at"] > now:
            return False  # moved, or started by another clock, since we looked
        repeats = recurrence.find(conn, campaign_id)
        if repeats is not None:
            recur.occur(conn, row, repeats, now, lambda conn, made: _start(conn, made, runtime.settings.range_size))
        elif (chosen := from_json(row["schedule"])).is_too_late(row["start_at"], now):
            campaign.move(conn, campaign_id, "draft", _too_late(chosen.late_since(row["start_at"]), now))
            return False
        else:
            _start(conn, row, runtime.settings.range_size)
    runtime.ring("send", runtime.settings.worker_threads)
    return True


def _too_late(since: datetime, now: datetime) -> str:
    minutes = (now - since).total_seconds() / 60
    return (
        f"It was to start at {since:%Y-%m-%d %H:%M} UTC, and could not before {now:%Y-%m-%d %H:%M}: {minutes:,.0f}"
        " minutes later, which is more than it allows. It was skipped, and is a draft again."
    )


def _start(conn: Connection, row: Mapping[str, Any], range_size: int) -> int:
    """Freeze the audience as it is now; how many leads it has."""
    organisation_id, campaign_id = int(str(row["organisation_id"])), int(str(row["id"]))
    condition = _condition(conn, organisation_id, row["segment_id"])
    sender_id = int(str(row["sender_id"] or 0))
    planned, clause = from_json(row["schedule"]), _clause(conn, organisation_id, condition)
    chosen = audience.choose(conn, organisation_id, sender_id, clause, zones=planned.needs_zones)
    if row["origin_id"] and (repeats := recurrence.find(conn, row["origin_id"])) and repeats.skip_sent:
        chosen = audience.leave_out_sent(conn, row["origin_id"])
    campaign.move(conn, campaign_id, "sending")
    test = variant.find_cut(conn, campaign_id)
    layout = _lay_out(conn, planned, chosen, test, range_size)
    campaign.freeze(
        conn,
        campaign_id,
        run=1,
        condition=condition,
        audience=chosen.included,
        exclusions=chosen.excluded,
        parts=outbox.parts_of(layout.places, test),
    )
    leads = outbox.cut(conn, campaign_id, 1, range_size, places=layout.places, test=test)
    schedule.begin(conn, campaign_id, layout)
    return leads


def _lay_out(conn: Connection, planned: Schedule, chosen: Audience, test: Test | None, range_size: int) -> Layout:
    zones: Mapping[str | None, int] = {None: chosen.included}
    if planned.needs_zones:
        zones = audience.count_zones(conn)
    return schedule.lay_out(planned, zones, campaign.now(conn), test, range_size)


def clause(conn: Connection, organisation_id: int, segment_id: int | None) -> ColumnElement[bool]:
    """Who a segment means, None being every lead. Raises Invalid where its condition needs mending, NotFound."""
    return _clause(conn, organisation_id, _condition(conn, organisation_id, segment_id))


def _condition(conn: Connection, organisation_id: int, segment_id: object) -> Mapping[str, object]:
    return EVERYONE if segment_id is None else segment.load_condition(conn, organisation_id, int(str(segment_id)))


def _clause(conn: Connection, organisation_id: int, condition: Mapping[str, object]) -> ColumnElement[bool]:
    fields = load_fields(conn, organisation_id)
    return segment.compile(segment.parse(condition, fields), fields)


def _faults(session: Session, found: Campaign) -> list[Fault]:
    content = session.get(Content, (found.id, 0))
    faults = []
    if found.state != "draft":
        faults.append(Fault("", f"The campaign is {found.state}: it was launched already."))
    if found.sender_id is None:
        faults.append(Fault("sender", "Choose a sender: it says who the email is from, and which pool carries it."))
    if content is None or not content.subject.strip():
        faults.append(Fault("subject", "The subject is empty."))
    if content is None or content.compiled is None:
        faults.append(Fault("html", "There is no content yet: write it, then save."))
    elif not has_unsubscribe_link(Compiled.from_json(content.compiled)):
        faults.append(Fault("html", "There is no unsubscribe link: put {{ unsubscribe_url }} into a link."))
    return faults + edit_variants.find_faults(session, found.id)
