"""Connections that processes share, and events that nobody knows."""

from __future__ import annotations

from typing import Final

from tests.mutations.mutation import Mutation

TICKETS, UNREAD = "tests/test_tickets.py", "tests/test_unread.py"

SHARED_LINES: Final = (
    Mutation(
        "tickets_without_lock",
        "Of many processes that open a connection at once, no more do than the pool has",
        "app/models/connection.py",
        (('    conn.execute(SQL.lock, {"pool_id": pool_id})\n', ""),),
        (f"{TICKETS}::test_who_asks_while_another_takes_the_last_one_waits_and_gets_none",),
    ),
    Mutation(
        "receivers_share_connections",
        "A receiver's connections are its own, and no more than its limit says",
        "app/models/connection.sql",
        (("   AND taken.of_receiver < coalesce(bound.connections, :most)\n", ""),),
        (f"{TICKETS}::test_a_receiver_has_its_own_connections_and_emails_over_each",),
    ),
    Mutation(
        "idle_connections_kept",
        "A process lets go of a connection that it does not use, so that another may have it",
        "app/providers/smtp_lines.py",
        (("            self.reaper.start()\n", "            pass\n"),),
        (f"{TICKETS}::test_an_idle_connection_is_closed_soon_so_that_another_process_may_have_it",),
    ),
    Mutation(
        "unread_events_taken",
        "An event that nobody knows is not noted as taken: an upgrade that knows it may take it",
        "app/models/unread.py",
        (('webhook.key_of(pool_id, f"unread:{each.key}")', "webhook.key_of(pool_id, each.key)"),),
        (f"{UNREAD}::test_an_event_that_nobody_knows_is_not_noted_as_taken",),
    ),
    Mutation(
        "look_up_without_end",
        "A name that nobody answers for costs a call no more than its time",
        "app/providers/public.py",
        (("told.get(timeout=max(0.0, min(wait, until - uptime())))", "told.get(timeout=LOOK_UP)"),),
        ("tests/test_public_addresses.py::test_a_name_that_nobody_answers_for_costs_a_call_no_more_than_its_time",),
    ),
)
