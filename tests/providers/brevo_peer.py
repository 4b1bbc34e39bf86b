"""Brevo on a loopback port: versions of a message, filled by its template language, under keys that it takes once."""

from __future__ import annotations

import re
from typing import Any
from uuid import UUID

from tests.providers.api_peer import ApiPeer, Call, Reply
from tests.providers.vendor import BAD, KEY, Vendor

FIELDS = {"sender", "subject", "htmlContent", "textContent", "replyTo", "headers", "tags", "messageVersions"}
VERSION = {"to", "subject", "htmlContent", "textContent", "headers"}
TEMPLATE = re.compile(r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}", re.DOTALL)


class BrevoPeer(ApiPeer):
    """`keys` came before; `senders` may send. What it sends is what its template language leaves of it."""

    def __init__(self) -> None:
        super().__init__()
        self.keys: set[str] = set()
        self.senders = {"news@example.com"}
        self.enabled = True
        self.plan = [
            {"type": "subscription", "credits": 39983, "creditsType": "sendLimit"},
            {"type": "sms", "credits": 999.5, "creditsType": "sendLimit"},
        ]

    def answer(self, call: Call) -> Reply:
        if call.headers.get("api-key") != KEY:
            return error(401, "unauthorized", "Key not found")
        if (call.method, call.path) == ("GET", "/v3/account"):
            return Reply(200, {"email": "a@example.com", "plan": self.plan, "relay": {"enabled": self.enabled}})
        if (call.method, call.path) != ("POST", "/v3/smtp/email"):
            return error(404, "document_not_found", "No such page.")
        told = call.json
        if set(told) - FIELDS or not {"subject", "htmlContent", "sender", "messageVersions"} <= set(told):
            return error(400, "missing_parameter", f"Other fields than there must be: {sorted(told)}")
        if told["sender"]["email"] not in self.senders:
            return error(400, "invalid_parameter", "Sending has been rejected because the sender is not valid.")
        key = told["headers"].get("idempotencyKey", "")
        if key and str(UUID(key)) in self.keys:
            return error(400, "duplicate_parameter", "The idempotencyKey was used before.")
        if not 1 <= len(told["messageVersions"]) <= 1000:
            return error(400, "out_of_range", "messageVersions must have 1 to 1000.")
        for version in told["messageVersions"]:
            if fault := _fault(version):
                return error(400, "invalid_parameter", fault)
        self.keys.add(key)
        ids = [self._take(version) for version in told["messageVersions"]]
        return Reply(201, {"messageIds": ids} if len(ids) > 1 else {"messageId": ids[0]})

    def _take(self, version: dict[str, Any]) -> str:
        filled = {name: TEMPLATE.sub("", value) if isinstance(value, str) else value for name, value in version.items()}
        self.sent.append(filled)
        return message_id(len(self.sent) - 1)


def _fault(version: dict[str, Any]) -> str:
    if set(version) - VERSION:
        return "Unknown fields in messageVersions."
    if not all(re.fullmatch(r"[^@\s]+@[^@\s]+\.[^@\s]+", to["email"]) and to["email"] != BAD for to in version["to"]):
        return "email is not valid in to"
    if not version.get("htmlContent"):
        return "htmlContent is missing"
    if not all(isinstance(value, str) and value.isascii() for value in version["headers"].values()):
        return "headers must be ASCII strings"
    return ""


def error(status: int, code: str, message: str) -> Reply:
    return Reply(status, {"code": code, "message": message})


def message_id(number: int) -> str:
    return f"<202611221200.{number:011}@smtp-relay.mailin.fr>"


def _ids(call: Call) -> list[dict[str, Any]]:
    return [_json(version["headers"]["X-Mailin-custom"]) for version in call.json["messageVersions"]]


def _json(text: str) -> dict[str, Any]:
    return Call("", "", {}, {}, text.encode()).json


VENDOR = Vendor(
    name="brevo",
    peer=BrevoPeer,
    url=lambda host, key: f"brevo://:{key}@{host}?tls=none",
    ids=_ids,
    unsubscribe=lambda call: [
        {name: value for name, value in version["headers"].items() if name.startswith("List-")}
        for version in call.json["messageVersions"]
    ],
    throttled={"code": "too_many_requests", "message": "Slow down."},
    ok=201,
)
