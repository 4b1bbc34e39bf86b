"""What comes back by mail means in our words: statuses, actions, types of complaints, and words that people read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from app.mail import Bounce, Kind, Meaning

NOTHING: Final = Meaning()
DELIVERED: Final = Meaning(Kind.DELIVERED, Kind.SENT)
DEFERRED: Final = Meaning(Kind.DEFERRED, Kind.SENT)
SOFT, BLOCKED, HARD = (Meaning(Kind.BOUNCED, Kind.SENT, each) for each in (Bounce.SOFT, Bounce.BLOCKED, Bounce.HARD))
COMPLAINED: Final = Meaning(Kind.COMPLAINED, Kind.SENT)
UNSUBSCRIBED: Final = Meaning(Kind.UNSUBSCRIBED, Kind.SENT)
# Of several recipients that a lead's address was expanded to, the one that fared best speaks for the lead.
MILDEST: Final = (DELIVERED, DEFERRED, SOFT, BLOCKED, HARD)

# By the action of RFC 3464 §2.3.3; a failure is judged by its status.
ACTIONS: Final[Mapping[str, Meaning]] = {
    "delivered": DELIVERED,
    "relayed": DELIVERED,
    "expanded": DELIVERED,
    "delayed": DEFERRED,
}
# Failures by the beginning of their status (RFC 3463 and IANA's registry), the longer one first.
STATUSES: Final = (
    ("5.1.7", BLOCKED),  # the sender's address is bad
    ("5.1.8", BLOCKED),
    ("5.1", HARD),  # no such mailbox, no such domain
    ("5.2.1", HARD),  # the mailbox is disabled
    ("5.2.3", BLOCKED),  # larger than this mailbox takes
    ("5.2", SOFT),  # full
    ("5.3.4", BLOCKED),
    ("5.3", SOFT),
    ("5.4.4", HARD),  # nowhere to deliver to
    ("5.4", SOFT),  # it was tried for days
    ("5.6", BLOCKED),  # the content
    ("5.7.13", HARD),  # the user's account is disabled
    ("5.7.17", HARD),  # the mailbox has another owner (RFC 7293)
    ("5.7", BLOCKED),  # policy: authentication, reputation, content
    ("", SOFT),  # 5.0.0 says nothing, 4.x.x that it was tried for days
)
# By Feedback-Type (RFC 5965 §7.3, RFC 6430); of others (virus, auth-failure) no person complains.
FEEDBACK: Final[Mapping[str, Meaning]] = {
    "abuse": COMPLAINED,
    "fraud": COMPLAINED,
    "opt-out": UNSUBSCRIBED,
    "opt-out-list": UNSUBSCRIBED,
}
# What reports without a status say in words, the first that is found.
WORDS: Final = (
    (re.compile(rb"(?i)quota|mailbox (?:is )?full|over limit|insufficient (?:system )?storage"), SOFT),
    (re.compile(rb"(?i)spam|blocked|black ?list|policy|rejected due to|not authori[sz]ed"), BLOCKED),
    (
        re.compile(
            rb"(?i)(?:user|recipient|mailbox|address|account)[^\r\n]{0,40}(?:unknown|not found|unavailable|disabled"
            rb"|does(?: not|n't) exist)"
            rb"|(?:no such|unknown|invalid) (?:user|recipient|mailbox|address|account|host|person)"
            rb"|no mailbox here|couldn't find any host"
        ),
        HARD,
    ),
)


def of_status(status: str) -> Meaning:
    """What a failure with this status (RFC 3463) is; "" for one that has none."""
    return next(meaning for beginning, meaning in STATUSES if not beginning or f"{status}.".startswith(f"{beginning}."))
