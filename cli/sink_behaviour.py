"""How the sink answers and what it reports: latency, and the rates at which it refuses, is down, bounces or loses."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

CUTS = ("cut", "error", "silence")
RATES = (
    *("refuse", "defer", "down", "unsure", "webhook_lose", "webhook_repeat"),
    *("drop", "bounce", "complain", "open", "click"),
)


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How the sink answers. Rates are between 0 and 1: of emails (refuse, defer) or of calls (down, unsure).

    A refused address is refused every time. `strict`: a call with a refused address is refused as a whole (422).
    An unsure call is accepted, then its reply is lost: `cut` off, an `error` 500, or `silence` until the caller leaves.

    What it reports goes to the URL `webhook` ("": nowhere), `webhook_batch` events in a post, each `webhook_delay`
    seconds after what it follows. Of accepted emails some may `drop` or `bounce`, of delivered ones some `complain`,
    `open` or `click`; of events some are never told (`webhook_lose`), of posts some come twice (`webhook_repeat`).
    """

    latency: float = 0.2
    refuse: float = 0.0
    defer: float = 0.0
    down: float = 0.0
    unsure: float = 0.0
    unsure_how: str = "cut"
    retry_after: int = 1
    batch: int = 50
    strict: bool = False
    idempotent: bool = False
    webhook: str = ""
    webhook_delay: float = 0.1
    webhook_batch: int = 500
    webhook_lose: float = 0.0
    webhook_repeat: float = 0.0
    drop: float = 0.0
    bounce: float = 0.0
    complain: float = 0.0
    open: float = 0.0
    click: float = 0.0

    def changed(self, wishes: object) -> Behaviour:
        """A copy with these settings; raises ValueError with a sentence for a name or value that makes no sense."""
        if not isinstance(wishes, dict):
            raise ValueError("Settings are one JSON object.")
        kinds = {each.name: type(each.default) for each in fields(self)}
        for name, value in wishes.items():
            kind = kinds.get(name)
            if kind is None:
                raise ValueError(f"There is no setting {name!r}; there are {', '.join(kinds)}.")
            if type(value) is not kind and not (kind is float and type(value) is int):
                raise ValueError(f"{name} must be a {kind.__name__}.")
        new = replace(self, **wishes)
        for name in RATES:
            if not 0 <= getattr(new, name) <= 1:
                raise ValueError(f"{name} must be between 0 and 1.")
        if not 0 <= new.latency <= 3600 or new.retry_after < 0 or new.batch < 1 or new.unsure_how not in CUTS:
            raise ValueError(f"latency is 0 to 3600 s, batch at least 1, unsure_how one of {', '.join(CUTS)}.")
        if not 0 <= new.webhook_delay <= 3600 * 24 or not 1 <= new.webhook_batch <= 1000:
            raise ValueError("webhook_delay is 0 to 86400 s, webhook_batch 1 to 1000 events.")
        if new.webhook and not new.webhook.startswith(("http://", "https://")):
            raise ValueError("webhook must be an http:// or https:// address.")
        return new
