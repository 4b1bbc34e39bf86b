"""Who an id names, a lead or a message: hand-offs, events and webhooks hold ids of both, and the number tells which."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from sqlalchemy import Connection

from app.message_ids import is_message
from app.models import message, outbox, webhook


def find_domains(conn: Connection, campaign_id: int, ids: Sequence[int]) -> dict[int, int]:
    """id -> domain, for leads or messages of one campaign or stream that still exist."""
    if ids and is_message(ids[0]):  # a stream has messages alone, a campaign none
        return {each.id: each.domain_id for each in message.find_facts(conn, [(campaign_id, each) for each in ids])}
    return outbox.domains(conn, ids)


def find_addresses(conn: Connection, organisation_id: int, asked: Iterable[tuple[int, int]]) -> dict[int, str]:
    """id -> address, for (campaign, lead or message) pairs of an organisation, of those that still exist."""
    pairs = set(asked)
    leads = [each for _, each in pairs if not is_message(each)]
    messages = [pair for pair in pairs if is_message(pair[1])]
    found = webhook.find_addresses(conn, organisation_id, leads) if leads else {}
    if messages:
        facts = message.find_facts(conn, messages)
        found |= {each.id: each.email for each in facts if each.organisation_id == organisation_id}
    return found


class StandIns(NamedTuple):
    """Who is judged for what came back: `by_id` from lead or message to the lead, or the number, that stands for it.

    `addresses` has those of messages, by who stands for them.
    """

    by_id: Mapping[int, int]
    addresses: Mapping[int, str]

    def of(self, number: int) -> int | None:
        """Who stands for a lead or a message; None where a message was dropped since."""
        return self.by_id.get(number) if is_message(number) else number


def find_stand_ins(conn: Connection, organisation_id: int, ids: Iterable[int]) -> StandIns:
    """Who stands for each: a lead for itself, a message's address the lead who has it, or a number of its own."""
    messages = [each for each in set(ids) if is_message(each)]
    found = message.find_stand_ins(conn, organisation_id, messages) if messages else []
    by_id = {message_id: stand_in for message_id, _, stand_in in found}
    return StandIns(by_id, {stand_in: email for _, email, stand_in in found})
