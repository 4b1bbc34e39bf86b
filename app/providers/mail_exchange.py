"""Asking the domain name system which servers take a domain's mail (RFC 5321 section 5.1)."""

from __future__ import annotations

from typing import Final

import dns.exception
import dns.rdatatype
import dns.resolver
from dns.rdtypes.ANY.MX import MX

DEADLINE: Final = 3.0  # seconds for one domain, tries included
MOST: Final = 10  # servers that are looked at: a domain may name any number


def open_resolver() -> dns.resolver.Resolver | None:
    """The system's resolver, which remembers answers for as long as they hold; None where none is configured."""
    try:
        resolver = dns.resolver.Resolver()
    except (dns.exception.DNSException, OSError):
        return None
    resolver.lifetime = DEADLINE
    resolver.cache = dns.resolver.LRUCache(10_000)
    return resolver


def find_servers(resolver: dns.resolver.Resolver, domain: str) -> list[str] | None:
    """The names of a domain's mail servers, the preferred first; empty where it has none; None without an answer."""
    try:
        answer = resolver.resolve(domain, dns.rdatatype.MX, search=False)
    except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
        return []
    except (dns.exception.DNSException, OSError, ValueError):  # no name server answered, or the name is none
        return None
    records = [record for record in answer if isinstance(record, MX)]
    records.sort(key=lambda record: (record.preference, record.exchange.to_text()))
    return [record.exchange.to_text(omit_final_dot=True).lower() for record in records[:MOST]]
