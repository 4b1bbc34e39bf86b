"""Webhooks: what providers posted, whether its events were told before, and how late they come."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from hashlib import blake2b
from typing import Final, NamedTuple

import orjson
from psycopg.errors import UniqueViolation
from sqlalchemy import Connection

from app.db import Statements, array, copy, fetch
from app.mail import Reported
from app.message_ids import MINUTES_A_DAY, is_message
from app.models import message

SQL = Statements("webhook")

KEPT: Final = 8  # days for which an event is told from its repeats: longer than any provider goes on trying
FIRST_POSTS: Final = 4  # locked before anything is known of their size
TRIES: Final = 3  # the statements say it too, since an index does
SEEN: Final = "webhook_event (day, key)"
_EPOCH: Final = date(1970, 1, 1)
BUCKETS: Final = 24  # of lags, each twice as wide as the one before: the last ones are days
SHORTEST_HOLD: Final = 900.0  # seconds
SHORTEST_LISTENING: Final = 60.0  # seconds
HEARD: Final = 30  # seconds of a slot in which a pool was heard or not: providers try a post again for longer than two
HEARD_DAYS: Final = 8  # that such slots are kept for


@dataclass(frozen=True, slots=True)
class Door:
    """The pool behind an address; `secret` is encrypted, None where its webhooks are not taken."""

    pool_id: int
    provider: str
    secret: bytes | None


class Pool(NamedTuple):
    """A pool of which posts wait."""

    id: int
    provider: str


@dataclass(frozen=True, slots=True)
class Post:
    """One kept body, verified when it came. `delivery` is what the provider calls the post, or ""."""

    id: int
    received_at: datetime
    delivery: str
    body: bytes
    again: bool = False  # it was read before
    unmatched: int = 0  # and so many of its events were of no email of the pool
    unread: Mapping[str, int] | None = None  # and so many, by type, of a type that nobody knew


@dataclass(frozen=True, slots=True)
class Window:
    """UTC days whose events are told from their repeats; what is outside of it cannot be taken.

    Days are counted from 1970 on. From day `timed` on keys begin with the minute, and lie together as they come.
    """

    today: int
    timed: int
    complete: bool

    @property
    def first(self) -> int:
        return self.today - KEPT + 1

    @property
    def last(self) -> int:
        return self.today + 1

    def holds(self, at: datetime) -> bool:
        return self.first <= day_of(at) <= self.last


class Sending(NamedTuple):
    """What the hand-offs of one campaign, run and variant have in common."""

    campaign_id: int
    run: int
    variant: int
    organisation_id: int
    owner_id: int


class Match(NamedTuple):
    """Whose email an event speaks of: the event's place (from 1), when it was handed over, in seconds since 1970, the
    lead's domain, and what stands for the lead in its hand-off: "?" while the call is not settled."""

    place: int
    sending: Sending
    handed: float
    domain_id: int
    letter: str


class Hit(NamedTuple):
    """An event of an email of ours."""

    told: Reported
    post: Post
    match: Match


@dataclass(frozen=True, slots=True)
class Arrivals:
    """What came in one go: when, the youngest call spoken of, how late (by bucket), how many events of which sort.

    `heard`: the slots of `HEARD` seconds since 1970 in which posts came that spoke of emails of the pool.
    """

    seen_at: datetime
    handed_at: datetime | None
    lags: Sequence[int]
    events: int
    repeated: int
    late: int
    unmatched: int
    heard: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Lag:
    """How long after a call its webhooks come, in seconds: half of them within `p50`, nearly all within `p999`."""

    p50: float
    p999: float


@dataclass(frozen=True, slots=True)
class DoorLine:
    """A pool's webhooks as lists show them. `hold` is in seconds; `set_aside` counts posts that could not be read."""

    pool_id: int
    token: str
    has_secret: bool
    seen_at: datetime | None
    lag: Lag | None
    hold: float
    unmatched: int
    late: int
    set_aside: int


# -- The door ----------------------------------------------------------------------------------------------------------


def find_door(conn: Connection, token: str) -> Door | None:
    """The pool with this token in its webhooks' address."""
    row = conn.execute(SQL.find_door, {"token": token}).one_or_none()
    return None if row is None else Door(**row._mapping)


def keep(conn: Connection, pool_id: int, delivery: str, body: bytes) -> None:
    """Keep a verified post until it is read; one whose `delivery` is kept already changes nothing, whatever it says."""
    conn.execute(SQL.keep, {"pool_id": pool_id, "delivery": delivery, "body": body})


def is_silent(conn: Connection, pool_id: int, seconds: float) -> bool:
    """Whether nothing that verified was read for so long."""
    return bool(conn.execute(SQL.is_silent, {"pool_id": pool_id, "seconds": seconds}).scalar_one())


def set_secret(conn: Connection, pool_id: int, secret: bytes | None) -> None:
    """Take the pool's webhooks under this encrypted secret from now on; None: take none."""
    conn.execute(SQL.set_secret, {"pool_id": pool_id, "secret": secret})


