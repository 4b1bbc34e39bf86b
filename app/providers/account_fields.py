"""Kinds of accounts at providers, and what a person fills in for each of them: a table."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from app.providers.address import Reader, count


@dataclass(frozen=True, slots=True)
class Field:
    """One field. `offers` are (value, label) to choose from; `read` raises ValueError with what is wanted.

    `rare` ones need no looking at by most people.
    """

    name: str
    label: str
    place: str
    hint: str = ""
    secret: bool = False
    needed: bool = False
    rare: bool = False
    default: str = ""
    offers: tuple[tuple[str, str], ...] = ()
    read: Reader | None = None


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of account. `host` is the provider's own, with {region} in it where it has several."""

    name: str
    label: str
    summary: str
    scheme: str
    fields: tuple[Field, ...]
    host: str = ""

    @property
    def secrets(self) -> tuple[str, ...]:
        return tuple(field.name for field in self.fields if field.secret)


def _matching(pattern: str, wanted: str) -> Reader:
    def read(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(wanted)
        return value

    return read


_HOST: Final = _matching(r"[\w.-]+|\[[0-9a-fA-F:.]+\]", "a host's name, like mail.example.com")
_KEY: Final = _matching(r"[!-~]+", "a key as the provider shows it, without blanks")
_GATEWAY: Final = Field(
    "gateway",
    "Gateway",
    "host",
    "A host of your own that stands before the provider's, like gateway.example.com:8443/path. Empty: the provider's.",
    rare=True,
    read=_matching(r"([\w.-]+|\[[0-9a-fA-F:.]+\])(:[0-9]{1,5})?(/[\w./~-]*)?", "a host, with its port and path"),
)
MORE: Final = Field(
    "more",
    "Further options",
    "?",
    "As they stand in a URL: name=value&name=value.",
    rare=True,
    read=_matching(r"[^\s#?]+=[^\s#?]*", "like name=value&name=value"),
)


def _key(label: str, hint: str) -> Field:
    return Field("key", label, "password", hint, secret=True, needed=True, read=_KEY)


KINDS: Final[Mapping[str, Kind]] = {
    kind.name: kind
    for kind in (
        Kind(
            "ses",
            "Amazon SES",
            "An IAM access key, in one region.",
            "ses",
            (
                Field(
                    "region",
                    "Region",
                    "region",
                    "Where your sender is verified, like eu-west-1.",
                    needed=True,
                    read=_matching(r"[a-z]{2}(-[a-z]+)+-[0-9]{1,2}", "a region like eu-west-1"),
                ),
                Field("key_id", "Access key ID", "user", "Begins with AKIA.", secret=True, needed=True, read=_KEY),
                _key("Secret access key", "AWS shows it once, when the key is made."),
                Field(
                    "configuration_set",
                    "Configuration set",
                    "?configuration_set",
                    "What deliveries and bounces are told by; without it SES says nothing afterwards.",
                ),
                Field(
                    "token",
                    "Session token",
                    "?token",
                    "Only for a temporary key (it begins with ASIA), which ends within hours.",
                    secret=True,
                    rare=True,
                ),
                _GATEWAY,
                MORE,
            ),
            "email.{region}.amazonaws.com",
        ),
        Kind(
            "sendgrid",
            "SendGrid",
            "An API key that may send.",
            "sendgrid",
            (
                Field(
                    "region",
                    "Region",
                    "region",
                    offers=(("api.sendgrid.com", "Worldwide"), ("api.eu.sendgrid.com", "European Union (a subuser's)")),
                ),
                _key("API key", "Settings → API Keys, with the right “Mail Send”. Begins with SG."),
                _GATEWAY,
                MORE,
            ),
            "{region}",
        ),
        Kind(
            "mailgun",
            "Mailgun",
            "A sending domain and its key.",
            "mailgun",
            (
                Field(
                    "region",
                    "Region",
                    "region",
                    offers=(("api.mailgun.net", "United States"), ("api.eu.mailgun.net", "European Union")),
                ),
                Field(
                    "domain",
                    "Sending domain",
                    "path",
                    "Like mg.example.com.",
                    needed=True,
                    read=_matching(r"[A-Za-z0-9][A-Za-z0-9.-]*\.[A-Za-z0-9-]+", "a domain like mg.example.com"),
                ),
                _key("Sending key", "Domain settings → Sending keys."),
                _GATEWAY,
                MORE,
            ),
            "{region}",
        ),
        Kind(
            "postmark",
            "Postmark",
            "A server's API token.",
            "postmark",
            (
                _key("Server API token", "Your server → API Tokens."),
                Field(
                    "stream",
                    "Message stream",
                    "?stream",
                    "Its ID; campaigns go by a broadcast stream.",
                    default="broadcast",
                ),
                _GATEWAY,
                MORE,
            ),
            "api.postmarkapp.com",
        ),
        Kind(
            "resend",
            "Resend",
            "An API key that may send.",
            "resend",
            (_key("API key", "API Keys → Create, “Sending access” is enough. Begins with re_."), _GATEWAY, MORE),
            "api.resend.com",
        ),
        Kind(
            "brevo",
            "Brevo",
            "An API key for transactional email.",
            "brevo",
            (_key("API key", "SMTP & API → API keys. Begins with xkeysib-."), _GATEWAY, MORE),
            "api.brevo.com",
        ),
        Kind(
            "smtp",
            "SMTP",
            "Any mail server.",
            "smtp",
            (
                Field("host", "Server", "host", "Like smtp.example.com.", needed=True, read=_HOST),
                Field("port", "Port", "port", default="587", read=count(1, 65535)),
                Field(
                    "tls",
                    "Encryption",
                    "?tls",
                    "By the port: TLS on 465, STARTTLS on others. Certificates are always verified.",
                    offers=(
                        ("", "By the port"),
                        ("starttls", "STARTTLS"),
                        ("tls", "TLS from the first byte"),
                        ("none", "None"),
                    ),
                ),
                Field("user", "User", "user", secret=True),
                Field("password", "Password", "password", secret=True),
                Field("connections", "Connections at once", "?connections", default="4", read=count(1, 100)),
                Field(
                    "messages",
                    "Emails over one connection",
                    "?messages",
                    "Then it is replaced.",
                    default="100",
                    rare=True,
                    read=count(1, 100_000),
                ),
                Field(
                    "returns",
                    "Return address",
                    "?returns",
                    "Bounces come back to it, with a token of each email's own: bounces@mail.example.com.",
                    rare=True,
                ),
                Field("helo", "Our name in EHLO", "?helo", "Empty: this machine's own.", rare=True),
                MORE,
            ),
        ),
        Kind(
            "sink",
            "Sink",
            "For trials: takes everything, delivers nothing.",
            "sink+http",
            (
                Field("host", "Host", "host", needed=True, default="127.0.0.1", read=_HOST),
                Field("port", "Port", "port", needed=True, default="9025", read=count(1, 65535)),
                MORE,
            ),
        ),
        Kind(
            "url",
            "A URL",
            "Everything in one line, for who knows how it is written.",
            "",
            (
                Field(
                    "url",
                    "Provider URL",
                    "url",
                    "For example smtp://user:password@smtp.example.com:587?tls=starttls&connections=4 or "
                    "postmark://:TOKEN@api.postmarkapp.com?stream=broadcast; also ses, sendgrid, mailgun, resend and "
                    "brevo. Special characters in the password are written as in web addresses (@ is %40).",
                    secret=True,
                    needed=True,
                ),
            ),
        ),
    )
}
