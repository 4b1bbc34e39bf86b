"""A pool's URL taken apart: who to call, with which credentials and options, and how to show it to people."""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

from app.errors import Invalid
from app.providers.public import Resolve, resolve_public

Reader = Callable[[str], Any]
SECRET: Final = ("token",)  # options that are credentials
_SECRET: Final = re.compile(rf"([?&](?:{'|'.join(SECRET)})=)[^&#]*")
# SMTP users' names that a provider gives to every customer (SendGrid, Resend, SparkPost, ZeptoMail), in small letters:
# the key, and with it the account, is the password. Where the key stands for both, as at Postmark, the name tells it.
EVERYBODYS: Final = frozenset({"apikey", "resend", "smtp_injection", "emailapikey"})
CONFINED: Final = " public"  # a blank: no URL that is read can end like this by itself


@dataclass(frozen=True, slots=True)
class Address:
    """One account at one provider. `options` holds only the names its provider knows, already of their types.

    `resolve` says which addresses of the host may be connected to; None: all of them (app.providers.public).
    """

    scheme: str
    host: str
    port: int | None
    user: str
    password: str
    path: str
    options: Mapping[str, Any]
    resolve: Resolve | None = None

    def __repr__(self) -> str:  # never the credentials, wherever it is printed
        return f"Address({self.scheme}://{self.host}:{self.port})"


def read_address(url: str, known: Mapping[str, Reader]) -> Address:
    """The URL's parts; options are read by `known`, whose readers raise ValueError with what they want.

    A URL that is `confined` gives an address that is. Raises Invalid, pointer "url", with a sentence that never repeats
    the credentials.
    """
    public, url = is_confined(url), freed(url)
    try:
        parts = urlsplit(url)
        port = parts.port
        options = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        raise Invalid.one("url", "This is no URL: mind special characters in the password (@ is %40).") from None
    if any("%" in option.partition("=")[0] for option in parts.query.split("&")):  # `shown` could not tell a secret one
        raise Invalid.one("url", "Write the names of options as they are, without %.")
    if not parts.hostname or any(c <= " " or c == "\x7f" for c in url):
        raise Invalid.one("url", "The URL needs a host: scheme://host:port.")
    read: dict[str, Any] = {}
    for name, value in options:
        if name not in known or name in read:
            offer = f"known ones are {', '.join(known)}" if known else "there are none"
            raise Invalid.one("url", f"The option {name!r} is unknown or given twice; {offer}.")
        if public and known[name] is certificates:
            raise Invalid.one("url", f"Only who runs Millrace may name a file: leave out {name}.")
        try:
            read[name] = known[name](value)
        except ValueError as error:
            given = name if name in SECRET else f"{name}={value!r}"
            raise Invalid.one("url", f"The option {given}: {error}.") from None
    return Address(
        scheme=parts.scheme.lower(),
        host=read_host(parts.hostname),
        port=port,
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        path=parts.path,
        options=read,
        resolve=resolve_public if public else None,
    )


def confined(url: str) -> str:
    """The URL of somebody who does not run this machine: only public addresses are reached by it, and no file read.

    It travels with the URL, so that nobody who opens the pool can forget it; and at its very end, whatever was typed
    before it, so that nothing typed can hide it.
    """
    return url + CONFINED


def freed(url: str) -> str:
    """The URL as it was typed."""
    return url.removesuffix(CONFINED)


def is_confined(url: str) -> bool:
    return url.endswith(CONFINED)


def host_of(url: str) -> str:
    """The host's name in a URL that can be read, in small letters."""
    return read_host(urlsplit(freed(url)).hostname or "")


def account_in(url: str) -> str:
    """What tells the account that a URL speaks with, secrets included; "" where it has no credentials, and so none, and
    where it is no URL.

    Options but the region are left out, and so are the password beside an SMTP user's name and the secret of an access
    key: two pools that differ in these are at the same account. A user's name that everybody has tells nothing.
    """
    try:
        parts, host = urlsplit(freed(url)), host_of(url)
        port = "" if parts.scheme == "smtp" or parts.port is None else str(parts.port)
    except (ValueError, Invalid):
        return ""
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    # elsewhere a key is all that there is, on either side of the colon
    named = parts.scheme == "ses" or (parts.scheme == "smtp" and user.lower() not in EVERYBODYS)
    login = user if named and user else password or user
    if not login:
        return ""
    region = dict(parse_qsl(parts.query)).get("region", "")
    return "\n".join((parts.scheme, host, port, parts.path.rstrip("/"), region, login))


def shown(url: str) -> str:
    """The URL without user and password, that both may be keys, and without secret options; never raises."""
    scheme, mark, rest = url.partition("://")
    cut = min((at for at in map(rest.find, "/?#") if at >= 0), default=len(rest))
    place, options = rest[:cut].rpartition("@")[2], _SECRET.sub(r"\1…", rest[cut:])
    return f"{scheme}{mark}{place}{options}" if mark else "(no URL)"


def count(least: int, most: int) -> Reader:
    """A reader of whole numbers between two, both allowed."""

    def read(value: str) -> int:
        if not value.isdecimal() or not least <= int(value) <= most:
            raise ValueError(f"a whole number from {least} to {most}")
        return int(value)

    return read


def one_of(*words: str) -> Reader:
    """A reader of one word out of several."""

    def read(value: str) -> str:
        if value not in words:
            raise ValueError(f"one of {', '.join(words)}")
        return value

    return read


def certificates(value: str) -> str:
    """A reader of a file of certificate authorities (PEM)."""
    if not Path(value).is_file():
        raise ValueError("a file of certificate authorities in PEM format")
    return value


def tls_context(ca: str | None) -> ssl.SSLContext:
    """TLS 1.2 or newer that verifies certificate and host name, by the system's authorities or by those of a file."""
    try:
        return ssl.create_default_context(cafile=ca)
    except OSError as error:
        raise Invalid.one("url", f"The option ca={ca!r} cannot be read: {error}.") from None


def read_host(name: str) -> str:
    """The name as it is asked for (IDNA). Raises Invalid, pointer "url"."""
    try:
        return name if name.isascii() else name.encode("idna").decode("ascii")
    except UnicodeError:
        raise Invalid.one("url", "The host's name is none.") from None