def list_doors(conn: Connection, organisation_id: int) -> dict[int, DoorLine]:
    """pool -> its webhooks."""
    rows = conn.execute(SQL.list_doors, {"organisation_id": organisation_id}).mappings()
    return {row["pool_id"]: _door_line(dict(row)) for row in rows}


def _door_line(row: dict[str, object]) -> DoorLine:
    found = _lag(row.pop("lags"))  # type: ignore[arg-type]
    return DoorLine(lag=found, hold=_hold(found), **row)  # type: ignore[arg-type]


# -- Reading -----------------------------------------------------------------------------------------------------------


def find_waiting(conn: Connection) -> list[Pool]:
    """Pools of which posts wait, in no order."""
    return [Pool(row.id, row.provider) for row in conn.execute(SQL.find_waiting)]


def claim(conn: Connection, pool_id: int, posts: int, size: int) -> list[Post]:
    """The pool's oldest posts that nobody else reads now, about `size` bytes of them; ours until the commit.

    A few at first and more as long as they are small: large ones that were locked and not read would wait for us, while
    other readers find nothing to do.
    """
    found: list[Post] = []
    after, most = 0, FIRST_POSTS
    while most:
        values = {"pool_id": pool_id, "after": after, "posts": most, "bytes": size}
        rows = [Post(*row) for row in fetch(conn, SQL.claim, values)]
        found += rows
        size -= sum(len(post.body) for post in rows)
        if len(rows) < most or size <= 0:
            break
        after, most = rows[-1].id, min(4 * most, posts - len(found))
    return found


def claim_one(conn: Connection, webhook_id: int) -> list[Post]:
    """This post, unless it was read meanwhile."""
    return [Post(*row) for row in fetch(conn, SQL.claim_one, {"webhook_id": webhook_id})]


def close(
    conn: Connection,
    unmatched: Mapping[int, int],
    events: Mapping[int, int],
    unread: Mapping[int, Mapping[str, int]],
) -> None:
    """These posts were read: post -> how many of its events belong to no email of the pool; and how many were new.

    `unread`: how many were of a type that nobody knows, by type, of posts that have such.
    """
    values = {
        "ids": array(unmatched),
        "unmatched": array(unmatched.values()),
        "events": array([events.get(post_id, 0) for post_id in unmatched]),
        "unread": [orjson.dumps(dict(unread[each])).decode() if each in unread else None for each in unmatched],
    }
    conn.execute(SQL.close, values)


def clean(text: str) -> str:
    """PostgreSQL keeps no NUL."""
    return text.replace("\0", "")


def put_back(conn: Connection, webhook_id: int, error: str) -> bool:
    """It could not be read: again a little later; False when it was tried often enough, and is set aside."""
    values = {"webhook_id": webhook_id, "error": error[:2000].replace("\0", "")}
    tries = conn.execute(SQL.put_back, values).scalar()
    return tries is None or int(tries) < TRIES


def find_window(conn: Connection) -> Window:
    """The days of which events are taken now, the last one being tomorrow; `complete`: they have their tables."""
    return Window(*conn.execute(SQL.find_window, {"kept": KEPT}).one())


def keep_days(conn: Connection) -> int:
    """Make the tables of days to come and drop those of days gone by; how many were made."""
    return int(conn.execute(SQL.keep_days, {"kept": KEPT}).scalar_one())


