"""Telling endpoints: what is recorded is told, under one id, to public addresses, and nobody waits for another."""

from __future__ import annotations

from typing import Final

from tests.mutations.mutation import Mutation

TOLD, TELL = "tests/test_endpoints_told.py", "app/flows/tell_endpoints.py"

ENDPOINTS: Final = (
    Mutation(
        "appended_and_not_told",
        "The transaction that appends events keeps them for the endpoints",
        "app/models/event.py",
        (("        news.keep(conn, source.organisation_id, lines)\n", ""),),
        (f"{TOLD}::test_an_endpoint_is_told_exactly_what_is_in_the_record",),
    ),
    Mutation(
        "cancelled_and_not_told",
        "What is cancelled is told, though its events are written by SQL alone",
        "app/models/outbox.sql",
        (("                  AND 'cancelled' = ANY(endpoint.kinds)\n", "                  AND false\n"),),
        (f"{TOLD}::test_an_endpoint_is_told_exactly_what_is_in_the_record",),
    ),
    Mutation(
        "post_under_a_new_id",
        "A post has the same id at every try",
        TELL,
        (("post(url, str(due.key), body,", 'post(url, str(__import__("uuid").uuid4()), body,'),),
        (
            f"{TOLD}::test_each_try_is_signed_anew_under_the_same_id_with_the_same_body",
            f"{TOLD}::test_a_post_that_a_worker_died_over_is_made_again_under_its_id",
        ),
    ),
    Mutation(
        "endpoint_leads_inside",
        "An endpoint's name is judged by the address that is connected to",
        "app/providers/endpoint_post.py",
        ((", resolver(host, private))\n    try:", ", None)\n    try:"),),
        (f"{TOLD}::test_a_name_that_leads_inside_is_refused_when_it_is_connected_to",),
    ),
    Mutation(
        "endpoint_takes_every_thread",
        "Few posts are under way to one endpoint, however slow it is",
        "app/models/endpoint_post.sql",
        (
            (
                "           - (SELECT count(*) FROM endpoint_post WHERE endpoint_id = endpoint.id"
                " AND trying_until > now()) AS slots\n",
                "           AS slots\n",
            ),
        ),
        (
            f"{TOLD}::test_two_workers_hold_no_more_posts_of_an_endpoint_than_one",
            f"{TOLD}::test_a_slow_endpoint_delays_no_other",
        ),
    ),
)
