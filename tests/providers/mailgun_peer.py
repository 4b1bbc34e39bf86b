"""Mailgun on a loopback port: one form for many addresses, refused as a whole, and its variables put in as it does."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from email.parser import BytesParser
from email.policy import HTTP
from typing import Any

from tests.providers.api_peer import ApiPeer, Call, Reply
from tests.providers.vendor import BAD, KEY, Vendor

DOMAIN = "mg.example.com"
ADDRESS = re.compile(r"[^@\s,;<>]+@[^@\s,;<>]+\.[^@\s,;<>]+")
SENDER = re.compile(rf'("(\\.|[^"\\])*" )?<?{ADDRESS.pattern}>?')
OPTIONS = 16 * 1024  # bytes of all o:, h: and v: fields
# Mailgun's own placeholders, which it fills with what it likes.
OWN = re.compile(r"%(?:recipient(?:\.[^%\s]+)?|unsubscribe_url|tag_unsubscribe_url|mailing_list_unsubscribe_url)%")


class MailgunPeer(ApiPeer):
    """`sent` are emails as their readers get them: to, and every field of the form with the variables put in.

    `state` is the domain's; None: the key is a sending key, which may not look.
    """

    def __init__(self) -> None:
        super().__init__()
        self.state: str | None = "active"

    def answer(self, call: Call) -> Reply:
        if not call.path.startswith(("/v3/", "/v4/")):
            return Reply(200, b"Mailgun Magnificent API", {"content-type": "text/plain"})
        if call.headers.get("authorization") != "Basic " + b64encode(f"api:{KEY}".encode()).decode():
            return Reply(401, b"Forbidden", {"content-type": "text/plain"})
        if (call.method, call.path) == ("GET", f"/v4/domains/{DOMAIN}"):
            if self.state is None:
                return Reply(401, b"Forbidden", {"content-type": "text/plain"})
            return Reply(200, {"domain": {"name": DOMAIN, "state": self.state, "type": "custom"}})
        if (call.method, call.path) != ("POST", f"/v3/{DOMAIN}/messages"):
            return said(404, f"Domain not found: {call.path.split('/')[2]}")
        if call.headers["content-type"] == "application/x-www-form-urlencoded":
            return said(400, "from parameter is missing")
        form = form_of(call)
        wrong = _wrong(form)
        if wrong is not None:
            return said(400, wrong)
        variables = json.loads(form["recipient-variables"][0])
        self.sent += [_email(form, to, variables[to]) for to in form["to"]]
        return Reply(200, {"id": f"<2026.{len(self.calls)}@{DOMAIN}>", "message": "Queued. Thank you."})


def said(status: int, message: str) -> Reply:
    return Reply(status, {"message": message})


def form_of(call: Call) -> dict[str, list[str]]:
    """name -> its values, as a parser of another hand reads them."""
    head = f"content-type: {call.headers['content-type']}\r\n\r\n".encode()
    parsed = BytesParser(policy=HTTP).parsebytes(head + call.body)
    assert not parsed.defects
    form: dict[str, list[str]] = {}
    for part in parsed.iter_parts():
        body = part.get_payload(decode=True)
        assert isinstance(body, bytes)
        form.setdefault(part.get_param("name", header="content-disposition"), []).append(body.decode())
    return form


def letters_of(call: Call, field: str) -> list[str]:
    """What one field is for each address, in order."""
    form = form_of(call)
    variables = json.loads(form["recipient-variables"][0])
    return [_put_in(form[field][0], variables[to]) for to in form["to"]]


def _wrong(form: dict[str, list[str]]) -> str | None:
    if "from" not in form:
        return "from parameter is missing"
    if not SENDER.fullmatch(form["from"][0]):
        return "'from' parameter is not a valid address. please check documentation"
    if len(form["to"]) > 1000:
        return "Too many recipients; max is 1000"
    if any(to == BAD or not ADDRESS.fullmatch(to) for to in form["to"]):
        return "'to' parameter is not a valid address. please check documentation"
    if not (form.get("text") or form.get("html")):
        return "Need at least one of 'text' or 'html' parameters specified"
    if sum(len(name + values[0]) for name, values in form.items() if name[:2] in ("o:", "h:", "v:")) > OPTIONS:
        return "Send options (parameters starting with o:, h:, or v:) are limited to 16 kB total"
    if set(json.loads(form["recipient-variables"][0])) != set(form["to"]):
        return "recipient-variables and to are not the same"
    return None


def _email(form: dict[str, list[str]], to: str, variables: dict[str, Any]) -> dict[str, str]:
    fields = {name: values[0] for name, values in form.items() if name not in ("to", "recipient-variables")}
    return {"to": to} | {name: _put_in(value, variables) for name, value in fields.items()}


def _put_in(text: str, variables: dict[str, Any]) -> str:
    """Every variable in turn; whatever looks like one then is filled with nothing of ours."""
    placed = re.split(r"%recipient\.(" + "|".join(map(re.escape, variables)) + ")%", text)
    foreign = [OWN.sub("", piece) for piece in placed[0::2]]
    return "".join(
        piece
        for pair in zip(foreign, [*(str(variables[name]) for name in placed[1::2]), ""], strict=True)
        for piece in pair
    )


def _ids(call: Call) -> list[dict[str, str]]:
    columns = {name: letters_of(call, f"v:millrace_{name}") for name in ("campaign", "handoff", "lead", "run")}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _unsubscribe(call: Call) -> list[dict[str, str]]:
    names = ("List-Unsubscribe", "List-Unsubscribe-Post")
    return [
        dict(zip(names, row, strict=True))
        for row in zip(*(letters_of(call, f"h:{name}") for name in names), strict=True)
    ]


VENDOR = Vendor(
    name="mailgun",
    peer=MailgunPeer,
    url=lambda host, key: f"mailgun://:{key}@{host}/{DOMAIN}?tls=none",
    ids=_ids,
    unsubscribe=_unsubscribe,
    throttled={"message": "Too Many Requests"},
)
