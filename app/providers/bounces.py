"""What kind of bounce an enhanced status code is (RFC 3463), for providers that pass it on."""

from __future__ import annotations

import re
from typing import Final

from app.mail import Bounce

STATUS: Final = re.compile(r"(?<![\d.])([245]\.\d{1,3}\.\d{1,3})(?!\.?\d)")
# By the code's beginning, the longer one first. What stands here outweighs the provider's own sorting.
KINDS: Final = (
    ("5.2.2", Bounce.SOFT),  # the mailbox is full
    ("5.2.3", Bounce.BLOCKED),  # larger than this mailbox takes
    ("5.3.4", Bounce.BLOCKED),  # larger than this system takes
    ("5.7", Bounce.BLOCKED),  # policy: authentication, reputation, content
    ("4", Bounce.SOFT),
)


def kind_of(status: str, otherwise: Bounce) -> Bounce:
    """The kind by the first enhanced status code in a text, `otherwise` where there is none, or none that decides."""
    found = STATUS.search(status)
    if found is None:
        return otherwise
    return next((kind for beginning, kind in KINDS if f"{found[1]}.".startswith(f"{beginning}.")), otherwise)
