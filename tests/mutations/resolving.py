"""Resolving what is unknown: by the same call again, webhooks, people, policies; nothing twice."""

from __future__ import annotations

from typing import Final

from tests.mutations.mutation import DEFENCES, FAULTS, HANDOFF, REPEAT, RESOLVE, UNKNOWNS, Mutation

RESOLVING: Final = (
    Mutation(
        "known_is_overwritten",
        "What is known is never overwritten by what comes later",
        RESOLVE,
        (
            (
                "        if verdict is None or letters[place] not in (SUPPOSED if verdict.letter == SENT else over):\n",
                "        if verdict is None or letters[place] not in COUNTS_AS or letters[place] == verdict.letter:\n",
            ),
        ),
        (f"{FAULTS}::test_a_late_answer_overwrites_nothing_that_is_known",),
    ),
    Mutation(
        "repeat_under_a_new_key",
        "A lost call is made again under its first key",
        REPEAT,
        ((".batch(call.id, call.key, call.run,", '.batch(call.id, __import__("uuid").uuid4(), call.run,'),),
        ("tests/test_repeat.py::test_a_lost_reply_is_asked_for_again_and_nobody_is_mailed_twice",),
    ),
    Mutation(
        "repeat_of_a_subset",
        "A lost call is made again whole",
        REPEAT,
        (
            (
                ".batch(call.id, call.key, call.run, frozen.letters)",
                '.batch(call.id, call.key, call.run, [a for a, b in zip(frozen.letters, call.letters) if b == "u"])',
            ),
        ),
        (f"{DEFENCES}::test_a_call_of_which_some_leads_are_known_is_made_again_whole",),
    ),
    Mutation(
        "repeat_of_other_bytes",
        "A lost call is made again from what was frozen, not from what is there now",
        REPEAT,
        (
            (
                "    return replace(batch, from_name=frozen.from_name, from_address=frozen.from_address,"
                " reply_to=frozen.reply_to)\n",
                "    return replace(batch)\n",
            ),
        ),
        ("tests/test_repeat.py::test_the_repeat_has_the_same_key_leads_and_bytes_though_the_leads_changed",),
    ),
    Mutation(
        "repeat_after_the_key",
        "A call whose key is no longer honoured is not made again",
        REPEAT,
        (("    if call.lives < lease:", "    if call.lives < -1e9:"),),
        ("tests/test_repeat.py::test_a_call_whose_key_is_too_old_is_not_made_again",),
    ),
    Mutation(
        "repeat_at_another_account",
        "A call is not made again at another account",
        REPEAT,
        (
            (
                "    if account_of(sending.pool_url) != frozen.account:\n",
                "    if False:\n",
            ),
        ),
        ("tests/test_repeat.py::test_a_call_is_not_made_again_at_another_account",),
    ),
    Mutation(
        "repeat_and_a_later_range",
        "A call of which some leads wait in a later range is not made again",
        HANDOFF,
        (
            (
                "                  strpos(letters, 'u') > 0 AND whole AS again\n",
                "                  strpos(letters, 'u') > 0 AS again\n",
            ),
        ),
        ("tests/test_repeat.py::test_a_call_of_which_some_leads_wait_in_a_later_range_is_not_made_again",),
    ),
    Mutation(
        "late_deferral_and_a_repeat",
        "Leads of a call that will be made again are not put into a later range by a late answer",
        RESOLVE,
        (("        if standing.repeats and verdict.letter in (DEFERRED, AGAIN):\n            continue\n", ""),),
        ("tests/test_repeat.py::test_a_late_answer_that_put_leads_off_does_not_double_what_the_repeat_sends",),
    ),
    Mutation(
        "late_deferral_after_a_repeat",
        "Nor are leads of a call that was made again: the repeat may have been taken",
        RESOLVE,
        (("        if standing.tries and verdict.letter == DEFERRED:\n            continue\n", ""),),
        (
            f"{DEFENCES}::test_a_worker_that_wakes_after_its_call_was_made_again_in_vain_puts_nobody_off",
            f"{DEFENCES}::test_whom_a_repeat_is_unsure_of_is_not_put_off_by_a_worker_that_wakes",
        ),
    ),
    Mutation(
        "evidence_of_another_pool",
        "A pool's webhooks prove nothing about another's emails",
        RESOLVE,
        (
            (
                "origin is not None and origin.pool_id == pool_id and _is_open(",
                "origin is not None and _is_open(",
            ),
        ),
        ("tests/test_evidence.py::test_webhooks_of_another_pool_or_of_other_leads_prove_nothing",),
    ),
    Mutation(
        "early_evidence_forgotten",
        "What webhooks say before the call is settled is kept",
        RESOLVE,
        (("    handoff.remember_evidence(conn, early)\n", ""),),
        ("tests/test_evidence.py::test_a_webhook_that_comes_before_the_worker_dies_is_not_forgotten",),
    ),
    Mutation(
        "settled_against_evidence",
        "A call of which a webhook spoke before its answer is not settled without heeding it",
        HANDOFF,
        (("   AND (handoff.evidence IS NULL OR NOT :unspoken)\n", "   AND (:unspoken OR NOT :unspoken)\n"),),
        ("tests/test_evidence.py::test_a_webhook_that_comes_before_the_answer_holds_against_it",),
    ),
    Mutation(
        "resend_while_webhooks_are_silent",
        "The policy `resend` waits where webhooks are not known to arrive",
        UNKNOWNS,
        (("and each.arrive and not each.resent", "and not each.resent"),),
        ("tests/test_unknowns.py::test_the_policy_resend_waits_for_ever_where_webhooks_are_not_known_to_arrive",),
    ),
    Mutation(
        "resend_while_evidence_lies_unread",
        "The policy `resend` waits while a post that came since the call is unread",
        "app/models/unknown.sql",
        (("                  AND webhook.tries < 3\n", "                  AND webhook.tries < 0\n"),),
        ("tests/test_policies.py::test_the_policy_resend_waits_while_a_post_that_came_since_is_unread",),
    ),
    Mutation(
        "resend_over_a_gap",
        "The policy `resend` waits where the pool's webhooks may have found us away",
        UNKNOWNS,
        ((" and each.id in silent)", ")"),),
        (
            "tests/test_policies.py"
            "::test_the_policy_resend_sends_nothing_of_which_a_webhook_may_have_found_us_away[amid]",
        ),
    ),
    Mutation(
        "whole_after_its_halves",
        "That a call leaves in halves is written before they do: the whole is never made again",
        "app/providers/halving.py",
        (("            batch.halving()\n", "            pass\n"),),
        ("tests/test_repeat.py::test_a_worker_that_dies_between_two_halves_leaves_nothing_to_be_made_again[first]",),
    ),
    Mutation(
        "decided_while_halves_are_under_way",
        "Nobody decides on a call while its parts are on their way",
        HANDOFF,
        (
            (
                "   SET frozen = CASE WHEN :tries > 0 THEN CAST('' AS bytea) END,\n",
                "   SET frozen = NULL,\n       repeat_at = NULL,\n",
            ),
        ),
        ("tests/test_repeat.py::test_nobody_decides_on_a_call_while_its_parts_are_on_their_way",),
    ),
    Mutation(
        "hold_since_the_first_call",
        "Silence is waited for anew after each repeat",
        HANDOFF,
        (("       made_at = now()\n", "       made_at = handoff.made_at\n"),),
        ("tests/test_repeat.py::test_silence_is_waited_for_anew_after_each_repeat",),
    ),
    Mutation(
        "halves_of_anothers_call",
        "Who has lost a call sends no half of it",
        HANDOFF,
        (
            (
                "   AND repeats = :tries\n"
                "   AND CASE WHEN :tries = 0 THEN state = 'handed' ELSE repeat_at IS NOT NULL END\n",
                "   AND :tries >= 0\n",
            ),
        ),
        ("tests/test_repeat.py::test_who_lost_a_call_meanwhile_sends_no_half_of_it",),
    ),
    Mutation(
        "one_stops_all_repeats",
        "A call that cannot be put together again stops no other",
        REPEAT,
        (
            (
                "    except Unavailable:\n        raise\n    except Exception as error:\n",
                "    except Unavailable as error:\n",
            ),
        ),
        ("tests/test_repeat.py::test_a_call_that_cannot_be_put_together_stops_no_other",),
    ),
    Mutation(
        "old_repeat_closes_the_breaker",
        "A repeat of before does not close a breaker that opened meanwhile",
        REPEAT,
        (("            if _tries_pool(call):  #", "            if True:  #"),),
        ("tests/test_repeat.py::test_a_repeat_of_before_does_not_close_a_breaker_that_opened_meanwhile",),
    ),
    Mutation(
        "sleep_does_not_count",
        "Deadlines go on while the machine sleeps",
        "app/uptime.py",
        (('getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)', "time.CLOCK_MONOTONIC"),),
        ("tests/test_uptime.py::test_it_counts_what_the_machine_slept",),
    ),
    Mutation(
        "decided_after_a_cancel",
        "What is decided on unknown calls is decided under the campaign's lock",
        UNKNOWNS,
        (
            (
                "        _check(conn, organisation_id, campaign_id, states)\n        found = unknown.find_undecided(",
                "        found = unknown.find_undecided(",
            ),
        ),
        (
            "tests/test_policies.py"
            "::test_a_cancel_waits_for_the_step_that_is_being_decided_and_none_is_decided_after_it",
        ),
    ),
    Mutation(
        "resend_for_ever",
        "The policy `resend` sends once more and never a third time",
        UNKNOWNS,
        (("and each.arrive and not each.resent", "and each.arrive"),),
        ("tests/test_unknowns.py::test_the_policy_resend_sends_once_more_and_never_a_third_time",),
    ),
    Mutation(
        "no_hold",
        "No policy acts before the pool's slowest webhook could have come",
        UNKNOWNS,
        (
            (
                "policy = _policy(each, waits.silent) if each.age > hold else",
                "policy = _policy(each, waits.silent) if True else",
            ),
        ),
        ("tests/test_unknowns.py::test_the_hold_is_longer_than_the_webhooks_take",),
    ),
)
