"""What the provider calls an email is found on its lead's timeline, whatever became of the email meanwhile."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from sqlalchemy import text

from app.flows import launch, send_range
from app.mail import Accepted, Batch, Capabilities, Deferred, Outcome
from app.models import recipient
from app.models.recipient import Call
from app.runtime import Runtime
from tests import world
from tests.sending_world import later
from tests.world import World


class Namer:
    """Takes every email under a name of its own; the first time it puts leads of odd ids off."""

    capabilities = Capabilities(batch=4, distinct_body=True)

    def __init__(self) -> None:
        self.calls = 0

    def send(self, batch: Batch) -> list[Outcome]:
        self.calls += 1
        return [self._answer(letter.lead_id) for letter in batch.letters]

    def _answer(self, lead_id: int) -> Outcome:
        return Deferred("450 later") if lead_id % 2 and self.calls <= 3 else Accepted(f"call{self.calls}-lead{lead_id}")

    def close(self) -> None:
        """There is nothing to hang up."""


def use(runtime: Runtime, provider: object) -> None:
    with runtime.db.begin() as conn:
        for url in conn.execute(text("SELECT url FROM pool")).scalars():
            runtime._providers[bytes(url)] = provider  # type: ignore[assignment]


@pytest.fixture
def sent(runtime: Runtime) -> World:
    """Twelve leads, in calls of four; those of odd ids were put off once."""
    built = world.build(runtime.db, secret_key=runtime.settings.secret_key, leads=12, batch=4)
    use(runtime, Namer())
    launch.launch(runtime, built.organisation_id, built.campaign_id)
    send_range.drain(runtime)
    later(runtime, 120)
    send_range.drain(runtime)
    return built


def refs_of(runtime: Runtime, built: World, lead_id: int) -> Sequence[Call]:
    with runtime.db.begin() as conn:
        [chapter] = recipient.find_timeline(conn, built.organisation_id, lead_id).chapters
    return chapter.calls


def test_each_lead_has_the_providers_own_id_of_its_email(runtime: Runtime, sent: World) -> None:
    for lead_id in range(1, 13):
        [call] = refs_of(runtime, sent, lead_id)
        number, _, lead = call.ref.partition("-")
        assert (call.pool, call.provider, call.run, lead) == ("Pool", "sink", 1, f"lead{lead_id}")
        assert (int(number[4:]) > 3) == bool(lead_id % 2), "the call that put it off gave it none"


def test_one_id_for_a_whole_call_is_each_of_its_leads(runtime: Runtime, sent: World) -> None:
    with runtime.db.begin() as conn:
        conn.execute(text("UPDATE handoff SET refs = 'tone' WHERE id = 1"))
    assert [refs_of(runtime, sent, lead_id)[-1].ref for lead_id in (1, 2)] == ["one", "one"]


def test_an_email_of_which_the_provider_said_no_id_has_none(runtime: Runtime, sent: World) -> None:
    with runtime.db.begin() as conn:
        conn.execute(text("UPDATE handoff SET refs = NULL"))
    assert refs_of(runtime, sent, 2) == []


def test_it_is_nobody_elses(runtime: Runtime, sent: World) -> None:
    with runtime.db.begin() as conn:
        assert recipient.find_timeline(conn, sent.organisation_id + 1, 2).chapters == []
        assert recipient._find_calls(conn, sent.organisation_id + 1, 2, [sent.campaign_id]) == {}
