"""Campaigns whose calls were lost on the way: asked for, made again under their key, or told of by webhooks."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from app.config import Settings
from app.flows import ingest, launch, look_up, pools, repeat, send_range, take_webhook
from app.runtime import Runtime
from tests import world
from tests.providers import brevo_peer, postmark_peer, resend_peer
from tests.providers.api_peer import ApiPeer, Reply, running
from tests.providers.vendor import KEY, Vendor
from tests.sending_world import later, one, query, sums
from tests.world import World

LEADS = 30
SECRET = "a-secret-of-our-own-making"


@pytest.fixture
def runtime(settings: Settings) -> Iterator[Runtime]:
    runtime = Runtime(replace(settings, range_size=100))
    yield runtime
    runtime.close()


def launched(runtime: Runtime, vendor: Vendor, peer: ApiPeer) -> World:
    """A campaign to thirty leads, sent through the vendor's peer, the reply to its one call lost."""
    url = vendor.url(peer.host, KEY)
    built = world.build(runtime.db, secret_key=runtime.settings.secret_key, leads=LEADS, provider_url=url)
    launch.launch(runtime, built.organisation_id, built.campaign_id)
    peer.script(Reply(200, cut=True))
    send_range.drain(runtime)
    assert sums(runtime, built.campaign_id) == {"unknown": LEADS}
    assert len(peer.sent) == LEADS
    return built


def test_postmark_is_asked_and_says_what_it_took(runtime: Runtime) -> None:
    with running(postmark_peer.PostmarkPeer()) as peer:
        built = launched(runtime, postmark_peer.VENDOR, peer)
        later(runtime, 40)
        assert look_up.look_up_due(runtime) == LEADS
        assert sums(runtime, built.campaign_id) == {"sent": LEADS}
        assert len(peer.sent) == LEADS


def test_resend_answers_the_same_call_again_and_mails_nobody_twice(runtime: Runtime) -> None:
    with running(resend_peer.ResendPeer()) as peer:
        built = launched(runtime, resend_peer.VENDOR, peer)
        later(runtime, 40)
        assert repeat.repeat_due(runtime) == 1
        assert sums(runtime, built.campaign_id) == {"sent": LEADS}
        assert peer.calls[0].body == peer.calls[1].body
        assert len(peer.sent) == LEADS


def test_brevo_knows_the_key_and_tells_the_rest_by_webhook(runtime: Runtime) -> None:
    with running(brevo_peer.BrevoPeer()) as peer:
        built = launched(runtime, brevo_peer.VENDOR, peer)
        later(runtime, 40)
        assert repeat.repeat_due(runtime) == 1
        assert sums(runtime, built.campaign_id) == {"unknown": LEADS}
        assert peer.calls[0].body == peer.calls[1].body
        assert len(peer.sent) == LEADS
        # It answered: a pool that was found down is not kept from sending by a key that is known.
        assert one(runtime, "SELECT state FROM pool")["state"] == "active"

        told = [
            {
                "event": "request",
                "email": sent["to"][0]["email"],
                "message-id": brevo_peer.message_id(number),
                "ts_epoch": round(datetime.now(UTC).timestamp() * 1000),
                "X-Mailin-custom": sent["headers"]["X-Mailin-custom"],
            }
            for number, sent in enumerate(peer.sent)
        ]
        post(runtime, built, json.dumps(told).encode())
        assert sums(runtime, built.campaign_id) == {"sent": LEADS}


def post(runtime: Runtime, built: World, body: bytes) -> None:
    """Brevo posts these to the pool's address, and a worker reads it."""
    pools.set_webhook_secret(runtime, built.organisation_id, built.pool_id, SECRET)
    [(token,)] = query(runtime, "SELECT webhook_token FROM pool")
    basic = b64encode(f"brevo:{SECRET}".encode()).decode()
    take_webhook.take(runtime, str(token), {"authorization": f"Basic {basic}"}, body)
    assert not ingest.read_waiting(runtime)
