"""Promises of the imports' pages: a file is taken in whole and watched, and its rejects are safe to open."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta

import pytest
from flask import Flask

from app.flows import import_leads
from app.models import lead, lead_import
from app.runtime import Runtime
from tests.web.conftest import People, Visit

FILE = b"email;first_name\nada@example.org;Ada\n=cmd()@x;Eve\nada@example.org;Ada\n"


def send(visit: Visit, content: bytes, name: str = "leads.csv", **fields: str) -> str:
    """The address of the import's page."""
    response = visit.post("/imports/new", {"file": (io.BytesIO(content), name), **fields})
    assert response.status_code == 302, response.text
    assert response.location is not None
    return response.location


def test_a_file_is_taken_in_read_and_added_up(bob: Visit, runtime: Runtime, people: People) -> None:
    page = send(bob, FILE)
    assert "Waiting for a worker." in bob.get(page).text
    assert "hx-get" in bob.get(f"{page}/progress").text
    import_leads.run_waiting(runtime)
    shown = bob.get(page).text
    assert "finished" in shown
    assert "hx-get" not in shown
    with runtime.db.begin() as conn:
        assert [row.email for row in lead.find_page(conn, people.ours, "", None, 9)] == ["ada@example.org"]


def test_the_page_reloads_when_the_import_has_ended(bob: Visit, runtime: Runtime) -> None:
    page = send(bob, FILE)
    import_leads.run_waiting(runtime)
    assert bob.get(f"{page}/progress").headers["HX-Refresh"] == "true"


def test_the_page_says_how_fast_it_reads_and_how_long_it_took(bob: Visit, runtime: Runtime, people: People) -> None:
    page = send(bob, FILE)
    number = int(page.rpartition("/")[2])
    with runtime.db.session() as session:
        each = lead_import.get(session, people.ours, number)
        each.state, each.started_at = "running", datetime.now(UTC) - timedelta(minutes=2)
        each.bytes_read, each.rows_read = each.file_bytes // 2, 1200
    assert "10 rows a second" in bob.get(page).text
    assert "2 min left" in bob.get(f"{page}/progress").text
    with runtime.db.session() as session:
        each = lead_import.get(session, people.ours, number)
        each.state, each.finished_at = "finished", datetime.now(UTC)
    assert "read in 2 min" in bob.get(page).text


def test_rejected_rows_are_fetched_and_become_no_formula(bob: Visit, runtime: Runtime) -> None:
    page = send(bob, FILE)
    import_leads.run_waiting(runtime)
    response = bob.get(f"{page}/rejects.csv")
    assert response.headers["Content-Disposition"].startswith("attachment")
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert "'=cmd()" in response.text


def test_what_a_person_knows_of_the_file_is_followed(bob: Visit, runtime: Runtime, people: People) -> None:
    send(bob, b"login\tnick\nada@example.org\tAda\n", address="login", delimiter="tab", encoding="utf-8")
    import_leads.run_waiting(runtime)
    with runtime.db.begin() as conn:
        found = lead.find_page(conn, people.ours, "", None, 9)
    assert [(row.email, row.attributes) for row in found] == [("ada@example.org", {"nick": "Ada"})]


@pytest.mark.parametrize("content, sentence", [(b"", "empty"), (b"%PDF-1.7 x", "PDF"), (b"a,b\n1,2\n", "address")])
def test_a_file_that_cannot_be_read_is_refused_at_once(bob: Visit, content: bytes, sentence: str) -> None:
    response = bob.post("/imports/new", {"file": (io.BytesIO(content), "leads.csv")})
    assert response.status_code == 422
    fault = response.text.split('id="file-fault">')[1].split("<")[0]
    assert sentence in fault
    assert "leads.csv" not in bob.get("/imports").text


def test_a_form_sent_by_htmx_is_led_on_in_its_own_words(bob: Visit) -> None:
    bob.get("/imports/new")
    data = {"csrf_token": bob.token, "file": (io.BytesIO(FILE), "leads.csv")}
    response = bob.client.post("/imports/new", data=data, headers={"HX-Request": "true"})
    assert response.headers["HX-Redirect"].startswith("/imports/")


def test_a_file_name_stays_text(bob: Visit) -> None:
    page = send(bob, FILE, name="<img src=x onerror=alert(1)>.csv")
    assert "<img src=x" not in bob.get(page).text


def test_only_the_upload_takes_a_large_body(app: Flask, bob: Visit) -> None:
    rows = b"email\n" + b"".join(b"lead%07d@example.org\n" % n for n in range(250_000))
    assert len(rows) > app.config["MAX_CONTENT_LENGTH"]
    bob.get("/imports/new")
    head = f'--b\r\nContent-Disposition: form-data; name="csrf_token"\r\n\r\n{bob.token}\r\n'
    head += '--b\r\nContent-Disposition: form-data; name="file"; filename="leads.csv"\r\n\r\n'
    body, kind = head.encode() + rows + b"\r\n--b--\r\n", "multipart/form-data; boundary=b"
    assert bob.client.post("/imports/new", data=body, content_type=kind).status_code == 302
    assert bob.client.post("/segments/new", data=body, content_type=kind).status_code == 413
