"""The actors: each hears one bell and calls one flow."""

from __future__ import annotations

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from app.flows import import_leads, ingest, send_range, steer
from app.runtime import Runtime


def declare(broker: RedisBroker, runtime: Runtime) -> None:
    """Declare the actor of every queue."""

    @dramatiq.actor(broker=broker, queue_name="send")
    def send() -> None:
        if send_range.drain(runtime):
            runtime.ring("send")  # there may be more: let other bells have their turn first

    @dramatiq.actor(broker=broker, queue_name="import", actor_name="import")
    def run_import() -> None:
        if import_leads.run_waiting(runtime):
            runtime.ring("import")

    @dramatiq.actor(broker=broker, queue_name="ingest", actor_name="ingest")
    def run_ingest() -> None:
        if ingest.read_waiting(runtime):
            runtime.ring("ingest")

    @dramatiq.actor(broker=broker, queue_name="upkeep")
    def upkeep() -> None:
        steer.close_cancelled(runtime)
