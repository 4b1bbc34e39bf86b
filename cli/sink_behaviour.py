"""How the sink answers: latency, and the rates at which it refuses, defers, is down or falls silent."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

CUTS = ("cut", "error", "silence")


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How the sink answers. Rates are between 0 and 1: of emails (refuse, defer) or of calls (down, unsure).

    A refused address is refused every time. `strict`: a call with a refused address is refused as a whole (422).
    An unsure call is accepted, then its reply is lost: `cut` off, an `error` 500, or `silence` until the caller leaves.
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
        for name in ("refuse", "defer", "down", "unsure"):
            if not 0 <= getattr(new, name) <= 1:
                raise ValueError(f"{name} must be between 0 and 1.")
        if not 0 <= new.latency <= 3600 or new.retry_after < 0 or new.batch < 1 or new.unsure_how not in CUTS:
            raise ValueError(f"latency is 0 to 3600 s, batch at least 1, unsure_how one of {', '.join(CUTS)}.")
        return new
