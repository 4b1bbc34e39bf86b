"""What an alert says to its readers: the email, and the body of the webhook (docs/operations.md documents it)."""

from __future__ import annotations

from datetime import UTC, datetime

import orjson

from app.models.notice import Notice
from app.providers.alert_mail import AlertLetter


def letter(notice: Notice, base_url: str) -> AlertLetter:
    """The email to a reader."""
    assert notice.address is not None
    return AlertLetter(
        address=notice.address,
        subject=_subject(notice),
        text="\n".join(_lines(notice, base_url)) + "\n",
        key=str(notice.key),
        thread=f"alert.{notice.alert_id}",
    )


def body(notice: Notice, base_url: str) -> bytes:
    """The webhook's JSON."""
    meaning = notice.meaning
    return orjson.dumps(
        {
            "type": f"alert.{notice.about}",
            "timestamp": _iso(notice.created_at),
            "data": {
                "id": notice.alert_id,
                "kind": notice.kind.value,
                "gravity": meaning.gravity,
                "label": meaning.label,
                "message": notice.message,
                "advice": meaning.advice,
                "organisation": {"id": notice.organisation_id, "name": notice.organisation},
                "campaign": {"id": notice.campaign_id, "name": notice.campaign} if notice.campaign_id else None,
                "pool": {"id": notice.pool_id, "name": notice.pool} if notice.pool_id else None,
                "endpoint": {"id": notice.endpoint_id, "name": notice.endpoint} if notice.endpoint_id else None,
                "sender": {"id": notice.sender_id, "name": notice.sender} if notice.sender_id else None,
                "raised_at": _iso(notice.raised_at),
                "seen_at": _iso(notice.seen_at),
                "times": notice.times,
                "cleared_at": _iso(notice.cleared_at) if notice.cleared_at and notice.about == "cleared" else None,
                "dismissed_by": notice.dismissed_by if notice.about == "cleared" else None,
                "url": _address(notice, base_url),
            },
        }
    )


def _subject(notice: Notice) -> str:
    begin = "" if notice.about == "raised" else "Dismissed: " if notice.dismissed else "Resolved: "
    return f"{begin}{notice.meaning.label} – {_name(notice)}"


def _lines(notice: Notice, base_url: str) -> list[str]:
    what = [f"{notice.meaning.label}: {_name(notice)} ({notice.organisation})", "", notice.message, ""]
    if notice.about == "raised":
        what += [f"Since {_said(notice.raised_at)}.", f"What to do: {notice.meaning.advice}", ""]
        what += [_address(notice, base_url), "", "You are told once, and again when it is over."]
        return what
    ended = f"{_said(notice.raised_at)} to {_said(notice.cleared_at or notice.seen_at)}, found {_times(notice.times)}."
    how = f"{notice.dismissed_by} has dismissed it." if notice.dismissed else "It is over."
    return [*what, how, ended, "", _address(notice, base_url)]


def _name(notice: Notice) -> str:
    if notice.endpoint_id:
        return f"endpoint “{notice.endpoint}”"
    if notice.sender_id:
        return f"sender “{notice.sender}”"
    return f"campaign “{notice.campaign}”" if notice.campaign_id else f"pool “{notice.pool}”"


def _address(notice: Notice, base_url: str) -> str:
    if notice.endpoint_id:
        return f"{base_url}/endpoints/{notice.endpoint_id}"
    if notice.sender_id:
        return f"{base_url}/senders/{notice.sender_id}/standing"
    return f"{base_url}/campaigns/{notice.campaign_id}" if notice.campaign_id else f"{base_url}/pools/{notice.pool_id}"


def _times(times: int) -> str:
    return "once" if times == 1 else f"{times:,} times"


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _said(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%d %b %Y, %H:%M UTC").lstrip("0")
