"""What opens and follows links without being a person: told from the request itself, while nothing of it is kept.

Two tables. Programs that say who they are are told by their user agent, others by the addresses that they come from.
The rest (who follows everything, at once, or what nobody can see) is told from all hits of an email: flows/track.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Final

# What gave it away -> pieces of user agents, in small letters. Not among them: GoogleImageProxy, YahooMailProxy and
# Outlook's, through which pictures are loaded when a person opens the email.
AGENTS: Final[Mapping[str, tuple[str, ...]]] = {
    # Gmail's apps load pictures ahead with this one, not when the email is opened (SparkPost, January 2022).
    "prefetch": ("edge/12.246 mozilla/5.0",),
    "scanner": (
        "barracuda",
        "bitdefender",
        "cloudmark",
        "fortimail",
        "mimecast",
        "proofpoint",
        "safelinks",
        "microsoft office existence discovery",
        "sophos",
        "symantec",
        "trendmicro",
        "virustotal",
        "zscaler",
        "urlscan",
        "phishtank",
        "google-safety",
    ),
    "preview": (
        "bingpreview",
        "discordbot",
        "facebookexternalhit",
        "linkedinbot",
        "skypeuripreview",
        "slackbot",
        "slack-imgproxy",
        "telegrambot",
        "twitterbot",
        "whatsapp",
    ),
    "bot": ("bot/", "bot;", "crawler", "spider", "headlesschrome", "phantomjs", "monitor", "uptime"),
    "library": (
        "aiohttp",
        "apache-httpclient",
        "axios",
        "curl/",
        "go-http-client",
        "java/",
        "libwww",
        "node-fetch",
        "okhttp",
        "php/",
        "python-requests",
        "python-urllib",
        "python-httpx",
        "ruby",
        "wget",
    ),
}
# Agents that say no more than this: Apple's Mail Privacy Protection loads every picture, through many owners' proxies.
WHOLE: Final[Mapping[str, str]] = {"mozilla/5.0": "apple", "": "no agent", "-": "no agent"}
# What gave it away -> networks that no reader sits in.
NETWORKS: Final[Mapping[str, tuple[str, ...]]] = {
    "apple": ("17.0.0.0/8", "2620:149::/32", "2a01:b740::/32"),
    # Exchange Online Protection, which follows what Safe Links protects (Microsoft 365's list of its own addresses).
    "safelinks": (
        "40.92.0.0/15",
        "40.107.0.0/16",
        "52.100.0.0/14",
        "104.47.0.0/17",
        "2a01:111:f400::/48",
        "2a01:111:f403::/48",
    ),
    "proofpoint": ("67.231.144.0/20", "148.163.128.0/19", "185.132.180.0/22", "208.84.64.0/22"),
    "mimecast": ("91.220.42.0/24", "146.101.78.0/24", "195.130.217.0/24", "205.139.110.0/23", "207.211.30.0/23"),
    "barracuda": ("64.235.144.0/20", "209.222.80.0/21"),
}

_SAID: Final = re.compile("|".join(f"({'|'.join(map(re.escape, pieces))})" for pieces in AGENTS.values()))
_BY_GROUP: Final = tuple(AGENTS)
_NETWORKS: Final[tuple[tuple[IPv4Network | IPv6Network, str], ...]] = tuple(
    (ip_network(network), name) for name, networks in NETWORKS.items() for network in networks
)


def judge(method: str, agent: str, address: str) -> str | None:
    """What gives a request away as a program's, in a word; None where it may be a person's."""
    if method == "HEAD":
        return "head"
    return judge_agent(agent[:500]) or judge_address(address)


@lru_cache(4096)  # there are some hundreds of them in a day
def judge_agent(agent: str) -> str | None:
    """By what it says that it is."""
    small = agent.strip().lower()
    if small in WHOLE:
        return WHOLE[small]
    found = _SAID.search(small)
    return _BY_GROUP[(found.lastindex or 1) - 1] if found else None


@lru_cache(4096)
def judge_address(address: str) -> str | None:
    """By where it comes from."""
    try:
        at = ip_address(address.partition("%")[0])
    except ValueError:
        return None
    at = getattr(at, "ipv4_mapped", None) or at
    return next((name for network, name in _NETWORKS if at.version == network.version and at in network), None)
