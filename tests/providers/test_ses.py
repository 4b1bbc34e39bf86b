"""Amazon SES: what a call holds, and what each of its answers means."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import orjson
import pytest

from app.errors import Invalid, ProviderDown, ProviderError, ProviderRefusesUs, ProviderUnsure
from app.mail import Accepted, Content, Deferred, Outcome, Parts, Refused, Unsure
from app.providers import open_provider
from app.providers.ses import LARGEST, SesAccount, sender, template
from app.providers.ses_replies import STATUSES
from tests.provider_peers import batch_of, letters_to
from tests.providers.api_peer import Reply, running
from tests.providers.ses_peer import SesPeer, refused, render, url
from tests.providers.vendor import KEY

HELLO = Parts(("Hello ", "!"), (0,))


@contextmanager
def ses(*replies: Reply, options: str = "") -> Iterator[tuple]:
    with running(SesPeer()) as peer:
        peer.script(*replies)
        provider = open_provider(url(peer.host, options=options), deadline=5.0)
        try:
            yield provider, peer
        finally:
            provider.close()


def outcomes_of(*statuses: str) -> list[Outcome]:
    with ses() as (provider, peer):
        peer.statuses += statuses
        return provider.send(batch_of(letters_to(*[f"lead{n}@example.com" for n in range(len(statuses))])))


def test_a_letter_reads_as_its_finished_body_would() -> None:
    content = Content(
        1,
        Parts(("{{not mine}} ", "{", " \\", ""), (0, 1, 0)),
        Parts(("<style>@media{p{color:red}}</style>{", "}}{", "{{{", "}}\\{{x}} \\"), (0, 1, 0)),
        Parts(("", "} a {{mine}} b {", "}} c", " \\{{x}} d"), (1, 0, 1)),
    )
    letters = letters_to("ada@example.com", "grace@example.com", values=('Ada {{x}} & "<b>"', "\\{{v0}}"))
    with ses() as (provider, peer):
        assert provider.send(batch_of(letters, content=content)) == [
            Accepted("0100-000001-000000"),
            Accepted("0100-000002-000000"),
        ]
        values = letters[0].values
        finished = (content.subject.fill(values), content.html.fill(values), content.text.fill(values))
        assert peer.sent == [(letter.address, *finished) for letter in letters]


def test_what_the_call_holds() -> None:
    with ses(options="&configuration_set=campaigns") as (provider, peer):
        provider.send(batch_of(letters_to("ada@example.com", values=("Ada",))))
        [call] = peer.calls
    told = call.json
    assert told["FromEmailAddress"] == "Ada's Letters <news@example.com>"
    assert told["ReplyToAddresses"] == ["answers@example.com"]
    assert told["ConfigurationSetName"] == "campaigns"
    assert told["DefaultContent"]["Template"]["TemplateContent"] == {
        "Subject": "Hello {{v0}}!",
        "Html": "<p>{{v0}}</p>",
        "Text": "Hi {{v0}}\n",
    }
    [entry] = told["BulkEmailEntries"]
    assert orjson.loads(entry["ReplacementEmailContent"]["ReplacementTemplate"]["ReplacementTemplateData"]) == {
        "open": "{",
        "close": "}",
        "slash": "\\",
        "v0": "Ada",
    }


def test_braces_that_nobody_could_mistake_stay_as_they_are() -> None:
    css = "p{color:red}\n@media screen{a{b:c}}\n"
    assert template(Parts((css,), ())) == css
    assert render(template(Parts(("{", "}"), (0,))), {"v0": "x", "open": "{", "close": "}"}) == "{x}"


def test_a_name_in_other_letters_is_encoded_and_breaks_no_line() -> None:
    assert sender("Zoë\r\nBcc: x@example.com", "news@example.com").isascii()
    assert "\n" not in sender("Zoe\r\nBcc: x@example.com", "news@example.com")
    assert sender('Ada "A" Ltd.', "news@example.com") == '"Ada \\"A\\" Ltd." <news@example.com>'


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        ("SUCCESS", Accepted("0100-000002-000000")),
        ("MESSAGE_REJECTED", Refused("MESSAGE_REJECTED: because of MESSAGE_REJECTED")),
        ("INVALID_PARAMETER", Refused("INVALID_PARAMETER: because of INVALID_PARAMETER")),
        ("FAILED", Refused("FAILED: because of FAILED")),
        ("TRANSIENT_FAILURE", Deferred("TRANSIENT_FAILURE: because of TRANSIENT_FAILURE", None)),
        ("ACCOUNT_THROTTLED", Deferred("ACCOUNT_THROTTLED: because of ACCOUNT_THROTTLED", 5.0)),
        (
            "ACCOUNT_DAILY_QUOTA_EXCEEDED",
            Deferred("ACCOUNT_DAILY_QUOTA_EXCEEDED: because of ACCOUNT_DAILY_QUOTA_EXCEEDED", 3600.0),
        ),
        ("SOMETHING_NEW", Unsure("An answer that is not known: SOMETHING_NEW: because of SOMETHING_NEW")),
        *[
            (status, Deferred(f"{status}: because of {status}", None))
            for status in (
                "ACCOUNT_SUSPENDED",
                "ACCOUNT_SENDING_PAUSED",
                "CONFIGURATION_SET_SENDING_PAUSED",
                "CONFIGURATION_SET_NOT_FOUND",
                "MAIL_FROM_DOMAIN_NOT_VERIFIED",
                "TEMPLATE_NOT_FOUND",
                "INVALID_SENDING_POOL_NAME",
            )
        ],
    ],
)
def test_an_entrys_status_is_its_letters_outcome(status: str, outcome: Outcome) -> None:
    assert outcomes_of("SUCCESS", status) == [Accepted("0100-000001-000000"), outcome]


@pytest.mark.parametrize(
    "results",
    [
        [],
        [{"Status": "SUCCESS", "MessageId": "a"}],
        [{"Status": "SUCCESS", "MessageId": "a"}] * 3,
        [{"Status": "SUCCESS", "MessageId": "a"}, {"Status": "SUCCESS", "MessageId": ""}],
        [{"Status": "SUCCESS", "MessageId": "a"}, {"Status": "SUCCESS"}],
        [{"Status": "SUCCESS", "MessageId": "a"}, {}],
        {"0": {"Status": "SUCCESS", "MessageId": "a"}, "1": {"Status": "SUCCESS", "MessageId": "b"}},
    ],
)
def test_a_reply_that_does_not_answer_each_letter_leaves_all_unknown(results: object) -> None:
    with ses(Reply(200, {"BulkEmailEntryResults": results})) as (provider, _), pytest.raises(ProviderUnsure):
        provider.send(batch_of(letters_to("ada@example.com", "grace@example.com")))


def test_all_fourteen_statuses_are_in_the_table() -> None:
    from botocore.session import get_session  # the vendor's own list

    shape = get_session().get_service_model("sesv2").shape_for("BulkEmailStatus")
    assert set(shape.enum) == set(STATUSES) and len(STATUSES) == 14


@pytest.mark.parametrize(
    ("statuses", "meaning", "advice"),
    [
        (["ACCOUNT_SUSPENDED"] * 3, ProviderRefusesUs, "ask its support"),
        (["INVALID_PARAMETER", "ACCOUNT_SENDING_PAUSED"], ProviderRefusesUs, "switch it on again"),
        (["CONFIGURATION_SET_NOT_FOUND"], ProviderRefusesUs, "configuration set"),
        (["MAIL_FROM_DOMAIN_NOT_VERIFIED"], ProviderRefusesUs, "Verify"),
        (["ACCOUNT_THROTTLED", "TRANSIENT_FAILURE"], ProviderDown, "no more"),
        (["ACCOUNT_DAILY_QUOTA_EXCEEDED"] * 2, ProviderDown, "24 hours"),
        (["MESSAGE_REJECTED"] * 10, ProviderRefusesUs, "Every one"),
    ],
)
def test_where_none_was_taken_our_accounts_trouble_is_the_whole_calls(
    statuses: list[str], meaning: type[ProviderError], advice: str
) -> None:
    with pytest.raises(ProviderError) as caught:
        outcomes_of(*statuses)
    assert type(caught.value) is meaning
    assert advice in str(caught.value)


def test_three_throttled_and_one_bad_of_fifty_leave_forty_six_sent() -> None:
    outcomes = outcomes_of(*["SUCCESS"] * 20, *["ACCOUNT_THROTTLED"] * 3, "INVALID_PARAMETER", *["SUCCESS"] * 26)
    kinds = [type(outcome) for outcome in outcomes]
    assert (kinds.count(Accepted), kinds.count(Deferred), kinds.count(Refused)) == (46, 3, 1)
    assert kinds[20:24] == [Deferred, Deferred, Deferred, Refused]


@pytest.mark.parametrize(
    ("status", "kind", "message", "meaning", "retry_in"),
    [
        (429, "TooManyRequestsException", "Maximum sending rate exceeded.", ProviderDown, None),
        (400, "ThrottlingException", "Maximum sending rate exceeded.", ProviderDown, 5.0),
        (400, "ThrottlingException", "Daily message quota exceeded.", ProviderDown, 3600.0),
        (400, "LimitExceededException", "Daily message quota exceeded.", ProviderDown, 3600.0),
        (400, "AccountSuspendedException", "", ProviderRefusesUs, None),
        (400, "SendingPausedException", "", ProviderRefusesUs, None),
        (400, "MailFromDomainNotVerifiedException", "", ProviderRefusesUs, None),
        (400, "MessageRejected", "Email address is not verified. The following …", ProviderRefusesUs, None),
        (404, "NotFoundException", "Configuration set <x> does not exist.", ProviderRefusesUs, None),
        (400, "ExpiredTokenException", "", ProviderRefusesUs, None),
        (403, "InvalidSignatureException", "Signature expired: 2026… is now earlier than …", ProviderRefusesUs, None),
        (403, "AccessDeniedException", "User is not authorized", ProviderRefusesUs, None),
        (503, "ServiceUnavailable", "", ProviderDown, None),
    ],
)
def test_an_exception_is_the_whole_calls(
    status: int, kind: str, message: str, meaning: type[ProviderError], retry_in: float | None
) -> None:
    with ses(refused(status, kind, message)) as (provider, peer), pytest.raises(ProviderError) as caught:
        provider.send(batch_of(letters_to("ada@example.com", "grace@example.com")))
    assert type(caught.value) is meaning and len(peer.calls) == 1
    assert getattr(caught.value, "retry_in", None) == retry_in


def test_an_exceptions_name_is_found_in_the_body_as_well() -> None:
    reply = Reply(400, {"__type": "com.amazonaws.sesv2#SendingPausedException", "message": "paused"})
    with ses(reply) as (provider, _), pytest.raises(ProviderRefusesUs):
        provider.send(batch_of(letters_to("ada@example.com")))


def test_a_clock_that_is_wrong_is_what_a_person_is_told() -> None:
    reply = refused(403, "InvalidSignatureException", "Signature expired: 20261122T000000Z is now earlier than …")
    with ses(reply) as (provider, _), pytest.raises(ProviderRefusesUs, match="clock"):
        provider.send(batch_of(letters_to("ada@example.com")))


def test_a_bad_request_is_halved_until_the_bad_letter_stands_alone() -> None:
    letters = letters_to(*[f"lead{n}@example.com" for n in range(50)])
    with ses() as (provider, peer):
        honest = peer.answer
        peer.answer = lambda call: refused(400, "BadRequestException", "no") if b"lead7@" in call.body else honest(call)
        outcomes = provider.send(batch_of(letters))
        assert [at for at, outcome in enumerate(outcomes) if isinstance(outcome, Refused)] == [7]
        assert sorted(sent[0] for sent in peer.sent) == sorted(
            each.address for each in letters if "lead7@" not in each[1]
        )
        assert len(peer.calls) <= 13


def test_a_call_that_is_too_large_leaves_in_parts_and_a_letter_that_is_too_large_does_not_leave() -> None:
    half, over = "x" * 240_000, "x" * 270_000
    letters = [
        letter._replace(values=(value,))
        for letter, value in zip(
            letters_to(*[f"l{n}@example.com" for n in range(10)]), [half] * 9 + [over], strict=True
        )
    ]
    with ses() as (provider, peer):
        outcomes = provider.send(batch_of(letters))
        assert [type(outcome) for outcome in outcomes] == [Accepted] * 9 + [Refused]
        assert len(peer.sent) == 9 and max(len(call.body) for call in peer.calls) <= LARGEST


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ("ses://email.eu-west-1.amazonaws.com", "access key's id"),
        (f"ses://:{KEY}@email.eu-west-1.amazonaws.com", "access key's id"),
        (f"ses://AKIA:{KEY}@mail.example.com", "region"),
        (f"ses://AKIA:{KEY}@mail.example.com?region=eu-west-1&tls=none", "this very machine"),
        (f"ses://AKIA:{KEY}@email.eu-west-1.amazonaws.com?configuration_set=a%20b", "letters, digits"),
        (f"ses://AKIA:{KEY}@email.eu-west-1.amazonaws.com?retries=3", "unknown"),
    ],
)
def test_a_url_that_will_not_do_says_why_and_never_the_key(typed: str, sentence: str) -> None:
    with pytest.raises(Invalid, match=sentence) as caught:
        SesAccount.read(typed)
    assert KEY not in str(caught.value)


def test_the_region_is_read_from_the_host_and_a_secret_may_hold_slashes() -> None:
    account = SesAccount.read("ses://AKIA:ab%2Fcd%2Bef@email.ap-southeast-2.amazonaws.com?configuration_set=news")
    assert (account.region, account.configuration_set) == ("ap-southeast-2", "news")
    assert account.account.key == "ab/cd+ef" and account.account.base == "https://email.ap-southeast-2.amazonaws.com"
    assert "ab/cd" not in repr(account)
