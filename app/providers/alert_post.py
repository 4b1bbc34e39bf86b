"""Alerts by webhook: one signed POST each, by the Standard Webhooks specification (https://www.standardwebhooks.com)."""

from __future__ import annotations

from datetime import UTC, datetime

from standardwebhooks.webhooks import Webhook

from app.errors import ProviderDown, ProviderError, ProviderUnsure
from app.providers.address import tls_context
from app.providers.http import Http
from app.uptime import uptime


class AlertPost:
    """The operator's address and secret. Neither is in any error: the path of such an address is often a key."""

    def __init__(self, url: str, secret: str, *, deadline: float) -> None:
        self.http = Http(url, tls_context(None) if url.startswith("https:") else None)
        self.webhook = Webhook(secret)
        self.deadline = deadline

    def send(self, key: str, body: bytes) -> None:
        """Post a JSON body; `key` is the message's id, the same at every try. Any 2xx answer is a receipt.

        Raises ProviderError; ProviderDown where nobody answers.
        """
        now = datetime.now(UTC)
        headers = [
            (b"content-type", b"application/json"),
            (b"user-agent", b"Millrace"),
            (b"webhook-id", key.encode("ascii")),
            (b"webhook-timestamp", b"%d" % int(now.timestamp())),
            (b"webhook-signature", self.webhook.sign(key, now, body.decode()).encode("ascii")),
        ]
        try:
            answer = self.http.post(body, headers, uptime() + self.deadline)
        except ProviderDown as error:
            raise ProviderDown("The webhook cannot be reached.") from error
        except ProviderUnsure as error:
            raise ProviderDown("The webhook gives no answer.") from error
        if not 200 <= answer.status < 300:
            raise ProviderError(f"The webhook answers HTTP {answer.status}.")

    def close(self) -> None:
        self.http.close()
