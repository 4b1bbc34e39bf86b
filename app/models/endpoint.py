"""Endpoints: addresses of users that hear of events by signed posts; what they want, and whether they take it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from app.db import Statements
from app.models import news

SQL = Statements("endpoint")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint whose row is locked; `url` and the secrets are encrypted.

    `hopeless`: it took nothing for a day. `waits`: it failed lately, and is left alone for a while.
    """

    id: int
    organisation_id: int
    name: str
    url: bytes
    host: str
    secret: bytes
    old_secret: bytes | None
    kinds: Sequence[str]
    campaign_id: int | None
    with_email: bool
    disabled_at: datetime | None
    failures: int
    hopeless: bool | None
    waits: bool | None


@dataclass(frozen=True, slots=True)
class Wish:
    """What an endpoint is to be: its name, encrypted address and host, and which events it hears of."""

    name: str
    url: bytes
    host: str
    kinds: Sequence[str]
    campaign_id: int | None
    with_email: bool


@dataclass(frozen=True, slots=True)
class Hearer:
    """An endpoint that posts are made for; `campaign_id` None: of all campaigns."""

    id: int
    kinds: Sequence[str]
    campaign_id: int | None
    with_email: bool


@dataclass(frozen=True, slots=True)
class Line:
    """An endpoint as lists show it; `url` is encrypted, `campaign` and `disabled_by` are names.

    `told`, `given_up` and `dropped` count events, the last those that waited longer than they are kept. What waits is
    counted in posts and in events; `oldest` is since when. `old_until`: until then the secret before signs as well.
    """

    id: int
    organisation_id: int
    name: str
    url: bytes
    host: str
    kinds: Sequence[str]
    campaign_id: int | None
    campaign: str | None
    with_email: bool
    created_at: datetime
    old_until: datetime | None
    disabled_at: datetime | None
    disabled_by: str | None
    disabled_why: str | None
    failures: int
    failing_since: datetime | None
    resume_at: datetime | None
    told: int
    told_at: datetime | None
    given_up: int
    dropped: int
    waiting_posts: int
    waiting_events: int
    oldest: datetime | None

    @property
    def state(self) -> str:
        """disabled, failing (its last post was not taken), new (it has not taken any), or working."""
        if self.disabled_at:
            return "disabled"
        return "failing" if self.failures else "working" if self.told_at else "new"


def add(conn: Connection, organisation_id: int, wish: Wish, secret: bytes) -> int | None:
    """Its number; None where the organisation has one of that name."""
    news.forget(conn.engine)
    added = conn.execute(SQL.add, {"organisation_id": organisation_id, "secret": secret, **_values(wish)})
    return added.scalar_one_or_none()


def change(conn: Connection, endpoint_id: int, wish: Wish) -> bool:
    """Whether it could be changed: not where the organisation has another one of that name."""
    news.forget(conn.engine)
    return bool(conn.execute(SQL.change, {"id": endpoint_id, **_values(wish)}).all())


def lock(conn: Connection, endpoint_id: int, organisation_id: int | None = None) -> Endpoint | None:
    """Lock it until the commit; of any organisation where none is given. None where it is not there."""
    row = conn.execute(SQL.lock, {"id": endpoint_id, "organisation_id": organisation_id}).one_or_none()
    return None if row is None else Endpoint(**row._mapping)


def rotate(conn: Connection, endpoint_id: int, secret: bytes) -> None:
    """Sign with this from now on, and for a day with the one before as well."""
    conn.execute(SQL.rotate, {"id": endpoint_id, "secret": secret})


def disable(conn: Connection, endpoint_id: int, user_id: int | None, why: str | None) -> None:
    """Post nothing to it; what it is to hear of is kept for some days. `user_id` None: nobody asked for it."""
    conn.execute(SQL.disable, {"id": endpoint_id, "user_id": user_id, "why": why})


def enable(conn: Connection, endpoint_id: int) -> None:
    """Post to it again, its failures forgotten."""
    news.forget(conn.engine)
    conn.execute(SQL.enable, {"id": endpoint_id})


def remove(conn: Connection, endpoint_id: int) -> None:
    """Delete it with all that waits for it."""
    news.forget(conn.engine)
    conn.execute(SQL.remove, {"id": endpoint_id})


def took(conn: Connection, endpoint_id: int, events: int) -> None:
    """It took a post."""
    conn.execute(SQL.took, {"id": endpoint_id, "events": events})


def failed(conn: Connection, endpoint_id: int, pause: float, given_up: int) -> None:
    """It did not, and is left alone for `pause` seconds; `given_up` events will not be tried again."""
    conn.execute(SQL.failed, {"id": endpoint_id, "pause": pause, "given_up": given_up})


def count(conn: Connection, endpoint_id: int, *, given_up: int = 0, dropped: int = 0) -> None:
    """Add to its sums."""
    conn.execute(SQL.count, {"id": endpoint_id, "given_up": given_up, "dropped": dropped})


def find_hearers(conn: Connection, organisation_id: int) -> list[Hearer]:
    """The endpoints of an organisation that posts are made for; disabled ones, too, while what waits is kept."""
    values = {"organisation_id": organisation_id, "days": news.KEPT}
    return [Hearer(**row._mapping) for row in conn.execute(SQL.find_hearers, values)]


def find_lines(conn: Connection, organisation_id: int | None = None, endpoint_id: int | None = None) -> list[Line]:
    """Those of an organisation by name, or of all; only the one where its number is given."""
    rows = conn.execute(SQL.find_lines, {"organisation_id": organisation_id, "id": endpoint_id})
    return [Line(**row._mapping) for row in rows]


def _values(wish: Wish) -> dict[str, object]:
    return {
        "name": wish.name,
        "url": wish.url,
        "host": wish.host,
        "kinds": list(wish.kinds),
        "campaign_id": wish.campaign_id,
        "with_email": wish.with_email,
    }
