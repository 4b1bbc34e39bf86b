"""SES v2's SendBulkEmail on a loopback port: it checks each signature by itself, and refuses what SES refuses."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from typing import Any

from tests.providers.api_peer import ApiPeer, Call, Reply
from tests.providers.vendor import BAD, KEY, Vendor

KEY_ID = "AKIAIOSFODNN7EXAMPLE"
REGION = "eu-west-1"
TOKEN_HEADER = "x-amz-security-token"
PATH = "/v2/email/outbound-bulk-emails"
ACCOUNT = "/v2/email/account"
AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([^/]+)/ses/aws4_request, SignedHeaders=([a-z0-9;-]+), "
    r"Signature=([0-9a-f]{64})"
)
NAME, VALUE, TAG = re.compile(r"[!-9;-@A-~]{1,126}"), re.compile(r"[ -~]{1,995}"), re.compile(r"[A-Za-z0-9_-]{1,256}")


def refused(status: int, kind: str, message: str) -> Reply:
    return Reply(status, {"message": message}, {"x-amzn-errortype": f"{kind}:http://internal.amazon.com/coral/"})


class Wrong(Exception):
    """A field that SES would not take."""


class SesPeer(ApiPeer):
    """`statuses`: what the next entries get instead of SUCCESS. `sent` are (address, subject, html, text).

    `account` is what GetAccount answers, None: the key has no right to it. `token`: a temporary key's.
    """

    def __init__(self) -> None:
        self.statuses: list[str] = []
        self.token: str | None = None
        self.account: dict[str, Any] | None = {
            "SendingEnabled": True,
            "ProductionAccessEnabled": True,
            "EnforcementStatus": "HEALTHY",
            "SendQuota": {"Max24HourSend": 50000.0, "MaxSendRate": 14.0, "SentLast24Hours": 1234.0},
        }
        super().__init__()

    def answer(self, call: Call) -> Reply:
        if (call.method, call.path) not in (("POST", PATH), ("GET", ACCOUNT)):
            return refused(404, "UnknownOperationException", "")
        if not signed(call):
            return refused(403, "InvalidSignatureException", "The request signature we calculated does not match.")
        if call.headers.get("x-amz-security-token") != self.token:
            return refused(403, "UnrecognizedClientException", "The security token included in the request is invalid.")
        if call.path == ACCOUNT and self.account is None:
            return refused(403, "AccessDeniedException", "User is not authorized to perform: ses:GetAccount")
        if call.path == ACCOUNT:
            return Reply(200, self.account)
        try:
            return Reply(200, {"BulkEmailEntryResults": self._take(call.json)})
        except (Wrong, KeyError, ValueError) as error:
            return refused(400, "BadRequestException", repr(error))

    def _take(self, told: dict[str, Any]) -> list[dict[str, str]]:
        if not told["FromEmailAddress"].isascii() or len(told["BulkEmailEntries"]) > 50:
            raise Wrong("sender, or more than 50 entries")
        template = told["DefaultContent"]["Template"]
        return [self._one(entry, template) for entry in told["BulkEmailEntries"]]

    def _one(self, entry: dict[str, Any], template: dict[str, Any]) -> dict[str, str]:
        [address] = entry["Destination"]["ToAddresses"]
        for tag in entry["ReplacementTags"]:
            _must(TAG, tag["Name"]), _must(TAG, tag["Value"])
        for header in entry["ReplacementHeaders"]:
            _must(NAME, header["Name"]), _must(VALUE, header["Value"])
        written = entry["ReplacementEmailContent"]["ReplacementTemplate"]["ReplacementTemplateData"]
        if len(written) > 262_144:
            raise Wrong("data")
        data = {**json.loads(template["TemplateData"]), **json.loads(written)}
        parts = [render(template["TemplateContent"].get(name, ""), data) for name in ("Subject", "Html", "Text")]
        status = self.statuses.pop(0) if self.statuses else "MESSAGE_REJECTED" if address == BAD else "SUCCESS"
        if status != "SUCCESS":
            return {"Status": status, "Error": f"because of {status}"}
        self.sent.append((address, *parts))
        return {"Status": "SUCCESS", "MessageId": f"0100-{len(self.sent):06}-000000"}


def signed(call: Call) -> bool:
    """Whether the request bears this account's Signature Version 4, made from AWS's description of it."""
    found = AUTHORIZATION.fullmatch(call.headers.get("authorization", ""))
    if found is None or found[1] != KEY_ID or found[3] != REGION:
        return False
    names = found[4].split(";")
    must = {"host", "x-amz-date", "content-type", *(["x-amz-security-token"] if TOKEN_HEADER in call.headers else [])}
    if not must <= set(names):
        return False
    canonical = "\n".join(
        [
            *(call.method, call.path, ""),
            *[f"{name}:{' '.join(call.headers[name].split())}" for name in names],
            *("", found[4], hashlib.sha256(call.body).hexdigest()),
        ]
    )
    scope = f"{found[2]}/{REGION}/ses/aws4_request"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    text = f"AWS4-HMAC-SHA256\n{call.headers['x-amz-date']}\n{scope}\n{digest}"
    key = f"AWS4{KEY}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.compare_digest(hmac.new(key, text.encode(), "sha256").hexdigest(), found[5])


def render(text: str, data: dict[str, str]) -> str:
    """Handlebars' rule for plain variables: a backslash escapes, three braces are something else, none may lack."""
    if re.search(r"\\\{\{|\{\{\{|\{\{[^{}]*\}\}\}", text):
        raise Wrong("a placeholder that is none")
    return re.sub(r"\{\{(.*?)\}\}", lambda found: data[found[1]], text, flags=re.DOTALL)


def _must(pattern: re.Pattern[str], value: str) -> None:
    if not pattern.fullmatch(value):
        raise Wrong(value)


def ids(call: Call) -> list[dict[str, str]]:
    return [{tag["Name"]: tag["Value"] for tag in entry["ReplacementTags"]} for entry in call.json["BulkEmailEntries"]]


def unsubscribe(call: Call) -> list[dict[str, str]]:
    entries = call.json["BulkEmailEntries"]
    return [{header["Name"]: header["Value"] for header in entry["ReplacementHeaders"]} for entry in entries]


def url(host: str, key: str = KEY, options: str = "") -> str:
    return f"ses://{KEY_ID}:{key}@{host}?tls=none&region={REGION}{options}"


VENDOR = Vendor("ses", SesPeer, url, ids, unsubscribe, throttled={"message": "Maximum sending rate exceeded."})
