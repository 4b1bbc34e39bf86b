"""Calls: what is written before, what is believed of an answer, what is tried again."""

from __future__ import annotations

from typing import Final

from tests.mutations.mutation import ANSWERS, DEFENCES, FAULTS, OUTBOX, SEND, SENDING, SETTLE, Mutation

CALLS: Final = (
    Mutation(
        "intention_uncommitted",
        "The intention is committed before the provider hears of it, and no transaction is open while it speaks",
        SEND,
        (
            (
                "AGAIN_IN = 60.0",
                "_opened = []\n\n\ndef _open(runtime):\n    _opened.append(runtime.db.begin())\n"
                "    return _opened[-1].__enter__()\n\n\nAGAIN_IN = 60.0",
            ),
            (
                "            with runtime.db.begin() as conn:\n                if uptime() - page.read_at",
                "            for conn in [_open(runtime)]:\n                if uptime() - page.read_at",
            ),
            (
                "    answers = _call(runtime, page, composer, handoffs, letters, begun)\n",
                "    answers = _call(runtime, page, composer, handoffs, letters, begun)\n"
                "    _opened.pop().__exit__(None, None, None)\n",
            ),
        ),
        (f"{DEFENCES}::test_nothing_is_said_to_a_provider_before_it_is_written_down_and_committed",),
    ),
    Mutation(
        "lost_hand_over_unasked",
        "A hand-over whose reply was lost is found out before anything is called",
        SEND,
        (
            (
                "            if not tried or (done := _handed_over(runtime, page.lease)) is None:\n",
                "            if True:\n",
            ),
        ),
        (f"{FAULTS}::test_a_hand_over_whose_reply_was_lost_is_found_out_and_sent",),
    ),
    Mutation(
        "rescued_is_sent_again",
        "What was handed over and never settled is unknown: it is not sent again",
        OUTBOX,
        (
            (
                "                   WHEN position = size THEN 'done'\n                   WHEN crashes",
                "                   WHEN crashes",
            ),
            (
                "       sent = sent + :sent,\n       refused = refused + :refused,\n"
                "       unknown = unknown + :unknown\n"
                " WHERE id = :range_id\n   AND state = 'leased'\n   AND lease_until < now()\n",
                "       position = 0\n WHERE id = :range_id\n"
                "   AND state = 'leased'\n   AND lease_until < now()\n   AND :sent + :refused + :unknown >= 0\n",
            ),
        ),
        (f"{SENDING}::test_a_worker_that_died_after_handing_over_leaves_unknowns_and_no_second_mail",),
    ),
    Mutation(
        "broken_means_not_sent",
        "A provider's code that breaks half-way may have sent",
        SEND,
        (
            (
                '        return ProviderUnsure(f"{type(error).__name__}: {error}")\n',
                '        return ProviderDown(f"{type(error).__name__}: {error}")\n',
            ),
        ),
        (f"{DEFENCES}::test_a_call_that_took_its_emails_and_was_not_answered_right_is_unknown[breaks]",),
    ),
    Mutation(
        "short_answer_believed",
        "An answer with another number of outcomes than leads is none",
        SEND,
        (("    if len(outcomes) != len(batch.letters):\n", "    if len(outcomes) > len(batch.letters):\n"),),
        (f"{DEFENCES}::test_a_call_that_took_its_emails_and_was_not_answered_right_is_unknown[short]",),
    ),
    Mutation(
        "unsure_means_not_sent",
        "A lost answer is unknown, and is not sent again by itself",
        ANSWERS,
        (
            (
                "        case ProviderUnsure():\n            kind = Kind.UNKNOWN\n",
                "        case ProviderUnsure():\n            kind = Kind.DEFERRED\n"
                "            tally.later.setdefault(Wait(60.0, attempts, deferred=True), [])"
                ".extend(handoff.lead_ids)\n",
            ),
        ),
        (f"{SENDING}::test_a_lost_reply_makes_its_call_unknown_and_nothing_is_sent_again",),
    ),
    Mutation(
        "copy_elsewhere",
        "The events are of the transaction that settles the page",
        "app/models/event.py",
        (
            (
                '        copy(conn, TARGET, ["".join(lines)])\n',
                '        with conn.engine.begin() as other:\n            copy(other, TARGET, ["".join(lines)])\n',
            ),
        ),
        (f"{DEFENCES}::test_a_settle_that_fails_at_its_commit_leaves_nothing_behind_and_is_done_again",),
    ),
    Mutation(
        "late_answers_dropped",
        "Answers that come after the rescue resolve what was unknown",
        SETTLE,
        (("    patiently(runtime, write_late)\n", "    pass\n"),),
        (f"{FAULTS}::test_answers_that_come_after_the_rescue_resolve_what_was_unknown",),
    ),
    Mutation(
        "retry_after_ignored",
        "The time that a provider names is kept",
        ANSWERS,
        (("    return _bounded(DOWN if error.retry_in is None else error.retry_in)\n", "    return _bounded(DOWN)\n"),),
        (f"{SENDING}::test_a_provider_that_is_down_costs_no_attempt_and_is_left_alone_for_a_while",),
    ),
    Mutation(
        "never_given_up",
        "What was put off for a day has failed",
        ANSWERS,
        (("given_up = put_off_for + wait.seconds > GIVE_UP_AFTER", "given_up = False"),),
        (f"{SENDING}::test_what_is_put_off_for_a_day_has_failed",),
    ),
    Mutation(
        "down_counts_to_the_day",
        "A provider that is down uses up nobody's day",
        ANSWERS,
        (
            (
                "tally.later.setdefault(Wait(seconds, attempts, deferred=False), [])",
                "tally.later.setdefault(Wait(seconds, attempts, deferred=True), [])",
            ),
        ),
        (f"{DEFENCES}::test_the_day_after_which_leads_fail_does_not_begin_while_the_provider_is_down",),
    ),
)
