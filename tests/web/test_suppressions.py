"""Promises of the suppressions' pages: everybody may enter, an admin may take back, what is wrong is said and kept."""

from __future__ import annotations

import re
from io import BytesIO

import pytest
from sqlalchemy import text

from app.models import lead, suppression
from app.models.suppression import Entry
from app.runtime import Runtime
from tests import world
from tests.web.conftest import People, Visit

ADA = "ada@example.org"


@pytest.fixture
def sender_id(runtime: Runtime, people: People) -> int:
    with runtime.db.begin() as conn:
        pool_id = world.insert(
            conn,
            "pool",
            organisation_id=people.ours,
            name="Marketing",
            provider="sink",
            url=b"",
            shown_url="",
            batch=50,
        )
        sender = {"organisation_id": people.ours, "pool_id": pool_id, "name": "Bakery", "address": "hello@example.com"}
        return world.insert(conn, "sender", **sender)


@pytest.fixture
def lead_id(runtime: Runtime, people: People) -> int:
    with runtime.db.begin() as conn:
        domain = lead.number_domains(conn, ["example.org"])["example.org"]
        world.merge(conn, people.ours, [f"{ADA}\t{domain}\t\\N\t{{}}\n"])
        return int(conn.execute(text("SELECT id FROM lead")).scalar_one())


def suppress(runtime: Runtime, people: People, *entries: Entry) -> None:
    with runtime.db.begin() as conn:
        suppression.suppress_each(conn, people.ours, entries)


def listed(page: str) -> list[str]:
    return re.findall(r"<strong>([^<]+)<wbr>@", page)


def test_following_next_shows_every_suppression_once(
    ann: Visit, runtime: Runtime, people: People, sender_id: int
) -> None:
    several = [Entry(f"a{n:03}@x.de", "bounced", sender_id=whom) for n in range(60) for whom in (0, sender_id)]
    suppress(runtime, people, *several)
    seen: list[str] = []
    address: str | None = "/suppressions"
    while address:
        page = ann.get(address).text
        seen += listed(page)
        link = re.search(r'href="([^"]+)" rel="next"', page)
        address = link[1].replace("&amp;", "&") if link else None
    assert seen == [f"a{n:03}" for n in range(60) for _ in range(2)]
    assert listed(ann.get("/suppressions?q=A05").text) == [f"a05{n}" for n in range(10) for _ in range(2)]
    assert "Nobody found" in ann.get("/suppressions?q=zz").text


@pytest.mark.parametrize("query", ["after=x", "after=x%20y", "after=%00%209999999999999", "q=%00", "q=" + "x" * 5000])
def test_no_address_line_breaks_the_list(ann: Visit, query: str) -> None:
    assert ann.get(f"/suppressions?{query}").status_code == 200


def test_bad_addresses_are_named_and_what_was_typed_is_kept(bob: Visit, runtime: Runtime) -> None:
    page = bob.post("/suppressions/new", {"emails": f"{ADA}\n<b>x", "sender": "0", "note": "phoned"})
    assert page.status_code == 422
    assert "&lt;b&gt;x" in page.text and "phoned" in page.text and f"{ADA}\n" in page.text.replace("\r", "")
    assert bob.post("/suppressions/new", {"emails": ADA, "sender": "99"}).status_code == 422
    assert bob.post("/suppressions/new", {"emails": "", "sender": "0"}).status_code == 422
    with runtime.db.begin() as conn:
        assert conn.execute(text("SELECT count(*) FROM suppression")).scalar_one() == 0


