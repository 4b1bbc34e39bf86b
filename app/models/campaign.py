"""Campaigns, what they say and who they come from; their states and the moves between them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NoReturn

from psycopg.types.json import Jsonb
from sqlalchemy import Connection, ForeignKey, func, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.db import Base, Statements, fetch
from app.errors import Conflict, NotFound

SQL = Statements("campaign")

# Every legal move, and why; docs/architecture.md draws it. A state without a way out is an end.
MOVES: Final[Mapping[str, Mapping[str, str]]] = {
    "draft": {"scheduled": "launched for later", "sending": "launched"},
    "scheduled": {
        "draft": "taken back, or it cannot be started",
        "sending": "its time has come",
        "cancelled": "by a person",
        "finished": "it repeated, and does no more",
    },
    "sending": {
        "paused": "by a person",
        "settling": "all handed over, some unknown",
        "finished": "every lead has its outcome, and the sums agree",
        "cancelled": "by a person",
    },
    "paused": {"sending": "resumed", "cancelled": "by a person"},
    "settling": {
        "sending": "some are sent to again",
        "finished": "all is known, or a day has passed",
        "cancelled": "by a person",
    },
    "finished": {"sending": "some are sent to again"},
    "cancelled": {},
}
STATES: Final = tuple(MOVES)
CHOICES: Final = 20  # campaigns that who claims is offered at a time
# What it does with leads of which nobody knows whether they were sent to: flows/unknowns.py says what each means.
POLICIES: Final = ("hold", "resend", "leave")


class Campaign(Base):
    """One campaign, as its form and its page know it."""

    __tablename__ = "campaign"

    id: Mapped[int] = mapped_column(primary_key=True)
    organisation_id: Mapped[int]
    owner_id: Mapped[int]
    sender_id: Mapped[int | None]
    segment_id: Mapped[int | None]
    name: Mapped[str]
    kind: Mapped[str] = mapped_column(default="campaign")
    state: Mapped[str] = mapped_column(default="draft")
    notice: Mapped[str | None]
    start_at: Mapped[datetime | None]
    run: Mapped[int] = mapped_column(default=0)
    weight: Mapped[float] = mapped_column(default=1.0)
    condition: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    audience: Mapped[int | None]
    exclusions: Mapped[dict[str, int]] = mapped_column(JSONB, default=dict)
    unknown_policy: Mapped[str] = mapped_column(default="hold")
    track_opens: Mapped[str] = mapped_column(default="auto")
    track_clicks: Mapped[str] = mapped_column(default="auto")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now(), onupdate=func.now())
    launched_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    schedule: Mapped[dict[str, Any]] = mapped_column(JSONB, default=dict)  # app/models/schedule.py
    parts: Mapped[int] = mapped_column(default=1)
    origin_id: Mapped[int | None]
    occurs_at: Mapped[datetime | None]


class Content(Base):
    """What a campaign says; `compiled` is None while the source has faults."""

    __tablename__ = "content"

    campaign_id: Mapped[int] = mapped_column(ForeignKey("campaign.id"), primary_key=True)
    variant: Mapped[int] = mapped_column(primary_key=True, default=0)
    version: Mapped[int] = mapped_column(default=1)
    subject: Mapped[str] = mapped_column(default="")
    html: Mapped[str] = mapped_column(default="")
    text: Mapped[str] = mapped_column(default="")
    compiled: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))


@dataclass(frozen=True, slots=True)
class Sending:
    """What a worker needs to know of a campaign that sends, with each page."""

    campaign_id: int
    organisation_id: int
    owner_id: int
    campaign_name: str
    version: int
    variant: int
    from_name: str
    from_address: str
    reply_to: str | None
    pool_id: int
    pool_url: bytes
    batch: int
    provider: str = ""
    track_opens: str = "off"
    track_clicks: str = "off"
    kind: str = "campaign"  # or "messages": a stream
    purpose: str = "marketing"  # or "transactional"
    sender_id: int = 0

    @property
    def is_stream(self) -> bool:
        """Whether what it sends are messages, and no leads."""
        return self.kind == "messages"

    @property
    def transactional(self) -> bool:
        """Whether it is what its readers have asked for themselves: they cannot unsubscribe from it."""
        return self.purpose == "transactional"


def get(session: Session, organisation_id: int, campaign_id: int) -> Campaign:
    """The campaign; raises NotFound where it does not exist, is another organisation's, or a stream of messages."""
    campaign = session.get(Campaign, campaign_id)
    if campaign is None or campaign.organisation_id != organisation_id or campaign.kind != "campaign":
        raise NotFound("There is no such campaign.")
    return campaign


def lock(conn: Connection, organisation_id: int, campaign_id: int, *, streams: bool = False) -> Mapping[str, Any]:
    """The campaign's row, locked until the transaction ends; a stream's only where asked for. Raises NotFound."""
    values = {"organisation_id": organisation_id, "campaign_id": campaign_id, "streams": streams}
    row = conn.execute(SQL.lock, values).mappings().first()
    if row is None:
        raise NotFound("There is no such campaign.")
    return dict(row)


def move(conn: Connection, campaign_id: int, to: str, notice: str | None = None) -> str:
    """Move a campaign to a state and give the one it came from; raises Conflict where the move is not legal.

    The update is conditional, so that of two browsers that press at once one wins and the other is told.
    """
    sources = [state for state, targets in MOVES.items() if to in targets]
    row = conn.execute(SQL.move, {"campaign_id": campaign_id, "to": to, "sources": sources, "notice": notice}).first()
    if row is None:
        state = conn.execute(SQL.state, {"campaign_id": campaign_id}).scalar()
        raise Conflict(f"The campaign is {state}: it cannot become {to}.")
    return str(row.came_from)


