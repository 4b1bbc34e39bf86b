"""What to do in each provider's console so that it tells what becomes of emails: a table, in its own words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Setup:
    """Steps in order; `secret` says what is to be typed in here."""

    steps: tuple[str, ...]
    secret: str


OWN: Final = "Make one up: 16 characters or more, the same here and there."
SETUPS: Final[Mapping[str, Setup]] = {
    "ses": Setup(
        (
            "In SNS, in the same region as the pool, make a standard topic, and save its ARN below first.",
            "In SES open the configuration set, Event destinations, and add the topic. Tick Sends, Deliveries, Hard "
            "bounces, Complaints, Rejects, Rendering failures, Delivery delays; and Opens and Clicks if SES tracks.",
            "At the topic add an HTTPS subscription to the address above, and leave raw message delivery off. It is "
            "confirmed by itself.",
            "Give the subscription a delivery policy that tries for an hour: by default SNS gives up within a minute.",
        ),
        "The topic's ARN, like arn:aws:sns:eu-west-1:123456789012:name. Only this topic is listened to.",
    ),
    "sendgrid": Setup(
        (
            "Settings → Mail Settings → Event Webhooks → Create: paste the address above.",
            "Tick Processed, Dropped, Deferred, Delivered, Bounced, Opened, Clicked, Spam Reports, Unsubscribed and "
            "Group Unsubscribes.",
            "Switch on the signed event webhook.",
        ),
        "The verification key, a public key that begins with MF.",
    ),
    "mailgun": Setup(
        (
            "Sending → Webhooks, for this domain: paste the address above for accepted, delivered, temporary failure, "
            "permanent failure, opened, clicked, unsubscribed and complained.",
            "Leave Mailgun's own unsubscribe tracking off: it would add a second link.",
        ),
        "The HTTP webhook signing key, under API security.",
    ),
    "postmark": Setup(
        (
            "In your server make a broadcast stream whose unsubscribe handling is Custom.",
            "The stream → Webhooks → Add: paste the address above. Under Basic auth enter any user, and the secret as "
            "the password; or send it as the header X-Webhook-Secret.",
            "Tick Delivery, Bounce, Spam complaint and Subscription change; Open and Link click if Postmark tracks.",
        ),
        OWN,
    ),
    "resend": Setup(
        ("Webhooks → Add endpoint: paste the address above, and choose every event that begins with email.",),
        "The endpoint's signing secret, which begins with whsec_.",
    ),
    "brevo": Setup(
        (
            "Transactional → Settings → Webhook: paste the address above whole (its last part matters), and tick every "
            "event.",
            "As authentication choose a token, and enter the secret.",
            "Under Security → Authorised IPs allow this server.",
        ),
        OWN,
    ),
    "sink": Setup(
        ("Start the sink with --webhook and the address above, and with --webhook-secret.",),
        "The same secret: whsec_ and 24 to 64 bytes in base64.",
    ),
}
