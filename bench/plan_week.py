"""A simulated time of days, an hour at a step: campaigns in the rhythm of a day, and what providers tell of emails."""

from __future__ import annotations

import math
import time
from argparse import Namespace
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import psycopg

from app.flows.refresh import refresh
from app.runtime import Runtime
from bench import plan_shapes as shapes
from bench.harness import Figures, Server, Wal
from bench.prefill import PAST_CAMPAIGNS, Connection, Tenant

CAMPAIGN = 25_000  # leads of one, at the most
BATCH = 5_000  # events that a worker reads in one transaction
POST = 1_000  # events of a provider's post
ROUNDS = (0.03, 0.2, 0.0)  # the share of emails that are put off at the first try, at the second, at the third
POSTS_KEPT = timedelta(days=3)
FRESH = timedelta(days=7)  # chunks are compressed when they are older
SUMS = tuple(f"{family}_{level}" for family in ("report", "brief", "user") for level in ("5min", "hour", "day"))
PHASES = ("send", "webhooks", "posts", "refresh")
HOUR = timedelta(hours=1)


@dataclass(slots=True)
class Spent:
    """Seconds, and bytes of log, by phase."""

    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    wal: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))


@dataclass(frozen=True, slots=True)
class Day:
    """What one simulated day came to."""

    emails: int
    events: int
    campaigns: range
    images: int  # bytes of log that were whole pages
    spent: Spent


@dataclass(frozen=True, slots=True)
class Account:
    """Whose pool and sender everything goes through."""

    tenant: Tenant
    pool_id: int
    sender_id: int


