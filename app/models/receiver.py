"""Receivers: whose servers take a domain's mail. The great ones are told from a table, the rest by their MX records.

A limit may name one of them, or a single domain. What is not known yet is asked for in the background
(flows/receivers.py), and belongs to nobody until then.
"""

from __future__ import annotations

import tomllib
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlalchemy import Connection

from app.db import Statements, array, fetch
from app.message_ids import is_message
from app.models import message

SQL = Statements("receiver")
OTHERS: Final = ""  # nobody's whom a limit names
SAMPLE: Final = (20, 100)  # ranges, and leads of each, from which shares are told


@dataclass(frozen=True, slots=True)
class Receiver:
    """One of the great: its name for people, the domains that are its own, and what its servers' names end with."""

    key: str
    name: str
    domains: tuple[str, ...]
    servers: tuple[str, ...]


def _read() -> dict[str, Receiver]:
    known = tomllib.loads(Path(__file__).with_name("receivers.toml").read_text())
    return {
        key: Receiver(key, each["name"], tuple(each["domains"]), tuple(each["servers"])) for key, each in known.items()
    }


RECEIVERS: Final[Mapping[str, Receiver]] = _read()
_BY_DOMAIN: Final = {domain: each.key for each in RECEIVERS.values() for domain in each.domains}
_BY_SERVER: Final = {server: each.key for each in RECEIVERS.values() for server in each.servers}


def of_domain(domain: str) -> str | None:
    """The receiver of a domain that needs no asking."""
    return _BY_DOMAIN.get(domain)


def of_servers(servers: Iterable[str]) -> str:
    """The receiver that mail servers belong to, the preferred first; "" where they are nobody's that we know."""
    for server in servers:
        labels = server.lower().rstrip(".").split(".")
        for first in range(len(labels)):
            known = _BY_SERVER.get(".".join(labels[first:]))
            if known is not None:
                return known
    return OTHERS


def sort(
    conn: Connection, lead_ids: Sequence[int], named: Collection[str], campaign_id: int = 0
) -> dict[str, list[int]]:
    """receiver -> its leads, in order, for receivers and domains in `named`; "" has all others, erased leads too.

    Domains of which nobody has asked are noted, to be asked about in the background. `campaign_id` is the stream where
    they are messages.
    """
    found = _find_domains(conn, lead_ids, campaign_id)
    sorted_leads: defaultdict[str, list[int]] = defaultdict(list)
    unasked: set[int] = set()
    for lead_id in lead_ids:
        domain_id, name, known = found.get(lead_id, (0, "", OTHERS))
        sorted_leads[_pick(named, name, known)].append(lead_id)
        if known is None and of_domain(name) is None:
            unasked.add(domain_id)
    if unasked:
        conn.execute(SQL.ask, {"ids": array(sorted(unasked))})
    return dict(sorted_leads)


def find_shares(conn: Connection, campaign_id: int, named: Collection[str]) -> dict[str, float]:
    """receiver -> its share, 0 to 1, of what a campaign has left, for receivers and domains in `named`.

    From a sample of ranges and leads. Empty before its audience stands.
    """
    rows = conn.execute(SQL.sample, {"campaign_id": campaign_id, "ranges": SAMPLE[0], "leads": SAMPLE[1]}).all()
    shares: defaultdict[str, float] = defaultdict(float)
    total = sum(row.weight for row in rows)
    for row in rows:
        shares[_pick(named, row.name, row.receiver)] += row.weight / total
    shares.pop(OTHERS, None)
    return dict(shares)


def _pick(named: Collection[str], domain: str, known: str | None) -> str:
    """Of receivers and domains in `named` that which a domain counts for: itself first, else who is `known` to take
    its mail; OTHERS where it is none of them."""
    receiver = domain if domain in named else known or of_domain(domain) or OTHERS
    return receiver if receiver in named else OTHERS


def _find_domains(
    conn: Connection, lead_ids: Sequence[int], campaign_id: int
) -> dict[int, tuple[int, str, str | None]]:
    """lead or message -> number, name and receiver of its domain."""
    if not lead_ids or not is_message(lead_ids[0]):
        rows = fetch(conn, SQL.find_domains, {"lead_ids": array(lead_ids)})
        return {lead_id: (domain_id, name, known) for lead_id, domain_id, name, known in rows}
    facts = message.find_facts(conn, [(campaign_id, each) for each in lead_ids])
    rows = fetch(conn, SQL.name_domains, {"ids": array({each.domain_id for each in facts})})
    named = {domain_id: (domain_id, name, known) for domain_id, name, known in rows}
    return {each.id: named[each.domain_id] for each in facts if each.domain_id in named}


def find_asked(conn: Connection, limit: int) -> list[tuple[int, str]]:
    """(id, name) of domains that are to be asked about, those that wait longest first; the stale ones again."""
    return [(row.id, row.name) for row in conn.execute(SQL.find_asked, {"limit": limit})]


def learn(conn: Connection, learned: Mapping[int, str | None]) -> None:
    """Keep domain -> receiver ("": nobody's that we know); None, where there was no answer: asked again later."""
    ids = sorted(learned)
    conn.execute(SQL.learn, {"ids": array(ids), "receivers": [learned[domain_id] for domain_id in ids]})
