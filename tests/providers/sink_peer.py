"""The sink's wire format on a peer, for the conformance suite; the sink itself has tests of its own."""

from __future__ import annotations

from tests.providers.api_peer import ApiPeer, Call, Reply
from tests.providers.vendor import BAD, Vendor


class SinkPeer(ApiPeer):
    def answer(self, call: Call) -> Reply:
        if call.path == "/health":
            return Reply(200, {"accepted": len(self.sent)})
        if call.path == "/lookup":
            return Reply(200, {"known": [[1, "accepted"], [99, "accepted"]]})
        results = []
        for letter in call.json["letters"]:
            if letter["to"] == BAD:
                results.append({"lead": letter["lead"], "status": "refused", "reason": "no such address"})
            else:
                self.sent.append(letter)
                results.append({"lead": letter["lead"], "status": "accepted", "id": f"s-{letter['lead']}"})
        return Reply(200, {"results": results})


def ids(call: Call) -> list[dict[str, int]]:
    told = call.json
    shared = {name: told[name] for name in ("campaign", "handoff", "run")}
    return [{**shared, "lead": letter["lead"]} for letter in told["letters"]]


VENDOR = Vendor(
    name="sink",
    peer=SinkPeer,
    url=lambda host, key: f"sink+http://{host}?lookup=1",
    ids=ids,
    unsubscribe=lambda call: [letter["headers"] for letter in call.json["letters"]],
    keyless=True,
)
