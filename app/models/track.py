"""Tracking: links by number, hits on their way to be read, who was tracked as what, and who was first."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple

from sqlalchemy import Connection

from app.db import Statements, array, copy, fetch
from app.mail import Kind
from app.message_ids import is_message
from app.models import message

SQL = Statements("track")

PIXEL: Final = 0  # the position of a hit that is no link's
HONEYPOT: Final = -1
TARGET: Final = "hit (at, lead_id, campaign_id, position, machine)"
CHOICES: Final = ("auto", "on", "off")
# Providers that report no opens and no clicks: where 'auto' means that we track by ourselves.
SILENT: Final = frozenset(("smtp",))


class Hit(NamedTuple):
    """A pixel that was loaded or a link that was followed; `machine` says what gave it away as a program's doing."""

    campaign_id: int
    lead_id: int
    position: int
    at: datetime
    machine: str | None


class Touch(NamedTuple):
    """That a lead opened a campaign's email, or clicked in it."""

    campaign_id: int
    lead_id: int
    kind: Kind
    machine: bool


class Place(NamedTuple):
    """Where a lead stands in the frozen audience: a range, and the place in it from 0."""

    range_id: int
    size: int
    place: int


class Email(NamedTuple):
    """The newest call that had a lead; `settled_at` is when its provider answered."""

    pool_id: int
    run: int
    variant: int
    handed_at: datetime
    settled_at: datetime | None


@dataclass(frozen=True, slots=True)
class Tracked:
    """A campaign as its hits need it; `link_ids` by position, `variants`: in which contents each stands, a bit each."""

    organisation_id: int
    owner_id: int
    link_ids: Sequence[int]
    variants: Sequence[int]

    def count_links(self, variant: int) -> int:
        """How many links the emails with that content have."""
        return sum(bits >> variant & 1 for bits in self.variants)


class LeadFacts(NamedTuple):
    """A lead that still exists."""

    organisation_id: int
    domain_id: int
    untracked: bool


@dataclass(frozen=True, slots=True)
class Firsts:
    """Leads of a campaign who opened or clicked at least once: anybody, and those where it was no machine."""

    opened: int = 0
    opened_by_people: int = 0
    clicked: int = 0
    clicked_by_people: int = 0


def is_own(choice: str, provider: str) -> bool:
    """Whether we track by ourselves, where a campaign wants it so and sends through that kind of provider."""
    return choice == "on" or (choice == "auto" and provider in SILENT)


# -- Links -------------------------------------------------------------------------------------------------------------


def save_links(conn: Connection, campaign_id: int, urls: Sequence[str], variants: Sequence[int] | None = None) -> None:
    """A draft's links, by position from 1, in the place of those it had.

    `variants`: in which of its contents each stands, one bit a content; None: there is but one.
    """
    conn.execute(SQL.drop_links, {"campaign_id": campaign_id})
    if urls:
        standing = [1] * len(urls) if variants is None else list(variants)
        conn.execute(SQL.insert_links, {"campaign_id": campaign_id, "urls": list(urls), "variants": standing})


def find_links(conn: Connection, campaign_id: int) -> list[str]:
    """A campaign's links by position, the first one being 1."""
    return [row.url for row in conn.execute(SQL.find_links, {"campaign_id": campaign_id})]


def find_recent_links(conn: Connection, seconds: float, campaigns: int) -> dict[int, list[str]]:
    """campaign -> its links, of those launched within so many seconds, the newest ones, at most so many."""
    rows = conn.execute(SQL.find_recent_links, {"seconds": seconds, "campaigns": campaigns})
    return {row.campaign_id: list(row.urls) for row in rows}


# -- Hits --------------------------------------------------------------------------------------------------------------


def keep(conn: Connection, hits: Iterable[Hit]) -> None:
    """Keep hits until they are read."""
    lines = [
        f"{hit.at}\t{hit.lead_id}\t{hit.campaign_id}\t{hit.position}\t{hit.machine or chr(92) + 'N'}\n" for hit in hits
    ]
    if lines:
        copy(conn, TARGET, ["".join(lines)])


def take_turn(conn: Connection) -> bool:
    """True for one transaction at a time."""
    return bool(conn.execute(SQL.take_turn).scalar_one())


def claim(conn: Connection, *, most: int, wait: float, burst: float) -> list[Hit]:
    """Take hits that are older than `wait` seconds, about `most`, by email and time.

    Those of one email that came within `burst` seconds of its oldest one come together; later ones, another time.
    """
    rows = fetch(conn, SQL.claim, {"most": most, "wait": wait, "burst": burst})
    return [Hit._make(row) for row in rows]


def find_places(conn: Connection, emails: Iterable[tuple[int, int]]) -> dict[tuple[int, int], Place]:
    """(campaign, lead) -> its place in the audience; those that are not in it have none."""
    asked = set(emails)
    messages = sorted(pair for pair in asked if is_message(pair[1]))
    wanted = sorted(asked.difference(messages))
    values = {
        "campaign_ids": array(campaign_id for campaign_id, _ in wanted),
        "lead_ids": array(lead_id for _, lead_id in wanted),
    }
    rows = fetch(conn, SQL.find_places, values) if wanted else []
    rows += message.find_places(conn, messages) if messages else []
    return {(campaign_id, lead_id): Place(*place) for campaign_id, lead_id, *place in rows}


def find_emails(conn: Connection, places: Mapping[tuple[int, int], Place]) -> dict[tuple[int, int], Email]:
    """(campaign, lead) -> the newest email of it."""
    by_range = {(place.range_id, lead_id): (campaign_id, lead_id) for (campaign_id, lead_id), place in places.items()}
    values = {
        "range_ids": array(range_id for range_id, _ in by_range),
        "lead_ids": array(lead_id for _, lead_id in by_range),
    }
    rows = fetch(conn, SQL.find_emails, values) if by_range else ()
    return {by_range[range_id, lead_id]: Email(*email) for range_id, lead_id, *email in rows}


