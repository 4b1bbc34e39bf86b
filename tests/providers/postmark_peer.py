"""Postmark on a loopback port: it takes, refuses and remembers messages as its API documents."""

from __future__ import annotations

import re
from typing import Any

from tests.providers.api_peer import ApiPeer, Call, Reply
from tests.providers.vendor import BAD, KEY, Vendor

TOKEN = KEY
FIELDS = {"From", "To", "Subject", "HtmlBody", "TextBody", "ReplyTo", "MessageStream", "Headers", "Metadata"}
OK = 0


class PostmarkPeer(ApiPeer):
    """`inactive` addresses are answered with 406; `streams` are those that the server has."""

    def __init__(self) -> None:
        super().__init__()
        self.inactive = {BAD}
        self.streams = {"broadcast", "outbound"}
        self.handling = "Custom"
        self.delivery = "Live"

    @property
    def url(self) -> str:
        return f"postmark://:{TOKEN}@{self.host}?tls=none"

    def answer(self, call: Call) -> Reply:
        if call.headers.get("x-postmark-server-token") != TOKEN:
            return error(401, 10, "No Account or Server API tokens were supplied in the HTTP headers.")
        if call.headers.get("accept") != "application/json":
            return error(422, 409, "JSON required")
        match call.method, call.path:
            case "POST", "/email/batch":
                return self._batch(call)
            case "GET", "/messages/outbound":
                return self._search(call)
            case "GET", "/server":
                return Reply(200, {"ID": 1, "Name": "Old Mill", "DeliveryType": self.delivery})
            case "GET", path if path.startswith("/message-streams/"):
                return self._stream(path.rpartition("/")[2])
        return Reply(404)

    def _stream(self, name: str) -> Reply:
        if name not in self.streams:
            return error(422, 1226, "The message stream for the provided 'ID' was not found.")
        return Reply(
            200,
            {
                "ID": name,
                "MessageStreamType": "Broadcasts" if name == "broadcast" else "Transactional",
                "ArchivedAt": None,
                "SubscriptionManagementConfiguration": {"UnsubscribeHandlingType": self.handling},
            },
        )

    def _batch(self, call: Call) -> Reply:
        if not isinstance(call.json, list):
            return error(422, 403, "The JSON is not an array.")
        if len(call.json) > 500:
            return error(422, 410, "You may only send up to 500 messages.")
        return Reply(200, [self._message(message) for message in call.json])

    def _message(self, message: dict[str, Any]) -> dict[str, Any]:
        to = message.get("To", "")
        if set(message) - FIELDS:
            return said(403, "The JSON has fields that are not known.", to)
        if message["MessageStream"] not in self.streams:
            return said(1235, "The 'MessageStream' provided does not exist on this server.", to)
        if not re.fullmatch(r"[^@\s,]+@[^@\s,]+\.[^@\s,]+", to):
            return said(300, "Error parsing 'To': Illegal email address.", to)
        if not (message.get("HtmlBody") or message.get("TextBody")):
            return said(300, "Provide either email TextBody or HtmlBody or both.", to)
        if any(len(name) > 20 or not isinstance(value, str) or len(value) > 80 for name, value in _metadata(message)):
            return said(300, "Metadata is too long, or no string.", to)
        if to in self.inactive:
            return said(406, f"You tried to send to recipient(s) that have been marked as inactive: {to}.", to)
        number = len(self.sent)
        self.sent.append(message)
        return {
            **said(OK, "OK", to),
            "MessageID": message_id(number),
            "SubmittedAt": "2026-11-22T12:00:00.0000000-05:00",
        }

    def _search(self, call: Call) -> Reply:
        wanted = [name for name in call.query if name.startswith("metadata_")]
        if len(wanted) > 1 or int(call.query["count"]) > 500 or "offset" not in call.query:
            return error(422, 600, "A search is by one metadata field, with count and offset.")
        name = wanted[0].removeprefix("metadata_")
        found = [
            {"MessageID": message_id(number), "Status": "Sent", "Metadata": message["Metadata"], "To": [{"Email": "x"}]}
            for number, message in enumerate(self.sent)
            if message["Metadata"].get(name) == call.query[wanted[0]]
            and message["MessageStream"] == call.query.get("messagestream", "outbound")
        ]
        return Reply(200, {"TotalCount": len(found), "Messages": found})


def said(code: int, text: str, to: str) -> dict[str, Any]:
    return {"ErrorCode": code, "Message": text, "To": to}


def error(status: int, code: int, text: str) -> Reply:
    return Reply(status, {"ErrorCode": code, "Message": text})


def message_id(number: int) -> str:
    return f"0a129aee-e1cd-480d-b08d-{number:012}"


def _metadata(message: dict[str, Any]) -> list[tuple[str, Any]]:
    return list(message.get("Metadata", {}).items())


VENDOR = Vendor(
    name="postmark",
    peer=PostmarkPeer,
    url=lambda host, key: f"postmark://:{key}@{host}?tls=none",
    ids=lambda call: [message["Metadata"] for message in call.json],
    unsubscribe=lambda call: [{each["Name"]: each["Value"] for each in message["Headers"]} for message in call.json],
    throttled={"ErrorCode": 429, "Message": "Rate limit exceeded"},
)
