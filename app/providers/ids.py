"""Our ids on their way through a provider's metadata and back: numbers only, and never an address."""

from __future__ import annotations

from typing import Any

from app.mail import Batch, Letter


def ids_of(batch: Batch, letter: Letter) -> dict[str, str]:
    """campaign, handoff, lead and run, in this order: the same letter is always written as the same bytes."""
    return {
        "campaign": str(batch.campaign_id),
        "handoff": str(batch.handoff_id),
        "lead": str(letter.lead_id),
        "run": str(batch.run),
    }


def our_id(value: Any) -> int:
    """The number that came back, as a number or in digits; 0 for what we never gave: another's email, or nothing."""
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 20:
        value = int(value)
    return value if type(value) is int and 0 < value < 1 << 63 else 0


def unsubscribe_headers(letter: Letter) -> dict[str, str]:
    """List-Unsubscribe by one click (RFC 8058 §3.1); none where the letter has no link."""
    if not letter.unsubscribe_url:
        return {}
    return {
        "List-Unsubscribe": f"<{letter.unsubscribe_url}>",
        "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
    }


def mailbox(name: str, address: str) -> str:
    """`"Name" <address>` as a string of an API, which encodes it itself (RFC 5322 §3.4); no line break survives."""
    plain = "".join(each if each.isprintable() else " " for each in name).strip()
    quoted = plain.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{quoted}" <{address}>' if quoted else address
