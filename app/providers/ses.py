"""Amazon SES, API v2: bulk calls of one inline template with variables, and an answer for each letter.

Facts: docs.aws.amazon.com/ses, "SendBulkEmail", "Using templates to send personalized email". SES takes no key and
cannot be asked afterwards: its events tell. Signed by botocore, called by ourselves, so that nothing is repeated.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import formataddr
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import UUID

import orjson
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from app.errors import Invalid
from app.mail import Batch, Capabilities, Checked, Kind, Letter, Outcome, Parts
from app.providers import variables
from app.providers.account import COMMON, Account, reached
from app.providers.address import read_address
from app.providers.halving import CallRefused, fitting, halve
from app.providers.ids import ids_of, unsubscribe_headers
from app.providers.refusal import judge_code, making_sense
from app.providers.ses_replies import CODES, NO_RIGHT, error_code, read_account, read_reply
from app.uptime import uptime

SEND: Final = "/v2/email/outbound-bulk-emails"
ACCOUNT: Final = "/v2/email/account"
BATCH: Final = 50  # recipients of a call
LARGEST: Final = 1_000_000  # bytes of a call with an inline template
LARGEST_DATA: Final = 262_144  # characters of one letter's variables
HOST: Final = re.compile(r"email(?:-fips)?\.([a-z0-9-]+)\.(?:amazonaws\.com|api\.aws|amazonaws\.com\.cn)")
EXAMPLE: Final = "ses://ACCESS_KEY_ID:SECRET@email.eu-west-1.amazonaws.com?configuration_set=NAME"
# What would look like a placeholder, or melt into one beside it, is put in through variables of its own: SES documents
# no way to write {{ as it is.
SIGNS: Final[Mapping[str, str]] = {"{": "open", "}": "close", "\\": "slash"}
RUN: Final = re.compile(r"[{}\\]+")


@dataclass(frozen=True, slots=True)
class SesAccount:
    """An access key of IAM, and the region that it speaks to; `account.key` is the secret one.

    `token` is the session's, where the key is a temporary one (it begins with ASIA), and ends with it.
    """

    account: Account
    key_id: str
    region: str
    configuration_set: str = field(default="")
    token: str | None = field(default=None, repr=False)

    @classmethod
    def read(cls, url: str) -> SesAccount:
        """Raises Invalid, pointer "url"."""
        address = read_address(url, {**COMMON, "configuration_set": _name, "region": _name, "token": _token})
        if not address.user or not address.password:
            raise Invalid.one("url", f"The URL needs an access key's id and its secret: {EXAMPLE}.")
        found = HOST.fullmatch(address.host)
        region = address.options.get("region", found[1] if found else "")
        if not region:
            raise Invalid.one("url", "This host names no region: say which one, like region=eu-west-1.")
        base, context = reached(address)
        return cls(
            account=Account(base, address.password, context, address.options, address.resolve),
            key_id=address.user,
            region=region,
            configuration_set=address.options.get("configuration_set", ""),
            token=address.options.get("token"),
        )


class Ses:
    """One account in one region, with the configuration set whose events are told."""

    def __init__(self, account: SesAccount, *, deadline: float) -> None:
        self.account = account.account
        self.http = self.account.http(SEND)
        self.signer = SigV4Auth(Credentials(account.key_id, self.account.key, account.token), "ses", account.region)
        self.configuration_set = account.configuration_set
        self.deadline = deadline
        self.capabilities = Capabilities(batch=BATCH, distinct_body=False, largest_call=LARGEST)

    def send(self, batch: Batch) -> list[Outcome]:
        """One Outcome per letter, in order; raises ProviderDown, ProviderUnsure or ProviderRefusesUs for all."""
        if not batch.letters:
            return []
        until = uptime() + self.deadline

        def call(part: Batch) -> list[Outcome]:
            body = fitting(write_call(part, self.configuration_set), self.capabilities.largest_call, "SES")
            answer = self.http.post(body, self._signed("POST", SEND, body), until)
            judge_code(answer, error_code(answer), CODES)
            with making_sense(answer):
                return read_reply(orjson.loads(answer.body)["BulkEmailEntryResults"], len(part.letters))

        return halve(batch, call, until)

    def look_up(self, handoff_id: int, key: UUID, lead_ids: Sequence[int]) -> dict[int, Kind]:
        """SES knows no such question: its events tell, or nobody."""
        return {}

    def check(self) -> Checked:
        """The account's quota, and whether it may send; raises ProviderError."""
        answer = self.account.ask(ACCOUNT, self._signed("GET", ACCOUNT, b""), uptime() + self.deadline)
        code = error_code(answer)
        if answer.status == 403 and code in NO_RIGHT:  # said only after the signature was found good
            return Checked(
                "AWS knows this access key. It may not read the account's quota (in IAM: ses:GetAccount), so only an "
                "email shows whether it may send: send a test."
            )
        judge_code(answer, code, CODES)
        with making_sense(answer):
            return read_account(orjson.loads(answer.body))

    def close(self) -> None:
        self.http.close()

    def _signed(self, method: str, path: str, body: bytes) -> list[tuple[bytes, bytes]]:
        """Signature Version 4; the Host that is signed is the one that `Http` sends."""
        url = self.account.base + path
        headers = {"Host": urlsplit(url).netloc, "Content-Type": "application/json"}
        request = AWSRequest(method, url, headers=headers, data=body)
        self.signer.add_auth(request)
        signed = [(name.lower().encode(), str(value).encode()) for name, value in request.headers.items()]
        return [each for each in signed if each[0] != b"host"] + [(b"user-agent", b"millrace")]


