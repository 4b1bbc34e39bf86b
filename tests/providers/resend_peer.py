"""Resend on a loopback port: permissive or strict, with keys that are kept, as its API documents."""

from __future__ import annotations

import re
from typing import Any

from tests.providers.api_peer import ApiPeer, Call, Reply
from tests.providers.vendor import BAD, KEY, Vendor

FIELDS = {"from", "to", "subject", "html", "text", "reply_to", "headers", "tags"}
TAG = re.compile(r"[A-Za-z0-9_-]{1,256}")


class ResendPeer(ApiPeer):
    """`keys` are the bodies and replies of calls that were taken; `domains` those that may send.

    `sending_only`: the key is a restricted one.
    """

    def __init__(self) -> None:
        super().__init__()
        self.keys: dict[str, tuple[bytes, Reply]] = {}
        self.domains = {"example.com"}
        self.sending_only = False

    def answer(self, call: Call) -> Reply:
        if "authorization" not in call.headers:
            return error(401, "missing_api_key", "Missing API key in the authorization header.")
        if call.headers["authorization"] != f"Bearer {KEY}":
            return error(403, "invalid_api_key", "API key is invalid.")
        if (call.method, call.path) == ("GET", "/domains"):
            if self.sending_only:
                return error(401, "restricted_api_key", "This API key is restricted to only send emails")
            return Reply(
                200, {"object": "list", "data": [{"name": each, "status": "verified"} for each in self.domains]}
            )
        if (call.method, call.path) != ("POST", "/emails/batch"):
            return error(404, "not_found", "No such endpoint.")
        key = call.headers.get("idempotency-key", "")
        if not 1 <= len(key) <= 256:
            return error(400, "invalid_idempotency_key", "The key must be between 1-256 chars.")
        if key in self.keys:
            body, reply = self.keys[key]
            return reply if body == call.body else error(409, "invalid_idempotent_request", "Another payload.")
        reply = self._batch(call)
        if reply.status == 200:
            self.keys[key] = (call.body, reply)
        return reply

    def _batch(self, call: Call) -> Reply:
        emails = call.json
        if not isinstance(emails, list) or not 1 <= len(emails) <= 100:
            return error(422, "validation_error", "A batch is an array of 1 to 100 emails.")
        for email in emails:
            if email["from"].rpartition("@")[2].rstrip(">") not in self.domains:
                return error(403, "validation_error", "The domain is not verified.")
        faults = {index: fault for index, email in enumerate(emails) if (fault := _fault(email))}
        if faults and call.headers.get("x-batch-validation") != "permissive":
            return error(422, "validation_error", next(iter(faults.values())))
        data = []
        for index, email in enumerate(emails):
            if index not in faults:
                data.append({"id": email_id(len(self.sent))})
                self.sent.append(email)
        errors = [{"index": index, "message": fault} for index, fault in faults.items()]
        return Reply(200, {"data": data, **({"errors": errors} if errors else {})})


def _fault(email: dict[str, Any]) -> str:
    if set(email) - FIELDS:
        return "Unknown fields."
    if not all(re.fullmatch(r"[^@\s]+@[^@\s]+\.[^@\s]+", to) and to != BAD for to in email["to"]):
        return "Invalid `to` field. The email address needs to follow the `email@example.com` format."
    if not email.get("subject") or not (email.get("html") or email.get("text")):
        return "Missing `html` or `text` field."
    if not all(TAG.fullmatch(tag["name"]) and TAG.fullmatch(tag["value"]) for tag in email.get("tags", [])):
        return "Tags should only contain ASCII letters, numbers, underscores, or dashes."
    return ""


def error(status: int, name: str, message: str) -> Reply:
    return Reply(status, {"statusCode": status, "name": name, "message": message})


def email_id(number: int) -> str:
    return f"ae2014de-c168-4c61-8267-{number:012}"


VENDOR = Vendor(
    name="resend",
    peer=ResendPeer,
    url=lambda host, key: f"resend://:{key}@{host}?tls=none",
    ids=lambda call: [{tag["name"]: tag["value"] for tag in email["tags"]} for email in call.json],
    unsubscribe=lambda call: [email["headers"] for email in call.json],
    throttled={"statusCode": 429, "name": "rate_limit_exceeded", "message": "Too many requests."},
)
