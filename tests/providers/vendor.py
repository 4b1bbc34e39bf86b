"""What the conformance suite must know of a vendor: its peer, its URL, and where its calls carry ids and headers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.providers.api_peer import ApiPeer, Call

KEY = "key-0f1e2d3c4b5a69788796a5b4c3d2e1f0"  # every peer's right key
BAD = "refused@example.net"  # the address that every peer refuses


@dataclass(frozen=True)
class Vendor:
    """One provider and its loopback peer.

    `url(host, key)` is a pool's URL; `ids` and `unsubscribe` read, from a call, what stands there for each letter, in
    order: our four ids by name, and the headers by name. `refuses`: BAD is refused in the reply (False: taken, and
    dropped later). `keyless`: there is no key to be wrong. `throttled` is the body of its 429; `ok` its good status.
    """

    name: str
    peer: Callable[[], ApiPeer]
    url: Callable[[str, str], str]
    ids: Callable[[Call], Sequence[Mapping[str, Any]]]
    unsubscribe: Callable[[Call], Sequence[Mapping[str, str]]]
    throttled: Any = b"{}"
    refuses: bool = True
    keyless: bool = False
    ok: int = 200

    def __str__(self) -> str:
        return self.name
