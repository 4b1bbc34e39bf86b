"""Whose account it is, and where a user's own may reach."""

from __future__ import annotations

from typing import Final

from tests.mutations.mutation import Mutation

PUBLIC, POOLS = "tests/test_public_addresses.py", "tests/web/test_pools.py"

ACCOUNTS: Final = (
    Mutation(
        "private_addresses",
        "What a user typed is not connected to inside",
        "app/providers/public.py",
        (
            (
                "    inside = next((each for each in addresses if not is_public(each)), None)\n",
                "    inside = None\n",
            ),
        ),
        (f"{PUBLIC}::test_a_call_to_a_private_address_never_leaves",),
    ),
    Mutation(
        "connected_by_name",
        "The connection goes to the address that was judged",
        "app/providers/http.py",
        (
            (
                "for address in (self.resolve or look_up)(host, port, self.until):",
                "for address in [host] if (self.resolve or look_up)(host, port, self.until) else []:",
            ),
        ),
        (f"{PUBLIC}::test_the_connection_goes_to_the_address_that_was_judged_and_no_name_is_asked_again",),
    ),
    Mutation(
        "user_as_operator",
        "A user's pool is confined, wherever its URL is opened",
        "app/flows/pools.py",
        (("    kept = confined(url) if confine else url\n", "    kept = url\n"),),
        (
            f"{POOLS}::test_nobody_but_the_operator_adds_a_pool_at_a_private_address",
            f"{POOLS}::test_a_name_that_turns_private_after_it_was_saved_is_not_connected_to",
        ),
    ),
    Mutation(
        "secret_to_another_server",
        "A stored secret goes to no other server than it was meant for",
        "app/flows/pools.py",
        (("    if not same and not faults:\n", "    if False:\n"),),
        (f"{POOLS}::test_a_stored_secret_never_goes_to_another_server",),
    ),
    Mutation(
        "test_to_suppressed",
        "A suppressed address gets no test either",
        "app/flows/try_pool.py",
        (("        if suppression.is_suppressed(", "        if not suppression.is_suppressed("),),
        (f"{POOLS}::test_a_suppressed_address_gets_no_test",),
    ),
)
