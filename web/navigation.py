"""The rooms of the house, in the order of the menu."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from flask import Flask, current_app, request

from web.alert_count import count_open
from web.context import me


@dataclass(frozen=True, slots=True)
class Room:
    """One entry of the menu: it is lit while the page belongs to its blueprint, or to one that lives under it.

    `count` gives the figure beside it, of things that wait in there.
    """

    label: str
    endpoint: str
    icon: str
    admin: bool = False
    under: tuple[str, ...] = ()
    count: Callable[[], int] | None = None

    @property
    def blueprint(self) -> str:
        return self.endpoint.split(".")[0]

    @property
    def here(self) -> bool:
        return request.blueprint in (self.blueprint, *self.under)


ROOMS = (
    Room(
        "Campaigns",
        "campaigns.index",
        "campaign",
        under=("previews", "recipients", "unknowns", "variants", "campaign_rate", "schedules"),
    ),
    Room("Messages", "messages.index", "message", under=("message_templates",)),
    Room("Leads", "leads.index", "lead"),
    Room("Imports", "imports.index", "import"),
    Room("Suppressions", "suppressions.index", "stop"),
    Room("Segments", "segments.index", "segment"),
    Room("Reports", "reports.index", "report"),
    Room(
        "Senders",
        "senders.index",
        "sender",
        under=("pools", "pool_purpose", "mailboxes", "shaping", "standing", "warm_ups"),
    ),
    Room("API", "api_docs.index", "code", under=("api_keys",)),
    Room("Endpoints", "endpoints.index", "post", admin=True),
    Room("Alerts", "alerts.index", "alert", count=count_open),
)


def init_app(app: Flask) -> None:
    app.jinja_env.globals["rooms"] = rooms
    app.jinja_env.globals["can"] = lambda endpoint: endpoint in app.view_functions


def rooms() -> list[Room]:
    """The rooms that this person may enter."""
    return [room for room in ROOMS if room.endpoint in current_app.view_functions and (not room.admin or me().is_admin)]
