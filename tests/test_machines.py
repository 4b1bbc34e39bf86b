"""Machines are told from people by what a request says of itself."""

from __future__ import annotations

import pytest

from app.flows.machines import judge

SAFARI = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Safari/605.1.15"
GMAIL_AHEAD = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/42.0.2311.135"
    " Safari/537.36 Edge/12.246 Mozilla/5.0"
)
GMAIL_OPENED = "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)"


@pytest.mark.parametrize(
    ("method", "agent", "address", "why"),
    [
        ("GET", SAFARI, "198.51.100.7", None),
        ("HEAD", SAFARI, "198.51.100.7", "head"),
        ("GET", "Mozilla/5.0", "198.51.100.7", "apple"),
        ("GET", SAFARI, "17.58.101.3", "apple"),
        ("GET", SAFARI, "::ffff:17.58.101.3", "apple"),
        ("GET", GMAIL_AHEAD, "66.249.84.1", "prefetch"),
        ("GET", GMAIL_OPENED, "66.249.84.1", None),
        ("GET", "YahooMailProxy; https://help.yahoo.com/kb/yahoo-mail-proxy-SLN28749.html", "203.0.113.9", None),
        ("GET", SAFARI, "40.94.20.1", None),
        ("GET", SAFARI, "52.101.1.1", "safelinks"),
        ("GET", "Barracuda Sentinel (EE)", "203.0.113.9", "scanner"),
        ("GET", "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)", "203.0.113.9", "preview"),
        ("GET", "python-requests/2.32.3", "203.0.113.9", "library"),
        ("GET", "", "203.0.113.9", "no agent"),
        ("GET", "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", "203.0.113.9", "bot"),
        ("GET", "x" * 100_000, "nonsense", None),
    ],
)
def test_a_request_is_judged_by_its_method_agent_and_address(
    method: str, agent: str, address: str, why: str | None
) -> None:
    assert judge(method, agent, address) == why
