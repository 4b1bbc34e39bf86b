"""What Amazon SES answers: an entry's status for each letter, an exception's name for a whole call.

Source: docs.aws.amazon.com/ses/latest/APIReference-V2, "BulkEmailEntryResult", "SendBulkEmail", "Common Errors".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import orjson

from app.errors import ProviderDown, ProviderError, ProviderRefusesUs
from app.mail import Accepted, Checked, Deferred, Outcome, Refused, Unsure
from app.providers.halving import blame_us
from app.providers.http import Answer
from app.providers.refusal import REFUSED, Meant

SOON: Final = 5.0  # seconds: the sending rate is counted by the second
QUOTA: Final = 3600.0  # seconds: the daily quota counts the last 24 hours, and some of it comes back all the time

SUSPENDED: Final = Meant(ProviderRefusesUs, "AWS has suspended this account's sending: ask its support why.")
PAUSED: Final = Meant(ProviderRefusesUs, "Sending is paused in SES: switch it on again in its console.")
SENDER: Final = Meant(ProviderRefusesUs, "Verify the sender's address or domain in SES, in this very region.")
SET: Final = Meant(ProviderRefusesUs, "SES does not know the configuration set: name one of this region's in the URL.")
SET_PAUSED: Final = Meant(ProviderRefusesUs, "The configuration set is paused: switch it on again in SES's console.")
IP_POOL: Final = Meant(ProviderRefusesUs, "The configuration set names a pool of addresses that is not there: mend it.")
KEY: Final = Meant(ProviderRefusesUs, "AWS refuses the access key: put a right one into the pool's URL.")
RIGHTS: Final = Meant(ProviderRefusesUs, "Allow this access key in IAM what the answer says it may not do.")
CLOCK: Final = Meant(ProviderRefusesUs, "AWS finds the signature out of date: set this machine's clock right.")
RATE: Final = Meant(ProviderDown, "SES takes no more in this second.", SOON)
SPENT: Final = Meant(
    ProviderDown, "SES's quota for 24 hours is used up: wait, or ask for a higher one in its console.", QUOTA
)

# Names of exceptions; those that are not here mean what their status means. "daily quota" and "unverified" are ours,
# for SES says both in the message alone.
CODES: Final[Mapping[str, Meant]] = {
    "daily quota": SPENT,
    "unverified": SENDER,
    "LimitExceededException": SPENT,
    "ThrottlingException": RATE,
    "Throttling": RATE,
    "AccountSuspendedException": SUSPENDED,
    "SendingPausedException": PAUSED,
    "MailFromDomainNotVerifiedException": SENDER,
    "NotFoundException": SET,
    "MessageRejected": REFUSED,
    "BadRequestException": REFUSED,
    "AccessDeniedException": RIGHTS,
    "AccessDenied": RIGHTS,
    "UnrecognizedClientException": KEY,
    "InvalidClientTokenId": KEY,
    "InvalidSignatureException": KEY,
    "SignatureDoesNotMatch": KEY,
    "MissingAuthenticationToken": KEY,
    "MissingAuthenticationTokenException": KEY,
    "IncompleteSignature": KEY,
    "IncompleteSignatureException": KEY,
    "ExpiredTokenException": KEY,
    "RequestExpired": CLOCK,
}
NO_RIGHT: Final = frozenset({"AccessDeniedException", "AccessDenied"})
SAID: Final = {
    "daily message quota": "daily quota",
    "not verified": "unverified",
    "signature expired": "RequestExpired",
}

# What an entry's status means; where it is about our account and some letter was taken, the others wait.
STATUSES: Final[Mapping[str, Callable[[str], Outcome] | Meant]] = {
    "SUCCESS": Accepted,
    "MESSAGE_REJECTED": Refused,
    "INVALID_PARAMETER": Refused,
    "FAILED": Refused,
    "TRANSIENT_FAILURE": Deferred,
    "ACCOUNT_THROTTLED": RATE,
    "ACCOUNT_DAILY_QUOTA_EXCEEDED": SPENT,
    "ACCOUNT_SUSPENDED": SUSPENDED,
    "ACCOUNT_SENDING_PAUSED": PAUSED,
    "CONFIGURATION_SET_SENDING_PAUSED": SET_PAUSED,
    "CONFIGURATION_SET_NOT_FOUND": SET,
    "MAIL_FROM_DOMAIN_NOT_VERIFIED": SENDER,
    "TEMPLATE_NOT_FOUND": Meant(ProviderRefusesUs, "SES did not find the template that came with the call: tell us."),
    "INVALID_SENDING_POOL_NAME": IP_POOL,
}


def error_code(answer: Answer) -> str:
    """The name of an exception: from x-amzn-errortype, or the body's __type; "" where there is none."""
    try:
        told = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        told = {}
    told = told if isinstance(told, dict) else {}
    message = str(told.get("message", told.get("Message", ""))).lower()
    for part, code in SAID.items():
        if part in message:
            return code
    name = answer.headers.get("x-amzn-errortype") or str(told.get("__type", told.get("code", "")))
    return name.partition(":")[0].rpartition("#")[2].strip()