@dataclass(frozen=True, slots=True)
class Standing:
    """A locked campaign's state; `waited_enough` once it stood there for a day."""

    state: str
    run: int
    launched_at: datetime
    waited_enough: bool
    is_stream: bool = False


def lock_state(conn: Connection, campaign_id: int) -> Standing:
    """The campaign's state, locked until the transaction ends."""
    return Standing(*conn.execute(SQL.lock_state, {"campaign_id": campaign_id}).one())


def refuse(conn: Connection, campaign_id: int, what: str) -> NoReturn:
    """Raise the Conflict of something that the campaign's state does not allow."""
    raise Conflict(f"The campaign is {conn.execute(SQL.state, {'campaign_id': campaign_id}).scalar()}: not {what}.")


def look_later(conn: Connection, campaign_id: int) -> None:
    """Its sums differ and cannot be mended: they are not compared again for ten minutes."""
    conn.execute(SQL.look_later, {"campaign_id": campaign_id})


def freeze(
    conn: Connection,
    campaign_id: int,
    *,
    run: int,
    condition: Mapping[str, object],
    audience: int,
    exclusions: Mapping[str, int],
    parts: int = 1,
) -> None:
    """Keep who a run goes to: the condition as it was, leads included (in so many parts), leads left out by reason."""
    values = {"campaign_id": campaign_id, "run": run, "condition": Jsonb(condition), "parts": parts}
    conn.execute(SQL.freeze, values | {"audience": audience, "exclusions": Jsonb(exclusions)})


def now(conn: Connection) -> datetime:
    """The database's time, which is the only one that counts."""
    moment: datetime = conn.execute(SQL.now).scalar_one()
    return moment


def closing(conn: Connection) -> list[int]:
    """Cancelled campaigns with leads that have no outcome yet."""
    return list(conn.execute(SQL.closing).scalars())


def close_cancelled(conn: Connection, campaign_id: int) -> None:
    """Finish a cancelled campaign, unless a worker still holds a range of it."""
    conn.execute(SQL.close_cancelled, {"campaign_id": campaign_id})


@dataclass(frozen=True, slots=True)
class Choice:
    """A campaign with due ranges, and a pool that they may go through now.

    `probe`: the pool was found down, and one batch may try whether it is back. `limited`: it has limits; `warms`: it is
    warming up, or the sender's domain is; `rated`: the campaign has a rate of its own. `burst` is the most leads that
    limit and rate let go at once, if there are any.
    """

    campaign_id: int
    pool_id: int
    batch: int
    probe: bool
    limited: bool = False
    burst: int | None = None
    warms: bool = False
    rated: bool = False
    is_stream: bool = False  # of messages


def pick(conn: Connection, not_through: Collection[int] = ()) -> list[Choice]:
    """At most `CHOICES` campaigns with due ranges: streams of messages, then what is served least for its weight.

    One whose sender's first pool may be tried, and whose second one sends, is there twice, the try first. None is there
    through the pools `not_through`.
    """
    return [Choice(*row) for row in fetch(conn, SQL.pick, {"not_through": list(not_through), "most": CHOICES})]


def reopen(conn: Connection, campaign_id: int, run: int) -> None:
    """Send again after the campaign was handed over: it has new ranges, of this run."""
    conn.execute(SQL.reopen, {"campaign_id": campaign_id, "run": run})


def load_sending(conn: Connection, campaign_id: int, pool_id: int | None = None, variant: int = 0) -> Sending:
    """Identity and content version of a campaign that was launched, and the pool; None: its sender's first one.

    Raises NotFound where the campaign, the pool or the variant's content does not exist.
    """
    values = {"campaign_id": campaign_id, "pool_id": pool_id, "variant": variant}
    for row in fetch(conn, SQL.load_sending, values):
        return Sending(*row)
    raise NotFound("There is no such campaign, pool or content.")


def load_compiled(conn: Connection, campaign_id: int, variant: int) -> dict[str, Any]:
    """The compiled content, as `template.Compiled.from_json` reads it."""
    compiled: dict[str, Any] = conn.execute(
        SQL.load_compiled, {"campaign_id": campaign_id, "variant": variant}
    ).scalar_one()
    return compiled


def due_to_start(conn: Connection, most: int = 100) -> Sequence[tuple[int, int]]:
    """(organisation, campaign) of scheduled campaigns whose time has come, `most` of them; who has failed to, last."""
    return [(row.organisation_id, row.id) for row in conn.execute(SQL.due_to_start, {"most": most})]


def handed_over(conn: Connection) -> list[int]:
    """Campaigns with nothing open: those that send, and those that have been settling for a day."""
    return list(conn.execute(SQL.handed_over).scalars())


def find(session: Session, campaign_id: int) -> Campaign:
    """A campaign of any organisation, for operators; raises NotFound."""
    found = session.get(Campaign, campaign_id)
    if found is None:
        raise NotFound("There is no such campaign.")
    return found


def newest(session: Session, limit: int) -> list[Campaign]:
    """The newest campaigns of all organisations, for operators."""
    campaigns = select(Campaign).where(Campaign.kind == "campaign")
    return list(session.scalars(campaigns.order_by(Campaign.id.desc()).limit(limit)))
