"""Where strangers may be called: an address that a user typed is reached only where the whole internet could reach it.

The name is resolved here, every address that it has is judged, and the connection is made to one that was judged: a
name that resolves to another one a moment later (DNS rebinding) gains nothing. Sources: IANA's registries of
special-purpose addresses (RFC 6890), RFC 6052 and RFC 8215 for NAT64.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Collection
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from queue import Empty, SimpleQueue
from threading import BoundedSemaphore, Thread
from typing import Final

from app.config import EVERYWHERE
from app.errors import ProviderDown, ProviderRefusesUs
from app.uptime import uptime

# (host, port, until) -> its addresses, written as numbers, before a time (seconds of `uptime`); raises ProviderError.
Resolve = Callable[[str, int, float], list[str]]

CONNECT: Final = 5.0  # seconds for one address to answer
LOOK_UP: Final = 10.0  # seconds for name servers to answer
MOST_LOOK_UPS: Final = 32  # names that are waited for at once: those that nobody answers for go on for half a minute
_looking = BoundedSemaphore(MOST_LOOK_UPS)
NOT_PUBLIC_4: Final = tuple(
    IPv4Network(each)
    for each in (
        "0.0.0.0/8",  # this network: 0.0.0.0 is this machine
        "10.0.0.0/8",
        "100.64.0.0/10",  # carriers' NAT, and a cloud's metadata at 100.100.100.200
        "127.0.0.0/8",
        "168.63.129.16/32",  # Azure's host agent answers its virtual machines here, amid public addresses
        "169.254.0.0/16",  # link-local: most clouds' metadata at 169.254.169.254
        "172.16.0.0/12",
        "192.0.0.0/24",  # protocol assignments, and a cloud's metadata at 192.0.0.192
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",  # reserved, and broadcast
    )
)
PUBLIC_6: Final = IPv6Network("2000::/3")  # all that was ever given out as global unicast
NOT_PUBLIC_6: Final = tuple(
    IPv6Network(each)
    for each in (
        "2001::/23",  # protocol assignments, Teredo among them: it ends at an IPv4 address that a stranger chose
        "2001:db8::/32",
        "3fff::/20",
    )
)
# Prefixes whose last 32 bits are an IPv4 address that the packet ends at.
CARRIES_4: Final = (IPv6Network("::ffff:0:0/96"), IPv6Network("::/96"), IPv6Network("64:ff9b::/96"))
SIX_TO_FOUR: Final = IPv6Network("2002::/16")  # the 32 bits behind the prefix are one


def look_up(host: str, port: int, until: float) -> list[str]:
    """Every address of a host, as numbers, in the order to try them in. Raises ProviderDown where there is none now.

    The system's resolver knows no deadline of ours, so it is asked by a thread that nobody waits for longer.
    """
    try:
        ip_address(host)
        return [host]
    except ValueError:
        pass
    wait = min(LOOK_UP, until - uptime())
    told: SimpleQueue[list[str] | Exception] = SimpleQueue()
    if wait <= 0 or not _looking.acquire(timeout=wait):
        raise ProviderDown(f"The host {host} was not looked up in time.")
    Thread(target=_ask, args=(host, port, told), daemon=True, name="look-up").start()
    try:
        found = told.get(timeout=max(0.0, min(wait, until - uptime())))
    except Empty:
        raise ProviderDown(f"The host {host} cannot be found: no name server answered in time.") from None
    if isinstance(found, Exception):
        raise ProviderDown(f"The host {host} cannot be found: {in_words(found)}.") from found
    return found


def _ask(host: str, port: int, told: SimpleQueue[list[str] | Exception]) -> None:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        told.put(list(dict.fromkeys(str(each[4][0]) for each in found)))
    except Exception as error:  # whatever a name makes the resolver say
        told.put(error)
    finally:
        _looking.release()


def resolve_public(host: str, port: int, until: float) -> list[str]:
    """As `look_up`, for a host that a stranger named.

    Raises ProviderRefusesUs where one address is not public: a name with both kinds is nobody's honest server.
    """
    addresses = look_up(host, port, until)
    inside = next((each for each in addresses if not is_public(each)), None)
    if inside is not None or not addresses:
        raise ProviderRefusesUs(
            f"The host {host} is at {inside}, which is no public address. Only who runs Millrace may allow it, by "
            "naming the host in MILLRACE_PRIVATE_PROVIDERS."
        )
    return addresses


def in_words(error: Exception) -> str:
    """What an error says, without numbers and Python's names, for people to read: "Connection refused"."""
    said = re.sub(r"^\[(Errno -?\d+|SSL: \w+)\] | \(_ssl\.c:\d+\)$", "", str(error)).rstrip(". ")
    return said or re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(error).__name__).capitalize()


def is_public(written: str) -> bool:
    """Whether an address in numbers is one that the whole internet reaches; False for what is none."""
    try:
        address = ip_address(written)
    except ValueError:
        return False
    if isinstance(address, IPv6Address):
        if address.scope_id is not None:
            return False
        inner = _carried(address)
        if inner is None:
            return address in PUBLIC_6 and not any(address in network for network in NOT_PUBLIC_6)
        address = inner
    return not any(address in network for network in NOT_PUBLIC_4)


def resolver(host: str, private: Collection[str]) -> Resolve | None:
    """How a host that a user typed is resolved; None where the operator allows it wherever it is.

    `private`: names of hosts as they stand in URLs, in small letters, or EVERYWHERE.
    """
    return None if EVERYWHERE in private or host.lower() in private else resolve_public


def connect(host: str, port: int, until: float, resolve: Resolve | None) -> socket.socket:
    """A connection to the first address that answers, five seconds for each, before `until` (seconds of `uptime`).

    Raises OSError; ProviderError where the name is none, or `resolve` raises it.
    """
    lost: OSError | None = None
    for address in (resolve or look_up)(host, port, until):
        left = until - uptime()
        if left <= 0:
            break
        try:
            return socket.create_connection((address, port), min(CONNECT, left))
        except OSError as error:
            lost = error
    raise lost or TimeoutError("The call's deadline is over.")


def _carried(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address that an IPv6 one leads to, None where it is a true one."""
    if address in SIX_TO_FOUR:
        return IPv4Address(int(address) >> 80 & 0xFFFFFFFF)
    if any(address in network for network in CARRIES_4):
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return None
