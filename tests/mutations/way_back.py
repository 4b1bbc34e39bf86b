"""Mail that comes back: whom it may speak of, how often it counts, and what silence says."""

from __future__ import annotations

from typing import Final

from tests.mutations.mutation import Mutation

RETURNS = "tests/test_returns.py"

WAY_BACK: Final = (
    Mutation(
        "return_token_unsigned",
        "A report is believed of the email that its signed token names, and of no other",
        "app/signing.py",
        (
            (
                "if hmac.compare_digest(blake2b(body, digest_size=_RETURN_MAC, key=key).digest(), claimed):",
                "if key:",
            ),
        ),
        (f"{RETURNS}::test_a_forged_token_touches_nobody",),
    ),
    Mutation(
        "mailbox_let_go_before_it_is_kept",
        "A message leaves its mailbox only after what it says was committed",
        "app/flows/returns.py",
        (
            (
                "                taken += _take(runtime, [raw for _, raw in found], box.pool_id)\n"
                "                opened.let_go([number for number, _ in found])\n",
                "                opened.let_go([number for number, _ in found])\n"
                "                taken += _take(runtime, [raw for _, raw in found], box.pool_id)\n",
            ),
        ),
        (f"{RETURNS}::test_a_mailbox_is_let_go_only_of_what_was_committed",),
    ),
    Mutation(
        "silence_of_mail_means_something",
        "Where only bounces are told of, a lead of whom nothing comes is not sent to again",
        "app/flows/ingest.py",
        (("for hit in first), default=None)", "for hit in hits), default=None)"),),
        (f"{RETURNS}::test_a_report_settles_what_was_unknown_and_silence_settles_nothing",),
    ),
    Mutation(
        "mails_minute_in_its_key",
        "A bounce report taken twice, by two people at two times, counts once",
        "app/flows/ingest.py",
        (("pool.provider in WEBHOOKS else", "pool.provider else"),),
        (f"{RETURNS}::test_a_report_counts_once_however_often_it_comes",),
    ),
    Mutation(
        "keys_change_amid_a_day",
        "An event that was taken before an upgrade is known after it, though keys are written otherwise by then",
        "app/flows/ingest.py",
        (("minute if day >= timed else None", "minute"),),
        ("tests/test_webhooks.py::test_keys_of_one_minute_lie_together_and_days_begun_the_old_way_end_so",),
    ),
    Mutation(
        "a_liars_clock_is_believed",
        "A report with a date of long ago, or of the future, counts when it came",
        "app/providers/returns.py",
        (("received_at - OLDEST <= date <= received_at else", "date else"),),
        ("tests/providers/test_returns.py::test_the_date_of_a_wrong_clock_is_not_believed",),
    ),
)
