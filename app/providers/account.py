"""An account at a provider with an HTTP API: `scheme://:KEY@host`, where the host may be a region's or a gateway's."""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from app.errors import Invalid
from app.providers.address import Address, Reader, certificates, one_of, read_address, tls_context
from app.providers.http import Answer, Http
from app.providers.public import Resolve

LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
COMMON: Final[Mapping[str, Reader]] = {"tls": one_of("none"), "ca": certificates}


@dataclass(frozen=True, slots=True)
class Account:
    """`base` is scheme, host, port and a gateway's path, with no slash at its end; `context` is None for plain http."""

    base: str
    key: str = field(repr=False)
    context: ssl.SSLContext | None = field(repr=False)
    options: Mapping[str, Any]
    resolve: Resolve | None = field(default=None, repr=False)

    def http(self, path: str) -> Http:
        """Calls to one path below the base."""
        return Http(self.base + path, self.context, self.resolve)

    def ask(self, path: str, headers: Sequence[tuple[bytes, bytes]], until: float) -> Answer:
        """One GET over a connection of its own; raises ProviderError."""
        http = self.http(path)
        try:
            return http.get("", headers, until)
        finally:
            http.close()


def read_account(url: str, known: Mapping[str, Reader], example: str) -> Account:
    """The account behind a URL whose password, or whose user, is the API key; `example` shows how one is written.

    Options are `known` ones, `ca` (a file of authorities) and `tls=none`, which only this machine may be spoken to
    with. Raises Invalid, pointer "url", with a sentence that never holds the key.
    """
    address = read_address(url, {**known, **COMMON})
    if bool(address.user) == bool(address.password):
        raise Invalid.one("url", f"The URL needs the API key, and no user besides it: {example}.")
    key = address.password or address.user
    if not key.isascii() or not key.isprintable() or " " in key:
        raise Invalid.one("url", "The API key has characters in it that no key has.")
    base, context = reached(address)
    return Account(base, key, context, address.options, address.resolve)


def reached(address: Address) -> tuple[str, ssl.SSLContext | None]:
    """The base URL of an address, and how its certificate is checked, None for plain http; raises Invalid."""
    plain = "tls" in address.options
    if plain and address.host not in LOOPBACK:
        raise Invalid.one("url", "With tls=none the API key would travel readable: it is for this very machine only.")
    host = f"[{address.host}]" if ":" in address.host else address.host
    port = f":{address.port}" if address.port else ""
    base = f"{'http' if plain else 'https'}://{host}{port}{address.path.rstrip('/')}"
    return base, None if plain else tls_context(address.options.get("ca"))
