"""Alerts: conditions that a person must know of, told once, until they clear."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import Connection

from app.db import Statements
from app.errors import NotFound

SQL = Statements("alert")
BEYOND: Final = 2**63 - 1  # behind every id
MOST_OPEN: Final = 200  # a list of more is read by nobody


class Kind(StrEnum):
    """What may be wrong."""

    POOL_REFUSED = "pool_refused"
    POOL_DOWN = "pool_down"
    QUARANTINED = "quarantined"
    PAGE_FAILED = "page_failed"
    UNKNOWN = "unknown"
    SUMS_DIFFER = "sums_differ"
    DOUBLED = "doubled"
    REFUSED_DELIVERED = "refused_delivered"
    GAVE_UP = "gave_up"
    WEBHOOK_REFUSED = "webhook_refused"
    MAILBOX_FAILED = "mailbox_failed"
    BLOCKED = "blocked"
    ENDPOINT_DISABLED = "endpoint_disabled"
    SENDER_QUARANTINED = "sender_quarantined"
    SENDER_PAUSED = "sender_paused"
    NOT_STARTED = "not_started"


@dataclass(frozen=True, slots=True)
class Meaning:
    """A kind, for people. `gravity` is bad, warn or info; `about` is campaign, pool, endpoint or sender.

    Of a campaign its owner is told, of the others the organisation's admins. `lasting`: it is found again and again
    while it stands, and something clears it; the others are occurrences, over when somebody has dismissed them.
    """

    label: str
    gravity: str
    about: str
    advice: str
    lasting: bool = True


MEANINGS: Final[Mapping[Kind, Meaning]] = {
    Kind.POOL_REFUSED: Meaning(
        "The provider refuses our account",
        "bad",
        "pool",
        "Check the account at the provider, and its address and password in the pool; then press “Send again”.",
    ),
    Kind.POOL_DOWN: Meaning(
        "The provider is down",
        "warn",
        "pool",
        "Nothing is lost: its campaigns wait and go on by themselves. If it lasts, look at the provider's status page.",
    ),
    Kind.QUARANTINED: Meaning(
        "A part of the audience is set aside",
        "bad",
        "campaign",
        "Workers died on these leads again and again. See the workers' logs; pause and resume it to try again.",
    ),
    Kind.PAGE_FAILED: Meaning(
        "A page could not be sent",
        "bad",
        "campaign",
        "It is tried again by itself. If it goes on, see the workers' logs for the reason.",
    ),
    Kind.UNKNOWN: Meaning(
        "It is not known whether some emails were sent",
        "warn",
        "campaign",
        "Look at them on the campaign's page: wait for evidence, send them again, or leave them.",
    ),
    Kind.SUMS_DIFFER: Meaning(
        "The figures do not add up",
        "bad",
        "campaign",
        "Run `millrace reconcile` for this campaign: it names what differs and mends what can be mended.",
    ),
    Kind.DOUBLED: Meaning(
        "Somebody was mailed twice",
        "bad",
        "campaign",
        "It cannot be taken back. The message says who and how it came about.",
        lasting=False,
    ),
    Kind.REFUSED_DELIVERED: Meaning(
        "Emails that were refused were delivered",
        "warn",
        "campaign",
        "They count as refused all the same. Ask the provider why it said no; who is mailed again has it twice.",
        lasting=False,
    ),
    Kind.GAVE_UP: Meaning(
        "Some emails could not be delivered",
        "info",
        "campaign",
        "The provider put them off for a day. The campaign's page has the reasons, and can send to the failed again.",
        lasting=False,
    ),
    Kind.WEBHOOK_REFUSED: Meaning(
        "Webhooks of a provider are not genuine",
        "warn",
        "pool",
        "Compare the signing secret at the provider with the one of the pool: until they agree, bounces go unheard.",
    ),
    Kind.MAILBOX_FAILED: Meaning(
        "The mailbox of bounces cannot be read",
        "warn",
        "pool",
        "Until it can be, bounces go unheard. Set it anew, or mend it at its server: millrace bounces mailbox.",
    ),
    Kind.BLOCKED: Meaning(
        "Receivers turn emails away",
        "warn",
        "campaign",
        "Their addresses are good, and nobody is suppressed for it: look at the reasons under “bounced”, at the "
        "content and its links, and at SPF, DKIM, DMARC and the blocklists of the sender's domain.",
        lasting=False,
    ),
    Kind.ENDPOINT_DISABLED: Meaning(
        "An endpoint was disabled",
        "bad",
        "endpoint",
        "Mend what receives its posts, send it a test, then press “Enable”: what waits is kept for a week.",
    ),
    Kind.SENDER_QUARANTINED: Meaning(
        "A sender is in quarantine",
        "warn",
        "sender",
        "Its emails go through a pool apart, so that they harm nobody else's. Find out where its addresses come from; "
        "if it does well for some days it comes back by itself. The sender's page has the figures.",
    ),
    Kind.SENDER_PAUSED: Meaning(
        "A sender is paused",
        "bad",
        "sender",
        "Nothing of it is sent until a person acts: find out where its addresses come from, then let it send again on "
        "its page.",
    ),
    Kind.NOT_STARTED: Meaning(
        "A campaign cannot be started",
        "bad",
        "campaign",
        "Its time has come, and starting it fails again and again. It is tried every second; see the clocks' logs for "
        "the reason. To change something of it, make it a draft again.",
    ),
}
LASTING: Final = [kind.value for kind, meaning in MEANINGS.items() if meaning.lasting]


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert as lists show it; of the names of what it is about one is there. `dismissed_by` is a name.

    `untold` says why somebody could not be told of it, while it is open.
    """

    id: int
    kind: Kind
    message: str
    campaign_id: int | None
    pool_id: int | None
    raised_at: datetime
    seen_at: datetime
    times: int
    dismissed_at: datetime | None
    cleared_at: datetime | None
    campaign: str | None
    pool: str | None
    dismissed_by: str | None
    untold: str | None
    endpoint_id: int | None = None
    endpoint: str | None = None
    sender_id: int | None = None
    sender: str | None = None

    @property
    def meaning(self) -> Meaning:
        return MEANINGS[self.kind]


