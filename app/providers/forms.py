"""The way between what a person filled in for an account at a provider and the pool's URL.

Fields stand in the URL at their `place`: user, password, host, port, path, region, or an option by its name behind a
question mark. Secrets go in and never come out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from app.errors import Fault, Invalid
from app.providers.account_fields import KINDS, MORE, Field, Kind
from app.providers.address import freed

__all__ = ["KINDS", "Field", "Kind", "compose", "decompose", "same_place"]

Values = Mapping[str, str]
KEPT_APART: Final = ("tls", "ca")  # options that say who gets to read a secret


def compose(kind: Kind, values: Values) -> str:
    """The URL of what was filled in; what is not a field of this kind is left out. Raises Invalid naming each field."""
    typed = {field.name: values.get(field.name, "").strip() for field in kind.fields}
    faults = [fault for field in kind.fields if (fault := _fault(field, typed[field.name])) is not None]
    if faults:
        raise Invalid(faults)
    by_place = {field.place: typed[field.name] for field in kind.fields}
    if "url" in by_place:
        return by_place["url"]
    user, password = (quote(by_place.get(part, ""), safe="") for part in ("user", "password"))
    login = f"{user}:{password}@" if user or password else ""
    host = by_place.get("host") or kind.host.format(region=by_place.get("region", ""))
    port = f":{by_place['port']}" if by_place.get("port") else ""
    path = f"/{by_place['path']}" if by_place.get("path") else ""
    options = "&".join(_options(kind, typed))
    return f"{kind.scheme}://{login}{host.rstrip('/')}{port}{path}{'?' if options else ''}{options}"


def decompose(url: str) -> tuple[Kind, dict[str, str]]:
    """The kind of a pool's URL, and what its fields held, secrets too; a URL that fits no form is of the kind "url"."""
    url = freed(url)
    parts = urlsplit(url)
    kind = KINDS.get(parts.scheme.partition("+")[0])
    if kind is None or kind.scheme != parts.scheme:
        return KINDS["url"], {"url": url}
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    host, region, path = _host(kind, parts.netloc.rpartition("@")[2] + parts.path, options)
    at = {
        "user": unquote(parts.username or ""),
        "password": unquote(parts.password or ""),
        "host": host,
        "port": str(parts.port or ""),
        "path": path,
        "region": region,
    }
    values = {
        field.name: options.pop(field.place[1:], "") if field.place.startswith("?") else at[field.place]
        for field in kind.fields
        if field is not MORE
    }
    if not values.get("key") and "key_id" not in values and "key" in values:  # the key may stand before the colon
        values["key"] = at["user"]
    return kind, values | {"more": "&".join(f"{name}={quote(value, safe='')}" for name, value in options.items())}


def same_place(one: str, other: str) -> bool:
    """Whether two URLs give their secrets to the same server in the same way."""

    def place(url: str) -> tuple[object, ...]:
        parts = urlsplit(freed(url))
        options = sorted(each for each in parse_qsl(parts.query) if each[0] in KEPT_APART)
        return parts.scheme, parts.hostname, parts.port, parts.path.rstrip("/"), options

    return place(one) == place(other)


def _options(kind: Kind, typed: Values) -> Iterator[str]:
    if kind.name == "ses" and typed["gateway"]:  # whose host names no region
        yield f"region={typed['region']}"
    for field in kind.fields:
        value = typed[field.name]
        if field is MORE and value:
            yield value
        elif field.place.startswith("?") and value:
            yield f"{field.place[1:]}={quote(value, safe='@*')}"


def _host(kind: Kind, address: str, options: dict[str, str]) -> tuple[str, str, str]:
    """(a host that is not the provider's own, the region, the path's last part where it is a field)."""
    path = ""
    if any(field.place == "path" for field in kind.fields):
        address, _, path = address.rstrip("/").rpartition("/")
    if not kind.host:
        return re.sub(r":\d+/?$", "", address).rstrip("/"), "", path
    offers = next((field.offers for field in kind.fields if field.place == "region"), ())
    found = re.fullmatch(re.escape(kind.host).replace(r"\{region\}", "(.+)"), address.rstrip("/"))
    region = found[1] if found and found.groups() else ""
    if found and (not offers or region in dict(offers)):
        return "", region, path
    return address, options.pop("region", offers[0][0] if offers else ""), path


def _fault(field: Field, value: str) -> Fault | None:
    if not value:
        return Fault(field.name, f"{field.label} is needed.") if field.needed else None
    if field.offers and value not in dict(field.offers):
        return Fault(field.name, "Choose one of those that are offered.")
    if any(ord(each) < 32 or ord(each) == 127 for each in value):
        return Fault(field.name, "Write it in one line.")
    try:
        if field.read is not None:
            field.read(value)
    except ValueError as error:
        return Fault(field.name, f"This must be {error}.")
    return None
