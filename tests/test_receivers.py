"""Whose servers take a domain's mail: the table, and a name server on loopback that is asked for MX records."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import dns.flags
import dns.message
import dns.rcode
import dns.resolver
import dns.rrset
import pytest
from sqlalchemy import text

from app.flows import receivers
from app.models import limit, receiver
from app.models.limit import Limit
from app.models.receiver import RECEIVERS, of_domain, of_servers
from app.runtime import Runtime
from tests import world
from tests.sending_world import query

SILENT = "FROM domain WHERE name = 'silent.example'"
Zone = Mapping[str, Sequence[str] | None]  # domain -> its mail servers; None: the server fails


@contextmanager
def name_server(zone: Zone) -> Iterator[tuple[dns.resolver.Resolver, list[str]]]:
    """A resolver whose only server knows these domains, and what it was asked."""
    asked: list[str] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))

        def serve() -> None:
            while True:
                packet, address = peer.recvfrom(4096)
                if packet == b"end":
                    return
                question = dns.message.from_wire(packet)
                name = question.question[0].name.to_text(omit_final_dot=True)
                asked.append(name)
                reply = dns.message.make_response(question)
                reply.flags |= dns.flags.RA
                servers = zone.get(name, ())
                if name not in zone:
                    reply.set_rcode(dns.rcode.NXDOMAIN)
                elif servers is None:
                    reply.set_rcode(dns.rcode.SERVFAIL)
                else:
                    records = [f"{10 * place} {server}." for place, server in enumerate(servers)]
                    if records:
                        reply.answer.append(dns.rrset.from_text(name + ".", 300, "IN", "MX", *records))
                peer.sendto(reply.to_wire(), address)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        resolver = dns.resolver.Resolver(configure=False)
        resolver.nameservers, resolver.port, resolver.lifetime = ["127.0.0.1"], peer.getsockname()[1], 1.0
        try:
            yield resolver, asked
        finally:
            peer.sendto(b"end", peer.getsockname())
            thread.join(5)


@pytest.mark.parametrize(
    ("servers", "whose"),
    [
        (["aspmx.l.google.com", "alt1.aspmx.l.google.com"], "google"),
        (["smtp.google.com"], "google"),
        (["example-com.mail.protection.outlook.com"], "microsoft"),
        (["mta5.am0.yahoodns.net"], "yahoo"),
        (["mx01.mail.icloud.com."], "apple"),
        (["MX0.EXAMPLE.COM", "aspmx.l.google.com"], "google"),
        (["mx.notgoogle.com"], ""),
        (["google.com.evil.example"], ""),
        ([], ""),
    ],
)
def test_servers_tell_the_receiver(servers: list[str], whose: str) -> None:
    assert of_servers(servers) == whose


def test_the_table_names_each_domain_once_and_in_lower_case() -> None:
    domains = [domain for each in RECEIVERS.values() for domain in each.domains]
    assert len(domains) == len(set(domains))
    assert domains == [domain.lower() for domain in domains]
    assert of_domain("gmail.com") == "google" and of_domain("example.com") is None


def add_leads(runtime: Runtime, *domains: str) -> list[int]:
    """A lead at each domain; their ids."""
    built = world.build(runtime.db, secret_key=runtime.settings.secret_key)
    with runtime.db.begin() as conn:
        ids = []
        for domain in domains:
            domain_id = world.insert(conn, "domain", name=domain)
            email = f"someone@{domain}"
            ids.append(
                world.insert(
                    conn, "lead", organisation_id=built.organisation_id, domain_id=domain_id, email=email, attributes={}
                )
            )
        limit.set_limits(conn, built.pool_id, [Limit("google", 1.0)])
    return ids


def test_a_domain_that_was_asked_about_is_looked_up_once_and_counts_as_its_receivers(runtime: Runtime) -> None:
    company, own, gone, great = add_leads(runtime, "company.example", "own.example", "gone.example", "gmail.com")
    leads = [company, own, gone, great, 999]
    with runtime.db.begin() as conn:
        assert receiver.sort(conn, leads, {"google"}) == {"": [company, own, gone, 999], "google": [great]}
    zone = {"company.example": ["mx2.example.org", "aspmx.l.google.com"], "own.example": ["mail.own.example"]}
    with name_server(zone) as (resolver, asked):
        assert receivers.look_up_receivers(runtime, resolver) == 3
        assert receivers.look_up_receivers(runtime, resolver) == 0
    assert sorted(asked) == ["company.example", "gone.example", "own.example"]
    with runtime.db.begin() as conn:
        assert receiver.sort(conn, leads, {"google"}) == {"google": [company, great], "": [own, gone, 999]}
        assert receiver.sort(conn, leads, {"own.example"}) == {"": [company, gone, great, 999], "own.example": [own]}


def test_one_without_an_answer_is_asked_about_again_ever_more_seldom(runtime: Runtime) -> None:
    leads = add_leads(runtime, "silent.example")
    with runtime.db.begin() as conn:
        receiver.sort(conn, leads, {"google"})
    with name_server({"silent.example": None}) as (resolver, asked):
        for minutes, questions in ((0, 1), (9, 1), (2, 2), (11, 2), (10, 3)):
            with runtime.db.begin() as conn:
                step = "UPDATE domain SET receiver_at = receiver_at - make_interval(mins => :minutes)"
                conn.execute(text(step), {"minutes": minutes})
            receivers.look_up_receivers(runtime, resolver)
            assert len(set(asked)) == 1
            assert query(runtime, f"SELECT receiver, receiver_tries {SILENT}") == [(None, questions)]


def test_what_was_learned_is_looked_up_anew_after_a_month(runtime: Runtime) -> None:
    leads = add_leads(runtime, "moves.example")
    with runtime.db.begin() as conn:
        receiver.sort(conn, leads, {"google"})
    with name_server({"moves.example": ["aspmx.l.google.com"]}) as (resolver, _):
        receivers.look_up_receivers(runtime, resolver)
    with runtime.db.begin() as conn:
        conn.execute(text("UPDATE domain SET receiver_at = receiver_at - interval '31 days'"))
    with name_server({"moves.example": ["mx.moves.example"]}) as (resolver, _):
        assert receivers.look_up_receivers(runtime, resolver) == 1
    assert query(runtime, "SELECT receiver FROM domain WHERE name = 'moves.example'") == [("",)]


def test_domains_that_are_known_are_not_looked_at_for_those_that_are_not(runtime: Runtime) -> None:
    with runtime.db.begin() as conn:
        conn.execute(
            text(
                "INSERT INTO domain (name, receiver, receiver_at)"
                " SELECT format('d%s.example', number), 'google', now() FROM generate_series(1, 5000) AS number"
            )
        )
        conn.execute(text("ANALYZE domain"))
        explained = text(f"EXPLAIN (ANALYZE, FORMAT JSON) {receiver.SQL.find_asked}")
        plan = str(conn.execute(explained, {"limit": 200}).scalar_one())
    assert sum(map(int, re.findall(r"'Rows Removed by Filter': (\d+)", plan))) == 0
