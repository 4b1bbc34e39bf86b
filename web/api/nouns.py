"""The nouns of the API, in the order in which the document and the page have them, and all of their routes."""

from __future__ import annotations

from typing import Final

from web.api import (
    campaigns,
    leads,
    messages,
    reports,
    segments,
    senders,
    steering,
    suppressions,
    templates,
    webhooks,
)

NOUNS: Final = (messages, templates, campaigns, steering, leads, segments, suppressions, reports, webhooks, senders)
ROUTES: Final = tuple(route for noun in NOUNS for route in noun.routes.found)
