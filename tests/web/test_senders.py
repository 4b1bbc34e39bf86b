"""Promises of the senders' pages: who emails come from, and what carries them."""

from __future__ import annotations

import pytest

from app.flows import pools, senders
from app.models.sender import Sender
from app.runtime import Runtime
from tests.web.campaign_world import add_draft
from tests.web.conftest import People, Visit

URL = "smtp://user:password@smtp.example.com:587?tls=starttls"


def test_a_sender_is_added_to_a_pool(ann: Visit, runtime: Runtime, people: People) -> None:
    pool = pools.add_pool(runtime, people.ours, "Marketing", URL)
    form = {"name": "Old Mill", "address": "Hello@Example.com", "reply_to": "", "pool": str(pool)}
    assert ann.post("/senders/new", form).status_code == 302
    assert "hello@example.com" in ann.get("/senders").text


def test_who_comes_from_a_pools_page_finds_that_pool_chosen(ann: Visit, runtime: Runtime, people: People) -> None:
    pool_id = [pools.add_pool(runtime, people.ours, name, "sink+http://127.0.0.1:9025") for name in ("A", "B", "C")][1]
    assert f'href="/senders/new?pool={pool_id}"' in ann.get(f"/pools/{pool_id}").text
    assert f'<option selected value="{pool_id}">' in ann.get(f"/senders/new?pool={pool_id}").text


@pytest.mark.parametrize(
    "field, value",
    [
        ("name", "A\r\nBcc: x@example.org"),
        ("address", "a@b\r\nBcc:"),
        ("reply_to", "nobody"),
        ("pool", "9"),
        ("second_pool", "9"),
    ],
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


def test_a_sender_is_changed_and_given_a_second_pool(ann: Visit, runtime: Runtime, people: People) -> None:
    first, second = (pools.add_pool(runtime, people.ours, name, URL) for name in ("First", "Second"))
    sender = senders.add_sender(runtime, people.ours, first, "Old Mill", "hello@example.com")
    form = {"name": "New Mill", "address": "new@example.com", "reply_to": "", "pool": str(first)}
    assert ann.post(f"/senders/{sender}/edit", {**form, "second_pool": str(second)}).status_code == 302
    with runtime.db.session() as session:
        found = session.get_one(Sender, sender)
    assert (found.name, found.address, found.pool_id, found.second_pool_id) == (
        "New Mill",
        "new@example.com",
        first,
        second,
    )
    page = ann.get("/senders").text
    assert "then Second" in page
    assert ann.post(f"/senders/{sender}/edit", {**form, "second_pool": ""}).status_code == 302
    assert "then Second" not in ann.get("/senders").text


def test_a_second_pool_is_another_one(ann: Visit, runtime: Runtime, people: People) -> None:
    pool = pools.add_pool(runtime, people.ours, "First", URL)
    form = {"name": "Mill", "address": "a@example.com", "reply_to": "", "pool": str(pool), "second_pool": str(pool)}
    response = ann.post("/senders/new", form)
    assert response.status_code == 422
    assert "another pool than the first" in response.text
    assert "a@example.com" in response.text, "what was typed is kept"


def test_two_senders_never_have_one_name_and_address(ann: Visit, runtime: Runtime, people: People) -> None:
    pool = pools.add_pool(runtime, people.ours, "First", URL)
    senders.add_sender(runtime, people.ours, pool, "Mill", "a@example.com")
    other = senders.add_sender(runtime, people.ours, pool, "Mill", "b@example.com")
    form = {"name": "mill", "address": "A@example.com", "reply_to": "", "pool": str(pool), "second_pool": ""}
    assert ann.post(f"/senders/{other}/edit", form).status_code == 422
    assert ann.post(f"/senders/{other}/edit", {**form, "address": "b@example.com"}).status_code == 302, "its own name"


def test_a_sender_is_deleted_only_while_no_campaign_is_from_it(ann: Visit, runtime: Runtime, people: People) -> None:
    pool = pools.add_pool(runtime, people.ours, "First", URL)
    used, unused = (
        senders.add_sender(runtime, people.ours, pool, name, "a@example.com") for name in ("Used", "Unused")
    )
    add_draft(runtime, people, sender_id=used)
    ann.post(f"/senders/{used}/delete")
    ann.post(f"/senders/{unused}/delete")
    page = ann.get("/senders").text
    assert "Campaigns are from this sender" in page
    with runtime.db.session() as session:
        assert [each.name for each in session.query(Sender)] == ["Used"]


def test_another_organisations_sender_is_not_there(eve: Visit, runtime: Runtime, people: People) -> None:
    pool = pools.add_pool(runtime, people.ours, "First", URL)
    sender = senders.add_sender(runtime, people.ours, pool, "Mill", "a@example.com")
    assert eve.get(f"/senders/{sender}/edit").status_code == 404
    assert eve.post(f"/senders/{sender}/delete").status_code == 404
