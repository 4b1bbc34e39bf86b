"""Shapes that several nouns share: figures, progress."""

from __future__ import annotations

from web.api.route import Answering


class Figures(Answering):
    """Emails and what became of them. `opened` and `clicked` are people's; each open and click counts."""

    emails: int
    sent: int
    refused: int
    failed: int
    skipped: int
    cancelled: int
    unknown: int
    deferred: int
    delivered: int
    bounced: int
    complained: int
    opened: int
    clicked: int
    unsubscribed: int
    opened_by_machines: int
    clicked_by_machines: int


class Progress(Answering):
    """How far it has come, in leads: `audience` is the sum of all the others."""

    audience: int
    sent: int
    refused: int
    failed: int
    skipped: int
    cancelled: int
    unknown: int
    open: int
