"""One line an event, on standard error, as platforms expect it."""

from __future__ import annotations

import logging


def configure(level: str) -> None:
    """Set the root logger; libraries that chatter are held to warnings."""
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s", force=True)
    for chatty in ("httpx", "httpcore", "alembic.runtime", "psycopg.pool", "dramatiq"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
