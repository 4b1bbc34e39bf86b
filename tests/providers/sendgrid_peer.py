"""SendGrid on a loopback port: it takes calls as a whole or refuses them with a pointer, and substitutes as it does."""

from __future__ import annotations

import re
from typing import Any

from tests.providers.api_peer import ApiPeer, Call, Reply
from tests.providers.vendor import BAD, KEY, Vendor

ADDRESS = re.compile(r"[^@\s,;]+@[^@\s,;]+\.[^@\s,;]+")
FORBIDDEN = {"x-sg-id", "x-sg-eid", "received", "dkim-signature", "content-type", "to", "from", "subject", "reply-to"}


class SendGridPeer(ApiPeer):
    """`sent` are emails as their readers get them: to, subject, headers, custom_args, text/plain, text/html.

    `scopes` are the key's rights.
    """

    def __init__(self) -> None:
        super().__init__()
        self.scopes = ["mail.send", "user.credits.read"]

    def answer(self, call: Call) -> Reply:
        if call.headers.get("authorization") != f"Bearer {KEY}":
            return error(401, "The provided authorization grant is invalid, expired, or revoked")
        if (call.method, call.path) == ("GET", "/v3/scopes"):
            return Reply(200, {"scopes": self.scopes})
        if (call.method, call.path) == ("GET", "/v3/user/credits"):
            return Reply(
                200, {"remain": 1200, "total": 100000, "overage": 0, "used": 98800, "reset_frequency": "monthly"}
            )
        if (call.method, call.path) != ("POST", "/v3/mail/send"):
            return error(404, "not found")
        if call.headers.get("content-type") != "application/json":
            return error(415, "Content-Type should be application/json.")
        if len(call.body) >= 30_000_000:
            return error(413, "content too large")
        wrong = _wrong(call.json)
        if wrong is not None:
            return error(400, *wrong)
        for letter in call.json["personalizations"]:
            self.sent.append(_email(call.json, letter))
        return Reply(202, b"", {"x-message-id": f"mid{len(self.calls)}", "content-type": "text/plain"})


def error(status: int, message: str, field: str | None = None) -> Reply:
    return Reply(status, {"errors": [{"message": message, "field": field, "help": None}]})


def _wrong(told: dict[str, Any]) -> tuple[str, str] | None:
    letters, seen = told["personalizations"], set()
    if not 1 <= len(letters) <= 1000:
        return f"You have provided {len(letters)} personalizations.", "personalizations"
    if not ADDRESS.fullmatch(told["from"]["email"]) or ("name" in told["from"] and not told["from"]["name"]):
        return "Does not contain a valid address.", "from.email"
    types = [content["type"] for content in told["content"]]
    if types not in (["text/plain"], ["text/html"], ["text/plain", "text/html"]):
        return "If present, text/plain and text/html may only be provided once, in this order.", "content"
    for number, content in enumerate(told["content"]):
        if not content["value"]:
            return "The content value must be a string at least one character in length.", f"content.{number}.value"
    for number, letter in enumerate(letters):
        at = f"personalizations.{number}"
        [to] = letter["to"]
        if to["email"] == BAD or not ADDRESS.fullmatch(to["email"]):
            return "Does not contain a valid address.", f"{at}.to.0.email"
        if to["email"].lower() in seen:
            return "Each unique email address in the personalizations array should only be included once.", at
        seen.add(to["email"].lower())
        if not letter["subject"] or "\n" in letter["subject"]:
            return "The subject of your email must be a string at least one character in length.", f"{at}.subject"
        if FORBIDDEN & {name.lower() for name in letter["headers"]}:
            return "The headers parameter contains a reserved key.", f"{at}.headers"
        for name, most in (("substitutions", 10_000), ("custom_args", 10_000)):
            if any(not isinstance(value, str) for value in letter[name].values()):
                return "Each value must be a string.", f"{at}.{name}"
            if sum(len(f"{key}{value}".encode()) for key, value in letter[name].items()) > most:
                return f"The total size may not exceed {most} bytes.", f"{at}.{name}"
    return None


def _email(told: dict[str, Any], letter: dict[str, Any]) -> dict[str, Any]:
    def filled(text: str) -> str:
        for tag, value in letter["substitutions"].items():  # each tag in turn: a value that holds a tag is hit as well
            text = text.replace(tag, value)
        return text

    bodies = {content["type"]: filled(content["value"]) for content in told["content"]}
    kept = {name: letter[name] for name in ("headers", "custom_args")}
    return {"to": letter["to"][0]["email"], "subject": filled(letter["subject"]), **kept, **bodies}


VENDOR = Vendor(
    name="sendgrid",
    peer=SendGridPeer,
    url=lambda host, key: f"sendgrid://:{key}@{host}?tls=none",
    ids=lambda call: [
        {name.removeprefix("millrace_"): value for name, value in letter["custom_args"].items()}
        for letter in call.json["personalizations"]
    ],
    unsubscribe=lambda call: [letter["headers"] for letter in call.json["personalizations"]],
    throttled={"errors": [{"field": None, "message": "too many requests"}]},
    ok=202,
)