def find_campaigns(conn: Connection, campaign_ids: Iterable[int]) -> dict[int, Tracked]:
    """campaign -> what its hits need."""
    rows = conn.execute(SQL.find_campaigns, {"campaign_ids": array(sorted(set(campaign_ids)))})
    return {row.id: Tracked(row.organisation_id, row.owner_id, list(row.link_ids), list(row.variants)) for row in rows}


def find_leads(conn: Connection, emails: Iterable[tuple[int, int]]) -> dict[int, LeadFacts]:
    """lead or message -> what its hits need, for (campaign, lead or message) pairs, of those that still exist."""
    asked = set(emails)
    messages = [pair for pair in asked if is_message(pair[1])]
    lead_ids = sorted({number for _, number in asked if not is_message(number)})
    rows = fetch(conn, SQL.find_leads, {"lead_ids": array(lead_ids)})
    found = {lead_id: LeadFacts(*facts) for lead_id, *facts in rows}
    if messages:
        untracked = message.find_untracked(conn, messages)
        for each in message.find_facts(conn, messages):
            found[each.id] = LeadFacts(each.organisation_id, each.domain_id, each.id in untracked)
    return found


def find_deliveries(
    conn: Connection, emails: Iterable[tuple[int, int]], since: datetime, until: datetime
) -> dict[tuple[int, int], list[datetime]]:
    """(campaign, lead) -> when it was delivered, as far as that is known and lies between the two."""
    wanted = sorted(set(emails))
    values = {
        "campaign_ids": array(campaign_id for campaign_id, _ in wanted),
        "lead_ids": array(lead_id for _, lead_id in wanted),
        "since": since,
        "until": until,
    }
    found: defaultdict[tuple[int, int], list[datetime]] = defaultdict(list)
    for campaign_id, lead_id, time in fetch(conn, SQL.find_deliveries, values, prepare=False):
        found[campaign_id, lead_id].append(time)
    return found


# -- Who was first -----------------------------------------------------------------------------------------------------

_COLUMN: Final = {Kind.OPENED: 0, Kind.CLICKED: 2}  # of four: anybody, and people, who opened, and who clicked


def touch(conn: Connection, touches: Iterable[Touch], places: Mapping[tuple[int, int], Place] | None = None) -> None:
    """Note who opened and who clicked. Any order, and any number of repeats, comes to the same.

    A lead who is not of the campaign's audience is left out.
    """
    told = set(touches)
    if places is None:
        places = find_places(conn, ((each.campaign_id, each.lead_id) for each in told))
    marks: defaultdict[tuple[int, int, int], list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for each in told:
        place = places.get((each.campaign_id, each.lead_id))
        if place is not None:
            bits, bit = marks[place.range_id, each.campaign_id, place.size], 1 << place.place
            anybody = _COLUMN[each.kind]
            bits[anybody] |= bit
            if not each.machine:
                bits[anybody + 1] |= bit
    if not marks:
        return
    values: dict[str, object] = {
        "range_ids": array(range_id for range_id, _, _ in marks),
        "campaign_ids": array(campaign_id for _, campaign_id, _ in marks),
    }
    for number, name in enumerate(("opened", "opened_by_people", "clicked", "clicked_by_people")):
        values[name] = "{" + ",".join(_bits(bits[number], size) for (_, _, size), bits in marks.items()) + "}"
    conn.execute(SQL.touch, values)


def _bits(bits: int, size: int) -> str:
    """As PostgreSQL reads a bit string in hexadecimal; a few more of them than leads, to be whole digits."""
    return f"x{bits:0{(size + 3) // 4}x}"


def count_firsts(conn: Connection, campaign_id: int) -> Firsts:
    """How many leads opened and clicked, each counted once."""
    return Firsts(*map(int, conn.execute(SQL.count_firsts, {"campaign_id": campaign_id}).one()))


def find_own(conn: Connection, campaign_ids: Iterable[int], provider: str) -> set[tuple[int, Kind]]:
    """(campaign, kind) of what we track by ourselves in emails that such a provider sent."""
    rows = conn.execute(SQL.find_wanted, {"campaign_ids": array(sorted(set(campaign_ids)))})
    kinds = ((Kind.OPENED, "track_opens"), (Kind.CLICKED, "track_clicks"))
    return {(row.id, kind) for row in rows for kind, name in kinds if is_own(row._mapping[name], provider)}


# -- Who does not want it ----------------------------------------------------------------------------------------------


def find_untracked(conn: Connection, emails: Iterable[tuple[int, int]]) -> set[int]:
    """Of (campaign, lead or message) pairs the leads who asked not to be tracked, and messages to such a lead."""
    asked = set(emails)
    messages = [pair for pair in asked if is_message(pair[1])]
    lead_ids = sorted({number for _, number in asked if not is_message(number)})
    found = set(conn.execute(SQL.find_untracked, {"lead_ids": array(lead_ids)}).scalars())
    return found | message.find_untracked(conn, messages) if messages else found


def set_untracked(conn: Connection, lead_id: int, untracked: bool) -> None:
    """Track a lead no more, or again. What was recorded before stays."""
    conn.execute(SQL.set_untracked, {"lead_id": lead_id, "untracked": untracked})


def is_untracked(conn: Connection, lead_id: int) -> bool:
    """Whether a lead is not tracked; one who was erased is not."""
    return bool(conn.execute(SQL.is_untracked, {"lead_id": lead_id}).scalar_one_or_none() in (True, None))
