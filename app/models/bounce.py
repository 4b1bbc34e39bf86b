"""Bounces that suppress nobody by themselves: soft ones, of which several do, and those that are our own fault."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final, NamedTuple

from sqlalchemy import Connection

from app.db import Statements, array, fetch

SQL = Statements("bounce")

EMAILS: Final = 3  # that came back softly, with no delivery between,
CAMPAIGNS: Final = 2  # of so many campaigns,
DAYS: Final = 30  # within so many days: then the address is given up
# Events are told apart for eight days: no new one makes a window of 30 days with what is older.
KEPT: Final = DAYS + 10  # days


class Soft(NamedTuple):
    """An email that came back softly, and when."""

    lead_id: int
    handoff_id: int
    campaign_id: int
    at: datetime


class Delivery(NamedTuple):
    """Some email that reached a lead, and when."""

    lead_id: int
    at: datetime


class Blocked(NamedTuple):
    """How many emails of a campaign were turned away; `told` is how many it were when its owner was told."""

    campaign_id: int
    total: int
    told: int


def take_turn(conn: Connection, organisation_id: int, *, alone: bool) -> None:
    """Before anything is noted: deliveries beside one another, soft bounces `alone`. Held until the commit."""
    conn.execute(SQL.take_turn_alone if alone else SQL.take_turn, {"organisation_id": organisation_id})


def note_soft(conn: Connection, organisation_id: int, bounces: Sequence[Soft]) -> set[int]:
    """Note soft bounces, with what the record knows of deliveries since; the leads of which one was new."""
    values = {
        "organisation_id": organisation_id,
        "since": min(each.at for each in bounces),
        "lead_ids": array(each.lead_id for each in bounces),
        "handoff_ids": array(each.handoff_id for each in bounces),
        "campaign_ids": array(each.campaign_id for each in bounces),
        "times": [each.at for each in bounces],
    }
    return {row[0] for row in fetch(conn, SQL.note_soft, values, prepare=False)}


def note_deliveries(conn: Connection, deliveries: Sequence[Delivery]) -> set[int]:
    """End the rows of soft bounces that these deliveries end; the leads of which one was ended."""
    noted = {row[0] for row in fetch(conn, SQL.find_noted, {"lead_ids": array(each.lead_id for each in deliveries)})}
    telling = [each for each in deliveries if each.lead_id in noted]
    if not telling:
        return set()
    values = {"lead_ids": array(each.lead_id for each in telling), "times": [each.at for each in telling]}
    return {row[0] for row in fetch(conn, SQL.note_deliveries, values)}


def judge(conn: Connection, lead_ids: Iterable[int]) -> set[int]:
    """Those of the leads who are not to be mailed any more, as if all events had come when they happened."""
    values = {"lead_ids": array(lead_ids), "days": DAYS, "emails": EMAILS, "campaigns": CAMPAIGNS}
    return set(conn.execute(SQL.judge, values).scalars())


def forget(conn: Connection, lead_ids: Iterable[int]) -> None:
    """Begin anew with these leads: a person says that they may be mailed, or they have another address."""
    conn.execute(SQL.forget, {"lead_ids": array(lead_ids)})


def drop_old(conn: Connection) -> int:
    """Drop what no new bounce can be counted together with; how many rows."""
    return conn.execute(SQL.drop_old, {"days": KEPT}).rowcount


def count_blocked(conn: Connection, totals: Mapping[int, int]) -> list[Blocked]:
    """Add to campaign -> emails that were turned away; what it is now. The campaigns' rows are locked."""
    values = {"campaign_ids": array(totals), "totals": array(totals.values())}
    return [Blocked(*row) for row in conn.execute(SQL.count_blocked, values)]


def note_told(conn: Connection, campaign_id: int) -> None:
    """The campaign's owner knows of all that were turned away until now."""
    conn.execute(SQL.note_told, {"campaign_id": campaign_id})
