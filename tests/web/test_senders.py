"""Promises of the senders' pages: what is secret goes in and never comes out."""

from __future__ import annotations

import pytest

from app.flows import pools
from app.models.campaign import Pool
from app.runtime import Runtime
from tests.web.conftest import People, Visit

URL = "smtp://canary-user:canary%40pass@smtp.example.com:587?tls=starttls"


def test_a_pool_is_connected_and_its_credentials_are_never_shown(ann: Visit, runtime: Runtime) -> None:
    assert ann.post("/pools/new", {"name": "Marketing", "url": URL, "batch": "50"}).status_code == 302
    page = ann.get("/senders").text
    assert "Marketing" in page
    assert "smtp.example.com" in page
    assert "canary" not in page
    with runtime.db.session() as session:
        kept = session.query(Pool).one()
    assert b"canary" not in kept.url
    assert runtime.vault.decrypt(kept.url) == URL


@pytest.mark.parametrize("name, url, batch", [("", URL, "50"), ("M", "ftp://canary@x", "50"), ("M", URL, "0")])
def test_a_faulty_pool_is_not_kept_and_its_url_is_not_sent_back(ann: Visit, name: str, url: str, batch: str) -> None:
    response = ann.post("/pools/new", {"name": name, "url": url, "batch": batch})
    assert response.status_code == 422
    assert 'class="fault"' in response.text
    assert "canary" not in response.text


def test_a_sender_is_added_to_a_pool(ann: Visit, runtime: Runtime, people: People) -> None:
    pool = pools.add_pool(runtime, people.ours, "Marketing", URL)
    form = {"name": "Old Mill", "address": "Hello@Example.com", "reply_to": "", "pool": str(pool)}
    assert ann.post("/senders/new", form).status_code == 302
    assert "hello@example.com" in ann.get("/senders").text


@pytest.mark.parametrize(
    "field, value",
    [("name", "A\r\nBcc: x@example.org"), ("address", "a@b\r\nBcc:"), ("reply_to", "nobody"), ("pool", "9")],
)
def test_a_sender_that_could_inject_headers_is_refused(
    ann: Visit, runtime: Runtime, people: People, field: str, value: str
) -> None:
    pool = pools.add_pool(runtime, people.ours, "Marketing", URL)
    form = {"name": "Old Mill", "address": "hello@example.com", "reply_to": "", "pool": str(pool)}
    response = ann.post("/senders/new", {**form, field: value})
    assert response.status_code == 422
    assert 'class="fault"' in response.text


def test_nobody_sends_through_the_pool_of_another_organisation(ann: Visit, runtime: Runtime, people: People) -> None:
    theirs = pools.add_pool(runtime, people.theirs, "Theirs", URL)
    form = {"name": "Old Mill", "address": "hello@example.com", "reply_to": "", "pool": str(theirs)}
    assert ann.post("/senders/new", form).status_code == 422


def test_a_paused_pool_says_why_and_is_set_going_again(ann: Visit, runtime: Runtime, people: People) -> None:
    pool_id = pools.add_pool(runtime, people.ours, "Marketing", URL)
    with runtime.db.session() as session:
        pool = session.get_one(Pool, pool_id)
        pool.state, pool.reason = "paused", "The provider refuses our key."
    assert "The provider refuses our key." in ann.get("/senders").text
    ann.post(f"/pools/{pool_id}/resume")
    assert "The provider refuses our key." not in ann.get("/senders").text
