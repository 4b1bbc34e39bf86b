"""Tickets: whoever has one may keep a connection open for a while. Processes that share a server share its tickets."""

from __future__ import annotations

from typing import NamedTuple, Protocol
from uuid import UUID


class Ticket(NamedTuple):
    """The right to one connection until `until` (seconds of `uptime`); `messages`: at most so many over it, if said."""

    id: UUID
    until: float
    messages: int | None


class Tickets(Protocol):
    """Where tickets for one account's connections are given out. All of these raise Unavailable, but `give_back`."""

    def take(self, receiver: str, most: int) -> Ticket | None:
        """One for a connection that carries emails to a receiver ("": to any), of `most` in all; None: all are out."""

    def renew(self, ticket: Ticket) -> Ticket | None:
        """For longer; the same one while it has long to go. None: it is over, and the connection must be closed."""

    def give_back(self, ticket: Ticket) -> None:
        """The connection is closed. Never raises: what is not given back runs out."""

    def leave(self, receiver: str, most: int) -> None:
        """This process has no connection for a receiver, and found none to be had: its emails are left to others."""