def day_and_minute(at: datetime) -> tuple[int, int]:
    """The UTC day of a time, counted from 1970 on, and the minute of the day."""
    return divmod(int(at.timestamp() // 60), MINUTES_A_DAY)


def day_of(at: datetime) -> int:
    """The UTC day of a time, counted from 1970 on."""
    return day_and_minute(at)[0]


def key_of(pool_id: int, key: str, minute: int | None = None) -> str:
    """What tells an event from its repeats: 16 bytes, in hexadecimal, of the provider's own id of it.

    With the event's `minute` of its day in front: what comes together then lies together in the index.
    """
    written = f"{pool_id}:{key}".encode()
    if minute is None:
        return blake2b(written, digest_size=16).hexdigest()
    return f"{minute:04x}{blake2b(written, digest_size=14).hexdigest()}"


def add_events(conn: Connection, days: Mapping[str, int]) -> set[str]:
    """key (16 bytes in hexadecimal) -> its day, counted from 1970 on; the keys that were not there yet.

    Waits for a transaction under way that brings the same ones; sorted, so that of two one waits for the other instead
    of each for each.
    """
    if not days:
        return set()
    try:
        with conn.begin_nested():  # nearly always all of them are new
            written = {day: (_EPOCH + timedelta(day)).isoformat() for day in set(days.values())}
            copy(conn, SEEN, ["".join(sorted([f"{written[day]}\t{key}\n" for key, day in days.items()]))])
        return set(days)
    except UniqueViolation:
        values = {"days": array(days.values()), "keys": "{" + ",".join(days) + "}"}
        new: str | None = fetch(conn, SQL.insert_events, values)[0][0]
        return set(new.split(",")) if new else set()


def match(conn: Connection, pool_id: int, pairs: Sequence[tuple[int, int]]) -> list[Match]:
    """Those of (hand-off, lead) pairs that name a lead of a hand-off of the pool."""
    values = {
        "pool_id": pool_id,
        "handoff_ids": array([handoff_id for handoff_id, _ in pairs]),
        "lead_ids": array([lead_id for _, lead_id in pairs]),
    }
    written = fetch(conn, SQL.match, values)[0]
    if written[0] is None:
        return []
    *columns, letters, owners = written
    places, campaign_ids, runs, variants, handed, domain_ids = map(orjson.loads, columns)
    if any(is_message(number) for _, number in pairs):
        domain_ids = _with_messages(conn, [pairs[place - 1] for place in places], campaign_ids, domain_ids)
    known = {
        each: Sending(*each, *owners[str(each[0])]) for each in set(zip(campaign_ids, runs, variants, strict=True))
    }
    sendings = map(known.__getitem__, zip(campaign_ids, runs, variants, strict=True))
    return list(map(Match._make, zip(places, sendings, handed, domain_ids, letters, strict=True)))


def _with_messages(
    conn: Connection, pairs: Sequence[tuple[int, int]], campaign_ids: Sequence[int], domain_ids: Sequence[int]
) -> list[int]:
    """The domains with those of messages, which are nobody's leads."""
    numbers = [number for _, number in pairs]
    asked = [pair for pair in zip(campaign_ids, numbers, strict=True) if is_message(pair[1])]
    domains = {each.id: each.domain_id for each in message.find_facts(conn, asked)} if asked else {}
    return [
        domains.get(number, 0) if is_message(number) else domain_id
        for number, domain_id in zip(numbers, domain_ids, strict=True)
    ]


def find_addresses(conn: Connection, organisation_id: int, lead_ids: Iterable[int]) -> dict[int, str]:
    """lead -> address, of those that still exist."""
    values = {"organisation_id": organisation_id, "lead_ids": array(lead_ids)}
    return {row.id: row.email for row in conn.execute(SQL.find_addresses, values)}


def find_mended(conn: Connection, organisation_id: int, lead_ids: Iterable[int]) -> dict[int, float]:
    """lead -> since when they have their address, in seconds since 1970, of those that a person has mended."""
    values = {"organisation_id": organisation_id, "lead_ids": array(lead_ids)}
    return {row.id: row.address_since.timestamp() for row in conn.execute(SQL.find_mended, values)}


def find_links(conn: Connection, clicked: Iterable[tuple[int, str]]) -> dict[tuple[int, str], int]:
    """(campaign, URL) -> the number of the link, of those that have one."""
    wanted = sorted(set(clicked))
    values = {"campaign_ids": array(campaign_id for campaign_id, _ in wanted), "urls": [url for _, url in wanted]}
    rows = conn.execute(SQL.find_links, values) if wanted else ()
    return {(row.campaign_id, row.url): row.id for row in rows}


# -- Whether they arrive, and how late ---------------------------------------------------------------------------------


def note_arrivals(conn: Connection, pool_id: int, came: Arrivals) -> None:
    """Add to what is known of a pool's webhooks. Its row is locked until the commit."""
    values = {
        "pool_id": pool_id,
        "seen_at": came.seen_at,
        "heard": array(came.heard),
        "handed_at": came.handed_at,
        "lags": array(came.lags),
        "events": came.events,
        "repeated": came.repeated,
        "late": came.late,
        "unmatched": came.unmatched,
    }
    conn.execute(SQL.note_arrivals, values)


def forget_heard(conn: Connection) -> None:
    """Drop slots that no call waits for any more."""
    conn.execute(SQL.forget_heard, {"slot": HEARD, "slots": HEARD_DAYS * 86_400 // HEARD})


def bucket(seconds: float) -> int:
    """The place (from 0) of a lag among `BUCKETS`: within 1 s, 2 s, 4 s …"""
    return min(max(int(seconds), 0).bit_length(), BUCKETS - 1)


def lag(conn: Connection, pool_id: int) -> Lag | None:
    """The lag that was observed; None where no webhook of the pool has spoken of a call yet."""
    row = conn.execute(SQL.find_arrivals, {"pool_id": pool_id}).one_or_none()
    return None if row is None else _lag(row.lags)


def hold(conn: Connection, pool_id: int) -> float:
    """Seconds after which silence about a call means something: twice what nearly all came within, 900 at least."""
    return _hold(lag(conn, pool_id))


def listens(conn: Connection, pool_id: int) -> float:
    """Seconds in which a call's webhook would come, or be tried again: it must find us there all the while."""
    found = lag(conn, pool_id)
    return max(SHORTEST_LISTENING, 2 * found.p999) if found else SHORTEST_LISTENING


def _hold(lag: Lag | None) -> float:
    return max(SHORTEST_HOLD, 2 * lag.p999) if lag else SHORTEST_HOLD


def _lag(counts: Sequence[int] | None) -> Lag | None:
    """Each figure is the upper end of its bucket, so that it is never too small."""
    total = sum(counts or ())
    if not counts or not total:
        return None

    def within(share: float) -> float:
        seen = 0
        for place, count in enumerate(counts):
            seen += count
            if seen >= share * total:
                return float(2**place)
        raise AssertionError("the buckets add up to their total")

    return Lag(within(0.5), within(0.999))