def write_call(batch: Batch, configuration_set: str) -> bytes:
    """The JSON body of one call. Raises CallRefused, before anything left us, where SES would take none of it."""
    content = {"Subject": batch.content.subject, "Html": batch.content.html, "Text": batch.content.text}
    shared = {name: sign for sign, name in SIGNS.items()}
    body: dict[str, Any] = {
        "FromEmailAddress": sender(batch.from_name, batch.from_address),
        "DefaultContent": {
            "Template": {
                "TemplateContent": {name: written for name, parts in content.items() if (written := template(parts))},
                "TemplateData": orjson.dumps(shared).decode(),
            }
        },
        "BulkEmailEntries": [_entry(batch, letter, shared) for letter in batch.letters],
    }
    if batch.reply_to:
        body["ReplyToAddresses"] = [batch.reply_to]
    if configuration_set:
        body["ConfigurationSetName"] = configuration_set
    return orjson.dumps(body)


def template(parts: Parts) -> str:
    """The text with {{v0}}, {{v1}} … for its slots. SES puts values in as they are, and escapes nothing.

    Source: docs.aws.amazon.com/ses/latest/dg/send-personalized-email-advanced.html ("SES doesn't escape HTML").
    """
    return variables.template(parts, "{{{{v{}}}}}".format, _escape)


def sender(name: str, address: str) -> str:
    """`Name <address>`; SES wants other than ASCII letters as an encoded word (RFC 2047). No line break survives."""
    return formataddr(("".join(each if each.isprintable() else " " for each in name).strip(), address))


def _entry(batch: Batch, letter: Letter, shared: Mapping[str, str]) -> dict[str, Any]:
    """One letter: signs are in its own data, too, for SES says little about how both are laid together."""
    own = {f"v{slot}": value for slot, value in enumerate(variables.values(letter))}
    data = orjson.dumps({**shared, **own}).decode()
    if len(data) > LARGEST_DATA:
        raise CallRefused(f"A letter's variables have {len(data):,} characters, and SES takes {LARGEST_DATA:,}.")
    headers = unsubscribe_headers(letter)
    return {
        "Destination": {"ToAddresses": [letter.address]},
        "ReplacementTags": [{"Name": name, "Value": value} for name, value in ids_of(batch, letter).items()],
        "ReplacementEmailContent": {"ReplacementTemplate": {"ReplacementTemplateData": data}},
        "ReplacementHeaders": [{"Name": name, "Value": value} for name, value in headers.items()],
    }


def _escape(static: str) -> str:
    """Braces stand as they are where they are alone; a run of them beside a placeholder, or with {{ in it, does not."""

    def protect(found: re.Match[str]) -> str:
        run = found[0]
        if "{{" not in run and found.start() > 0 and found.end() < len(static):
            return run
        return "".join(f"{{{{{SIGNS[sign]}}}}}" for sign in run)

    return RUN.sub(protect, static)


def _token(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9+/=_.-]{16,4096}", value):
        raise ValueError("a session token, with + as %2B and / as %2F")
    return value


def _name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", value):
        raise ValueError("a name of letters, digits, - and _")
    return value