def raise_alert(conn: Connection, kind: Kind, subject_id: int, message: str) -> None:
    """Say that something is wrong with a subject, of which sort the kind says; `message` is shown to people.

    While it stands it is counted and its message replaced, and nobody is told again. Locks the alert's row until the
    transaction ends: raise it last. Nothing where the subject no longer exists.
    """
    values = {"about": MEANINGS[kind].about, "kind": kind.value, "subject": subject_id, "message": message}
    conn.execute(SQL.raise_alert, values)


def clear(conn: Connection, kind: Kind, subject_id: int) -> None:
    """It is over. Nothing where none stands: one look into an index of the few that do."""
    conn.execute(SQL.clear, {"kind": kind.value, "subject": subject_id})


def find_subjects(conn: Connection, kind: Kind) -> list[int]:
    """What an alert of this kind stands of, dismissed or not."""
    return list(conn.execute(SQL.find_subjects, {"kind": kind.value}).scalars())


def dismiss(conn: Connection, organisation_id: int, alert_id: int, user_id: int) -> None:
    """A person has seen it; a second time changes nothing. Raises NotFound where it is no alert of theirs."""
    values = {"id": alert_id, "organisation_id": organisation_id, "user_id": user_id, "lasting": LASTING}
    if not 0 < alert_id < BEYOND or not conn.execute(SQL.dismiss, values).scalar_one():
        raise NotFound("There is no such alert.")


def find_open(
    conn: Connection, organisation_id: int, *, campaign_id: int | None = None, pool_id: int | None = None
) -> list[Alert]:
    """What stands and was not dismissed, the newest first: all of it, or one campaign's or pool's."""
    values = {
        "organisation_id": organisation_id,
        "campaign_id": campaign_id,
        "pool_id": pool_id,
        "limit": MOST_OPEN,
    }
    return [_alert(row._asdict()) for row in conn.execute(SQL.find_open, values)]


def find_page(conn: Connection, organisation_id: int, before: int | None, limit: int) -> list[Alert]:
    """What was dismissed or has cleared, the newest first: at most `limit`, from below the id `before` on."""
    values = {"organisation_id": organisation_id, "before": before or BEYOND, "limit": limit}
    return [_alert(row._asdict()) for row in conn.execute(SQL.find_page, values)]


def find_standing(conn: Connection, limit: int = MOST_OPEN) -> list[Alert]:
    """What is open in all organisations, the newest first: for the operator."""
    return [_alert(row._asdict()) for row in conn.execute(SQL.find_standing, {"limit": limit})]


def count_open(conn: Connection, organisation_id: int) -> int:
    """How many are open."""
    return int(conn.execute(SQL.count_open, {"organisation_id": organisation_id}).scalar_one())


def _alert(row: dict[str, Any]) -> Alert:
    return Alert(**row | {"kind": Kind(row["kind"])})
