"""Campaigns through SendGrid and Mailgun from launch to record: each lead once, and unknowns that events settle."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from secrets import token_hex
from typing import Any

import httpx
import orjson
import pytest
from sqlalchemy import text

from app.flows import ingest, launch, pools, send_range
from app.runtime import Runtime
from tests import world
from tests.providers import mailgun_peer, sendgrid_peer, test_mailgun_events, test_sendgrid_events
from tests.providers.api_peer import Reply, running
from tests.providers.vendor import KEY, Vendor
from tests.web_server import running_web

LEADS = 150  # three calls of the same size: any of them may come first, and be lost
Post = tuple[bytes, Mapping[str, str]]


def sendgrid_posts(events: list[tuple[str, str, str]]) -> list[Post]:
    """(event, hand-off, lead) in one signed post."""
    body = orjson.dumps(
        [
            {
                "event": {"rejected": "dropped"}.get(event, event),
                "sg_event_id": token_hex(8),
                "timestamp": int(time.time()),
                "millrace_handoff": handoff,
                "millrace_lead": lead,
            }
            for event, handoff, lead in events
        ]
    )
    return [(body, test_sendgrid_events.signed(body))]


def mailgun_posts(events: list[tuple[str, str, str]]) -> list[Post]:
    """One post for each."""
    told = [
        test_mailgun_events.post(
            token=token_hex(25),
            event=event,
            id=token_hex(8),
            timestamp=time.time(),
            **{"user-variables": {"millrace_handoff": handoff, "millrace_lead": lead}},
        )
        for event, handoff, lead in events
    ]
    return [(orjson.dumps(each), {}) for each in told]


@dataclass(frozen=True)
class Case:
    vendor: Vendor
    secret: str
    posts: Callable[[list[tuple[str, str, str]]], list[Post]]
    lead: Callable[[Any], str]

    def __str__(self) -> str:
        return self.vendor.name


CASES = [
    Case(
        sendgrid_peer.VENDOR,
        test_sendgrid_events.public(),
        sendgrid_posts,
        lambda mail: mail["custom_args"]["millrace_lead"],
    ),
    Case(mailgun_peer.VENDOR, test_mailgun_events.KEY, mailgun_posts, lambda mail: mail["v:millrace_lead"]),
]


def kinds(runtime: Runtime) -> dict[str, int]:
    with runtime.db.begin() as conn:
        rows = conn.execute(text("SELECT kind::text, sum(weight) FROM event GROUP BY kind"))
        return {kind: int(total) for kind, total in rows if total}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_lost_call_is_settled_by_what_the_provider_tells(runtime: Runtime, case: Case) -> None:
    with running(case.vendor.peer()) as peer, running_web(runtime) as web:
        peer.script(Reply(case.vendor.ok, cut=True))  # the first call is taken, and its reply is lost
        built = world.build(
            runtime.db,
            secret_key=runtime.settings.secret_key,
            leads=LEADS,
            provider_url=case.vendor.url(peer.host, KEY),
        )
        pools.set_webhook_secret(runtime, built.organisation_id, built.pool_id, case.secret)
        launch.launch(runtime, built.organisation_id, built.campaign_id)
        send_range.drain(runtime)
        assert kinds(runtime) == {"sent": LEADS - 50, "unknown": 50}
        assert Counter(case.lead(mail) for mail in peer.sent).most_common(1)[0][1] == 1
        assert len(peer.sent) == LEADS

        with runtime.db.begin() as conn:
            token = conn.execute(text("SELECT webhook_token FROM pool")).scalar_one()
            lost = conn.execute(text("SELECT id, lead_ids FROM handoff WHERE outcomes LIKE '%u%'")).one()
            emails = dict(conn.execute(text("SELECT CAST(id AS text), email FROM lead")).all())
        assert {case.lead(mail): mail["to"] for mail in peer.sent} == emails
        first, *others = (str(lead) for lead in lost.lead_ids)
        told = [("rejected", str(lost.id), first), *(("delivered", str(lost.id), lead) for lead in others)]
        for body, headers in case.posts(told) * 2:
            address = f"{web}/webhooks/{token}/{case}"
            assert httpx.post(address, content=body, headers=dict(headers)).status_code == 200
        assert not ingest.read_waiting(runtime)
    assert kinds(runtime) == {"sent": LEADS - 1, "refused": 1, "delivered": 49}