def test_a_marketer_enters_and_an_admin_takes_back(
    bob: Visit, ann: Visit, eve: Visit, runtime: Runtime, people: People, sender_id: int
) -> None:
    assert bob.post("/suppressions/new", {"emails": ADA, "sender": str(sender_id), "note": "phoned"}).status_code == 302
    page = bob.get("/suppressions").text
    assert "phoned, by Bob" in page and "Bakery" in page and "Mail again" not in page
    here = f"/suppressions/remove?email={ADA}&sender={sender_id}"
    assert bob.get(here).status_code == 403
    assert bob.post(here).status_code == 403
    assert eve.get(here).status_code == 404
    assert eve.post(here).status_code == 404
    assert "Nobody is suppressed" in eve.get("/suppressions").text
    assert ADA not in eve.get("/suppressions.csv").text
    assert "entered by hand" in ann.get(here).text
    assert ann.post(here).status_code == 302
    assert ann.get(here).status_code == 404
    with runtime.db.begin() as conn:
        (removed,) = suppression.find_removed(conn, people.ours, ADA)
    assert (removed.removed_by, removed.sender) == ("Ann", "Bakery")


def test_a_wish_is_taken_back_only_with_consent(ann: Visit, runtime: Runtime, people: People, lead_id: int) -> None:
    suppress(runtime, people, Entry(ADA, "unsubscribed", "campaign 7"))
    here = f"/suppressions/remove?email={ADA}"
    assert "They have asked for this themselves" in ann.get(here).text
    refused = ann.post(here)
    assert refused.status_code == 422 and "taken back only when they ask" in refused.text
    done = ann.post(here, {"consent": "y"})
    assert (done.status_code, done.headers["Location"]) == (302, f"/leads/{lead_id}")
    page = ann.get(f"/leads/{lead_id}").text
    assert "Never mailed again" not in page
    assert "unsubscribed (campaign 7), since" in page and "by Ann" in page


def test_a_lead_is_suppressed_on_its_page(
    bob: Visit, ann: Visit, runtime: Runtime, people: People, lead_id: int
) -> None:
    assert "Never mail again" in bob.get(f"/leads/{lead_id}").text
    assert bob.post(f"/leads/{lead_id}/suppress").status_code == 302
    page = bob.get(f"/leads/{lead_id}").text
    assert "Never mailed again: entered by hand (on the lead&#39;s page)" in page and "entered by Bob" in page
    assert "/suppressions/remove" not in page
    assert f"/suppressions/remove?email={ADA}" in ann.get(f"/leads/{lead_id}").text


def test_another_organisations_lead_is_not_suppressed(eve: Visit, runtime: Runtime, lead_id: int) -> None:
    assert eve.post(f"/leads/{lead_id}/suppress").status_code == 404


def test_a_list_is_imported_and_its_bad_rows_are_shown(bob: Visit, sender_id: int) -> None:
    file = (BytesIO(f"email,reason\n{ADA},bounced\n<i>x,\n".encode()), "old.csv")
    page = bob.post("/suppressions/import", {"file": file, "reason": "unsubscribed", "sender": "0"})
    assert page.status_code == 200
    assert "&lt;i&gt;x" in page.text and "Not taken" in page.text
    assert listed(bob.get("/suppressions").text) == ["ada"]
    assert "old.csv, by Bob" in bob.get("/suppressions").text
    exported = bob.get("/suppressions.csv")
    assert exported.mimetype == "text/csv" and f"{ADA},,bounced,old.csv," in exported.text
    for bad in ((BytesIO(b""), "x.csv"), (BytesIO(b"name\nAda\n"), "x.csv")):
        refused = bob.post("/suppressions/import", {"file": bad, "reason": "unsubscribed", "sender": str(sender_id)})
        assert refused.status_code == 422
        assert f'<option selected value="{sender_id}">' in refused.text
    assert bob.post("/suppressions/import", {"reason": "x", "sender": "0"}).status_code == 422


def test_pages_are_closed_to_strangers(stranger: Visit) -> None:
    for path in (
        "/suppressions",
        "/suppressions.csv",
        "/suppressions/new",
        "/suppressions/import",
        "/suppressions/remove",
    ):
        assert stranger.get(path).status_code == 302
