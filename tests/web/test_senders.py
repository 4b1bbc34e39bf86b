"""Promises of the senders' pages: what is secret goes in and never comes out."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from sqlalchemy import text

from app.flows import pools
from app.models import webhook
from app.models.pool import Pool
from app.models.webhook import Arrivals
from app.runtime import Runtime
from tests.web.conftest import People, Visit
from tests.web.test_campaigns import words

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


@pytest.mark.parametrize(
    ("state", "resume", "probe", "label", "said"),
    [
        ("active", None, None, "sends", ""),
        ("paused", 480, None, "waits", "because: HTTP 503 (4 tries in a row). Then one batch tries it."),
        ("paused", -1, None, "is tried next", "The next batch that is due tries it."),
        ("paused", -1, 60, "is being tried", "One batch is on its way to see whether it is back."),
        ("paused", -1, -60, "is tried next", "The next batch that is due tries it."),
        ("paused", None, None, "paused", "HTTP 503. Nothing is sent until a person acts"),
    ],
)
def test_a_pool_says_in_words_what_it_waits_for(
    ann: Visit,
    runtime: Runtime,
    people: People,
    state: str,
    resume: int | None,
    probe: int | None,
    label: str,
    said: str,
) -> None:
    pools.add_pool(runtime, people.ours, "Marketing", URL)
    with runtime.db.begin() as conn:
        conn.execute(
            text(
                "UPDATE pool SET state = :state, failures = 4, reason = 'HTTP 503',"
                " resume_at = now() + make_interval(secs => CAST(:resume AS float8)),"
                " probe_until = now() + make_interval(secs => CAST(:probe AS float8))"
            ),
            {"state": state, "resume": resume, "probe": probe},
        )
    page = words(ann.get("/senders").text)
    assert page.split("smtp.example.com")[1].split(" ", 1)[1].startswith(label)
    assert said in page
    assert ("Send again" in page) is (state == "paused")


def test_an_admin_sees_where_webhooks_go_and_writes_their_secret(runtime: Runtime, people: People, ann: Visit) -> None:
    pool_id = pools.add_pool(runtime, people.ours, "Ours", "sink+http://127.0.0.1:9025")
    page = ann.get("/senders").text
    assert "Not set up" in page
    page = ann.get(f"/pools/{pool_id}/webhooks").text
    with runtime.db.begin() as conn:
        door = webhook.list_doors(conn, people.ours)[pool_id]
    assert f"{runtime.settings.base_url}/webhooks/{door.token}" in page
    refused = ann.post(f"/pools/{pool_id}/webhooks", {"secret": "whsec_short"})
    assert refused.status_code == 422
    assert "whsec_short" not in refused.text
    secret = "whsec_" + "A" * 40
    assert ann.post(f"/pools/{pool_id}/webhooks", {"secret": secret}).status_code == 302
    assert secret not in ann.get(f"/pools/{pool_id}/webhooks").text
    assert "none yet" in ann.get("/senders").text
    with runtime.db.begin() as conn:
        arrived = Arrivals(datetime.now(UTC), datetime.now(UTC), [0, 998, 0, 2], 1000, 0, 0, 0)
        webhook.note_arrivals(conn, pool_id, arrived)
    page = ann.get("/senders").text
    assert "Half come within 2 s of the call, 99.9 % within 8 s." in page
    assert "15 min of silence" in page


def test_a_marketer_sees_neither_address_nor_secret(runtime: Runtime, people: People, bob: Visit) -> None:
    pool_id = pools.add_pool(runtime, people.ours, "Ours", "sink+http://127.0.0.1:9025")
    with runtime.db.begin() as conn:
        token = webhook.list_doors(conn, people.ours)[pool_id].token
    assert token not in bob.get("/senders").text
    assert bob.get(f"/pools/{pool_id}/webhooks").status_code == 403
    assert bob.post(f"/pools/{pool_id}/webhooks", {"secret": "whsec_" + "A" * 40}).status_code == 403