class Week:
    """The simulation: `live(day)` lets one day pass. It ends with the last whole hour."""

    def __init__(self, house: Server, conn: Connection, account: Account, args: Namespace) -> None:
        self.house, self.conn, self.account = house, conn, account
        self.emails, self.days, self.leads = args.emails, args.days, args.leads
        self.until = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
        self.began = self.until - timedelta(days=args.days)
        self.next_campaign = PAST_CAMPAIGNS
        self.bodies: Sequence[bytes] = [b"[]"]  # of posts: POST events each
        self.spent = Spent()
        self._open: list[str] = []  # phases under way, the innermost last

    def prepare(self) -> None:
        """Its tables; the days that events are told apart by; nobody else's refreshes."""
        for statement in shapes.TABLES:
            self.conn.execute(statement)
        for hour in range(self.days * 24):
            self.conn.execute(
                f"CREATE UNLOGGED TABLE coming_{hour} PARTITION OF coming FOR VALUES IN ({hour})".encode()
            )
        self.conn.execute("SELECT keep_webhook_days(%s)", [self.days + 1])
        self.conn.commit()
        if self.house.edition == "community":
            self._alone("SELECT _timescaledb_functions.stop_background_workers()")

    def live(self, day: int, runtime: Runtime) -> Day:
        """Let a day pass, counted from 0."""
        self.spent = Spent()
        first, emails, events, images = self.next_campaign, 0, 0, 0
        for hour in range(day * 24, day * 24 + 24):
            with Wal(self.house.database_url) as log:  # begins with a checkpoint
                sent = round(self.emails * share((self.began + hour * HOUR).hour))
                with self._phase("send"):
                    emails += self._send(hour, sent)
                events += self._webhooks(hour)
                with self._phase("refresh"):
                    self._refresh(runtime, hour)
            images += log.read_images()
        with self._phase("tidy"):
            self._tidy(day)
        return Day(emails, events, range(first, self.next_campaign), images, self.spent)

    def compress_all(self) -> float:
        """As it will be a week later; in seconds. Nothing on the Apache edition."""
        began = time.perf_counter()
        self._compress(datetime.now(UTC) + timedelta(days=2))
        return time.perf_counter() - began

    def _send(self, hour: int, emails: int) -> int:
        campaigns = max(1, round(emails / CAMPAIGN))
        size = min(max(1, emails // campaigns), self.leads)
        tenant = self.account.tenant
        values = {
            "first": self.next_campaign,
            "campaigns": campaigns,
            "size": size,
            "stride": self.leads // size,
            "at": self.began + hour * HOUR,
            "began": self.began,
            "until": self.until,
            "organisation_id": tenant.organisation_id,
            "user_id": tenant.user_id,
            "sender_id": self.account.sender_id,
            "pool_id": self.account.pool_id,
        }
        self.next_campaign += campaigns
        self.conn.execute(shapes.LAUNCH, values)
        self.conn.commit()
        for deferred in ROUNDS:
            self._round(values | {"deferred": deferred})
        return int(campaigns * size)

    def _round(self, values: Mapping[str, object]) -> None:
        """All ready ranges of the hour's campaigns: claimed, handed over, answered, settled."""
        for statement in (shapes.CLAIM, shapes.HAND_OVER, shapes.WRITE, shapes.ANSWER, shapes.SETTLE, shapes.PUT_OFF):
            self.conn.execute(statement, values)
        self._copy(shapes.OUTCOMES)
        with self._phase("world"):
            self.conn.execute(shapes.HAPPENS, values)
        self.conn.commit()

    def _webhooks(self, hour: int) -> int:
        with self._phase("world"):
            self.conn.execute("TRUNCATE told")
            events = self.conn.execute(shapes.TELL, {"hour": hour, "batch": BATCH}).rowcount
            self.conn.execute(f"DROP TABLE coming_{hour}".encode())
            self.conn.execute("ANALYZE told")
            self.conn.commit()
        at = self.began + hour * HOUR
        for batch in range(math.ceil(events / BATCH)):
            with self._phase("posts"):
                ids = [self._keep(at, number) for number in range(math.ceil(min(BATCH, events) / POST))]
            with self._phase("webhooks"):
                self._read(batch, ids)
        return events

    def _keep(self, at: datetime, number: int) -> int:
        body = self.bodies[number % len(self.bodies)]
        row = self.conn.execute(shapes.KEEP, {"pool_id": self.account.pool_id, "body": body, "at": at}).fetchone()
        self.conn.commit()
        assert row is not None
        return int(str(row[0]))

    def _read(self, batch: int, posts: Sequence[int]) -> None:
        """What `ingest` writes for five posts, in its one transaction."""
        values = {"batch": batch, "ids": list(posts)}
        self._copy(shapes.KEYS, "webhook_event (day, key)", batch=batch)
        self._copy(shapes.EVENTS, batch=batch)
        for statement in (shapes.TOUCH, shapes.READ, shapes.BOUNCED):
            self.conn.execute(statement, values)
        self.conn.commit()

    def _copy(self, query: str, target: str = shapes.COLUMNS, **more: int) -> None:
        """Out by the query and in again as the flows do it, in the same transaction."""
        tenant, account = self.account.tenant, self.account
        ids = {"organisation_id": tenant.organisation_id, "user_id": tenant.user_id, "pool_id": account.pool_id} | more
        with self.conn.cursor() as cursor:
            with cursor.copy(query.format(**ids).encode()) as out:
                rows = b"".join(bytes(each) for each in out)
            with cursor.copy(f"COPY {target} FROM STDIN".encode()) as into:
                into.write(rows)

    def _refresh(self, runtime: Runtime, hour: int) -> None:
        """What policies, or the clock, have done by the end of the hour."""
        for summarise in (shapes.SUMMARISE, shapes.SUMMARISE_TIMES):
            self._alone(summarise, self.began + (hour - 23) * HOUR)
        catch_up(self.house, runtime, self.began - timedelta(days=2), self.began + (hour + 1) * HOUR)

    def _tidy(self, day: int) -> None:
        now = self.began + timedelta(days=day + 1)
        self.conn.execute(shapes.FORGET, {"until": now - POSTS_KEPT})
        self.conn.commit()
        self._compress(now - FRESH)

    def _compress(self, older_than: datetime) -> None:
        if self.house.edition == "community":
            statement = "SELECT compress_chunk(chunk, true) FROM show_chunks('event', older_than => %s) AS chunk"
            self._alone(statement, older_than)

    def _alone(self, statement: str, *values: object) -> None:
        with psycopg.connect(self.house.database_url, autocommit=True) as conn:
            conn.execute(statement.encode(), values)

    @contextmanager
    def _phase(self, name: str) -> Iterator[None]:
        """Counts what happens within for this phase, and not for the one around it."""
        self._open.append(name)
        began, at = time.perf_counter(), self._position()
        yield
        seconds, log = time.perf_counter() - began, self._position() - at
        self._open.pop()
        self.spent.seconds[name] += seconds
        self.spent.wal[name] += log
        if self._open:
            self.spent.seconds[self._open[-1]] -= seconds
            self.spent.wal[self._open[-1]] -= log

    def _position(self) -> float:
        row = self.conn.execute("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')").fetchone()
        assert row is not None
        return float(str(row[0]))


def share(hour: int) -> float:
    """Of a day's emails those of one hour (UTC): 1.8 times the average at eleven, a fifth of it at night."""
    return (1 + 0.8 * math.cos(2 * math.pi * (hour - 11) / 24)) / 24


def figures(day: Day) -> Figures:
    """Of one day, what everything took: seconds by phase, and the log by email and phase."""
    seconds, wal = day.spent.seconds, day.spent.wal
    return {
        "emails": day.emails,
        "webhook_events": day.events,
        "send_seconds": seconds["send"],
        "webhooks_seconds": seconds["webhooks"],
        "posts_seconds": seconds["posts"],
        "refresh_seconds": seconds["refresh"],
        **{f"wal_bytes_per_email_{phase}": wal[phase] / day.emails for phase in PHASES},
        "wal_bytes_per_email_page_images": day.images / day.emails,
        "wal_bytes_per_email": sum(log for phase, log in wal.items() if phase != "world") / day.emails,
    }


def catch_up(house: Server, runtime: Runtime, since: datetime, until: datetime) -> None:
    """Sums of what was written meanwhile, as the policies, or the clock, make them within a minute or two."""
    if house.edition == "apache":
        while refresh(runtime, hours_wait=0, days_wait=0):
            pass
        return
    with psycopg.connect(house.database_url, autocommit=True) as conn:
        for name in SUMS:
            conn.execute("CALL refresh_continuous_aggregate(%s, %s, %s)", [name, since, until])
