"""Promises of the leads' pages: found by the beginning of an address, paged by key, each with what happened to it."""

from __future__ import annotations

import json
import re

import pytest
from sqlalchemy import text

from app.flows import launch, login, unsubscribe
from app.models import lead, refs, suppression
from app.runtime import Runtime
from tests import world
from tests.peers import running_sink
from tests.web.campaign_world import add_draft, add_leads, add_sender, send_all
from tests.web.conftest import PASSWORD, People, Visit


@pytest.fixture
def many(runtime: Runtime, people: People) -> None:
    with runtime.db.begin() as conn:
        domain = lead.number_domains(conn, ["example.org"])["example.org"]
        lead.register_attributes(conn, people.ours, {"first_name": "text", "vip": "boolean"})
        known = json.dumps({"first_name": "<b>Ada</b>", "vip": True})
        world.merge(conn, people.ours, (f"lead{n:03}@example.org\t{domain}\t\\N\t{known}\n" for n in range(120)))


def found(page: str) -> list[str]:
    return re.findall(r"(lead\d+)<wbr>@example\.org", page)


@pytest.mark.usefixtures("many")
def test_following_next_shows_every_lead_once(ann: Visit) -> None:
    seen: list[str] = []
    address: str | None = "/leads"
    while address:
        page = ann.get(address).text
        seen += found(page)
        link = re.search(r'href="([^"]+)" rel="next"', page)
        address = link[1].replace("&amp;", "&") if link else None
    assert seen == [f"lead{n:03}" for n in range(120)]


@pytest.mark.usefixtures("many")
def test_a_search_keeps_its_words_on_every_page(ann: Visit) -> None:
    page = ann.get("/leads?q=LEAD0").text
    assert len(found(page)) == 50
    assert "q=LEAD0" in page.split('rel="next"')[0].rpartition("href=")[2]
    assert found(ann.get("/leads?q=lead119").text) == ["lead119"]
    assert "Nobody found" in ann.get("/leads?q=%25").text


@pytest.mark.parametrize("query", ["after=x", "after=99999999999999999999", "after=-1", "q=%00", "q=" + "x" * 5000])
@pytest.mark.usefixtures("many")
def test_no_address_line_breaks_the_list(ann: Visit, query: str) -> None:
    assert ann.get(f"/leads?{query}").status_code in (200, 400, 404)


@pytest.mark.usefixtures("many")
def test_a_leads_page_shows_what_is_known_and_why_it_is_not_mailed(
    ann: Visit, runtime: Runtime, people: People
) -> None:
    with runtime.db.begin() as conn:
        number = lead.find_page(conn, people.ours, "lead007", None, 1)[0].id
        suppression.suppress(conn, people.ours, ["lead007@example.org"], "bounced", "campaign 7")
    page = ann.get(f"/leads/{number}").text
    assert "&lt;b&gt;Ada&lt;/b&gt;" in page
    assert "<dd>yes</dd>" in page
    assert "Never mailed again: bounced (campaign 7)" in page
    assert "No campaign has gone to this lead yet." in ann.get(f"/leads/{number}/timeline").text


def test_a_timeline_tells_what_happened(ann: Visit, runtime: Runtime) -> None:
    at = world.build(runtime.db, secret_key=runtime.settings.secret_key, leads=1)
    launch.launch(runtime, at.organisation_id, at.campaign_id)
    with runtime.db.begin() as conn:
        number = lead.find_page(conn, at.organisation_id, "", None, 1)[0].id
    login.create_user(
        runtime.db, email="zoe@example.com", name="Zoe", password=PASSWORD, organisation_id=at.organisation_id
    )
    ann.post("/logout")
    assert ann.log_in("zoe@example.com").status_code == 302
    assert "Chosen; nothing has happened yet." in ann.get(f"/leads/{number}/timeline").text
    unsubscribe.unsubscribe(runtime, runtime.signer.unsubscribe_token(number, at.campaign_id))
    page = ann.get(f"/leads/{number}/timeline").text
    assert "unsubscribed" in page
    assert "Chosen" not in page


def test_the_providers_own_id_of_an_email_is_on_its_leads_timeline(
    ann: Visit, runtime: Runtime, people: People
) -> None:
    ids = add_leads(runtime, people.ours, {"ada": "Ada"})
    with running_sink() as peer:
        campaign_id = add_draft(runtime, people, sender_id=add_sender(runtime, people.ours, peer.url))
        send_all(runtime, people, campaign_id)
    with runtime.db.begin() as conn:
        [ref] = refs.unpack(conn.execute(text("SELECT refs FROM handoff")).scalar_one())
    page = ann.get(f"/leads/{ids['ada@example.org']}/timeline").text
    assert ref and f'<code class="copied">{ref}</code>' in page