def read_account(told: Mapping[str, Any]) -> Checked:
    """What GetAccount says. Raises ProviderRefusesUs where it may not send, KeyError and the like for nonsense."""
    if told["EnforcementStatus"] == "SHUTDOWN":
        raise _error(SUSPENDED, "")
    if not told["SendingEnabled"]:
        raise _error(PAUSED, "")
    quota = told["SendQuota"]
    most, sent, rate = (float(quota[name]) for name in ("Max24HourSend", "SentLast24Hours", "MaxSendRate"))
    limit = "no limit for 24 hours" if most < 0 else f"{sent:,.0f} of {most:,.0f} emails of the last 24 hours are used"
    said = f"AWS knows this access key: {limit}, {rate:,.0f} a second at most."
    if not told["ProductionAccessEnabled"]:
        said += " The account is still in the sandbox: it sends to verified addresses only."
    if told["EnforcementStatus"] == "PROBATION":
        said += " It is on probation: look in SES's console why."
    return Checked(said)


def read_reply(results: Any, expected: int) -> list[Outcome]:
    """One Outcome per entry, in order. Raises what the statuses say of our account, where no letter was taken.

    Raises ValueError, KeyError or TypeError where there are more or fewer entries, or one is none.
    """
    if not isinstance(results, list) or len(results) != expected:
        raise ValueError(f"{len(results)} results for {expected} letters")
    outcomes = [_outcome(result) for result in results]
    if not any(isinstance(outcome, Accepted | Unsure) for outcome in outcomes):
        _raise_for_all(results, outcomes)
    blame_us(outcomes)
    return outcomes


def _outcome(result: Mapping[str, Any]) -> Outcome:
    status = result["Status"]
    if status == "SUCCESS":
        if not isinstance(result["MessageId"], str) or not result["MessageId"]:
            raise ValueError("a letter that was taken has no id")
        return Accepted(result["MessageId"])
    reason = f"{status}: {result.get('Error') or ''}"[:300]
    match STATUSES.get(status):
        case None:
            return Unsure(f"An answer that is not known: {reason}"[:300])
        case Meant(retry_in=retry_in):
            return Deferred(reason, retry_in)
        case made:
            return made(reason)


def _raise_for_all(results: Sequence[Mapping[str, Any]], outcomes: Sequence[Outcome]) -> None:
    """Our account's trouble goes before a letter's own; passing trouble is the call's where all letters have it."""
    told = [(STATUSES[result["Status"]], str(result.get("Error") or "")) for result in results]
    for meant, said in told:
        if isinstance(meant, Meant) and meant.error is ProviderRefusesUs:
            raise _error(meant, said)
    if all(isinstance(outcome, Deferred) for outcome in outcomes):
        waits = [outcome.retry_in for outcome in outcomes if isinstance(outcome, Deferred) and outcome.retry_in]
        meant, said = next(((m, s) for m, s in told if isinstance(m, Meant)), (RATE, told[0][1]))
        assert isinstance(meant, Meant)
        raise ProviderDown(f"{meant.advice} {said}".strip()[:500], said, max(waits, default=None))


def _error(meant: Meant, said: str) -> ProviderError:
    return meant.error(f"{meant.advice} {said}".strip()[:500], said)
