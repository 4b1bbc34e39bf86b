"""Tickets for a pool's connections, given out by PostgreSQL: all processes together keep to the pool's number.

They outlive a flush of Redis, and those of a process that died run out. One that is in use is renewed at most twice a
minute, so that they cost a connection two rows written when it is opened and closed, and hardly more.
"""

from __future__ import annotations

import logging
from typing import Final
from uuid import uuid4

from sqlalchemy import Connection

from app.db import Database
from app.errors import Unavailable
from app.models import connection
from app.models.connection import Granted
from app.providers.tickets import Ticket
from app.uptime import uptime

log = logging.getLogger(__name__)

LASTS: Final = 60.0  # seconds, and three calls' deadlines at the least
AWAY_FOR: Final = 10.0  # seconds in which a database that did not answer is told of no closed connection


class PoolTickets:
    """One pool's. `deadline`: seconds that a call takes at most, for which a ticket that was looked at must last."""

    def __init__(self, db: Database, pool_id: int, deadline: float) -> None:
        self.db = db
        self.pool_id = pool_id
        self.lasts = max(LASTS, 3 * deadline)
        self.away_until = 0.0
        self.elsewhere: dict[str, int] = {}  # receiver -> the pool's connections, when none was to be had for us

    def take(self, receiver: str, most: int) -> Ticket | None:
        """One for a connection that carries emails to a receiver ("": to any), of `most` in all; None: all are out."""
        begun = uptime()
        with self.db.begin() as conn:
            return self._ticket(connection.take(conn, uuid4(), self.pool_id, receiver, most, self.lasts), begun)

    def renew(self, ticket: Ticket) -> Ticket | None:
        """For longer; the same one while it has long to go. None: it is over, and the connection must be closed."""
        begun = uptime()
        if ticket.until - begun > self.lasts / 2:
            return ticket
        with self.db.begin() as conn:
            return self._ticket(connection.renew(conn, ticket.id, self.lasts), begun)

    def give_back(self, ticket: Ticket) -> None:
        """The connection is closed. Never raises: what is not given back runs out."""
        if uptime() < self.away_until:  # a process that ends gives back many, and must not wait for each
            return
        try:
            with self.db.begin() as conn:
                connection.give_back(conn, ticket.id)
        except Unavailable as error:
            self.away_until = uptime() + AWAY_FOR
            log.info("a ticket for a connection is left to run out: %s", error)

    def leave(self, receiver: str, most: int) -> None:
        """This process has no connection for a receiver, and found none to be had: its emails are left to others."""
        self.elsewhere[receiver] = most

    def find_crowded(self, conn: Connection) -> list[str]:
        """The receivers that were left to others, but those for whom there is a ticket again."""
        for receiver, most in list(self.elsewhere.items()):
            if connection.is_free(conn, self.pool_id, receiver, most):
                self.elsewhere.pop(receiver, None)
        return list(self.elsewhere)

    def _ticket(self, granted: Granted | None, begun: float) -> Ticket | None:
        """By our own clock it is over a little earlier than by the database's: counted from before it was asked."""
        return None if granted is None else Ticket(granted.id, begun + self.lasts, granted.messages)
