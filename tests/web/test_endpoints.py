"""Promises of the endpoints' pages: a secret is shown once, what was typed is kept, and what was answered is seen."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

import pytest

from app.config import Settings
from app.flows import tell_endpoints
from app.mail import Kind
from app.models import alert, event
from app.models.event import Fact, Source
from app.runtime import Runtime
from tests.endpoint_readers import Reader, reading
from tests.web.campaign_world import add_draft
from tests.web.conftest import People, Visit

SECRET = re.compile(r"whsec_[A-Za-z0-9+/=]+")
ALL = ["sent", "bounced"]


@pytest.fixture
def runtime(settings: Settings) -> Iterator[Runtime]:
    opened = Runtime(replace(settings, private_providers=frozenset({"127.0.0.1"})))
    yield opened
    opened.close()


@pytest.fixture
def reader() -> Iterator[Reader]:
    with reading() as reader:
        yield reader


def add(ann: Visit, reader: Reader, **more: object) -> str:
    """An endpoint at the reader; the path of its page."""
    page = ann.post("/endpoints/new", {"name": "CRM", "url": reader.url, "kinds": ALL, "campaign": "0", **more})
    assert page.status_code == 200, page.text
    reader.secret = SECRET.findall(page.text)[0]
    return re.findall(r'href="(/endpoints/\d+)"', page.text)[0]


def happen(runtime: Runtime, people: People) -> None:
    with runtime.db.begin() as conn:
        event.append(conn, Source(people.ours, people.ann, 1, 1), [Fact(1, 0, Kind.SENT), Fact(2, 0, Kind.OPENED)])


def test_the_secret_is_shown_once_and_the_address_to_admins_alone(ann: Visit, bob: Visit, reader: Reader) -> None:
    path = add(ann, reader)
    for page in (ann.get(path).text, ann.get(f"{path}/edit").text, ann.get("/endpoints").text):
        assert "whsec_" not in page
    assert "canary-path" in ann.get(path).text
    assert bob.get(path).status_code == 403
    assert bob.get("/endpoints").status_code == 403
    assert "/endpoints" not in bob.get("/leads").text


def test_what_was_typed_is_kept_when_something_in_it_is_wrong(ann: Visit, runtime: Runtime) -> None:
    typed = {"name": "Inside", "url": "https://10.0.0.1/hook", "kinds": ["bounced"], "campaign": "0", "with_email": "y"}
    page = ann.post("/endpoints/new", typed)
    assert page.status_code == 422
    assert "This host is at no public address." in page.text
    assert 'value="https://10.0.0.1/hook"' in page.text and 'value="Inside"' in page.text
    assert re.findall(r'<input checked[^>]*value="(\w+)"', page.text) == ["bounced", "y"]
    assert "No endpoints yet" in ann.get("/endpoints").text


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": ""}, "Give the endpoint a name."),
        ({"name": "x" * 81}, "80 characters at most"),
        ({"url": ""}, "begins with https://"),
        ({"url": "http://example.com/"}, "must begin with https://"),
        ({"url": "https://a:b@example.com/"}, "Leave out user"),
        ({"url": "https://localhost/"}, "no public address"),
        ({"url": "https://[::1]/"}, "no public address"),
        ({"url": "https://example.com/" + "x" * 2000}, "longer than 2,000 characters"),
        ({"url": "https://example.com:x/"}, "This is no web address."),
        ({"kinds": []}, "Choose at least one kind of event."),
        ({"kinds": ["boom"]}, "There is no kind of event"),
        ({"campaign": "99"}, "There is no such campaign."),
    ],
)
def test_bad_input_is_named_and_changes_nothing(ann: Visit, change: dict[str, object], said: str) -> None:
    typed = {"name": "CRM", "url": "https://example.com/", "kinds": ["sent"], "campaign": "0", **change}
    page = ann.post("/endpoints/new", typed)
    assert (page.status_code, said in page.text) == (422, True)
    assert "No endpoints yet" in ann.get("/endpoints").text


def test_a_name_is_taken_once(ann: Visit, reader: Reader) -> None:
    path = add(ann, reader)
    add(ann, reader, name="Second")
    typed = {"name": "Second", "url": reader.url, "kinds": ALL, "campaign": "0"}
    for address in ("/endpoints/new", f"{path}/edit"):
        page = ann.post(address, typed)
        assert (page.status_code, "of that name already" in page.text) == (422, True)


def test_a_post_and_what_was_answered_is_seen(ann: Visit, runtime: Runtime, people: People, reader: Reader) -> None:
    path = add(ann, reader)
    assert "Nothing was posted yet" in ann.get(path).text
    reader.answers = [(503, {"Retry-After": "60"})]
    reader.said = b"<b>later"
    happen(runtime, people)
    tell_endpoints.tell_due(runtime)
    page = ann.get(path).text
    assert "HTTP 503" in page and "&lt;b&gt;later" in page and "failing" in page
    assert len(reader.tries) == 1


def test_a_test_says_what_was_answered(ann: Visit, reader: Reader) -> None:
    path = add(ann, reader)
    assert ann.post(f"{path}/test").location == path
    assert "The test was taken: HTTP 200." in ann.get(path).text
    reader.status = 404
    ann.post(f"{path}/test")
    assert "The test was not taken: HTTP 404." in ann.get(path).text


def test_a_new_secret_is_shown_once_and_the_old_one_stays_for_a_day(ann: Visit, reader: Reader) -> None:
    path = add(ann, reader)
    page = ann.post(f"{path}/rotate").text
    assert SECRET.findall(page) != [reader.secret] and len(SECRET.findall(page)) == 1
    assert "The one before signs as well until" in ann.get(path).text


def test_disabled_by_whom_and_enabled_again(ann: Visit, runtime: Runtime, people: People, reader: Reader) -> None:
    path = add(ann, reader)
    ann.post(f"{path}/disable")
    assert "by Ann" in ann.get(path).text
    happen(runtime, people)
    tell_endpoints.tell_due(runtime)
    assert reader.tries == []
    ann.post(f"{path}/enable")
    tell_endpoints.tell_due(runtime)
    assert [each["type"] for each in reader.events] == ["sent"]


def test_an_edit_keeps_what_it_does_not_change(ann: Visit, runtime: Runtime, people: People, reader: Reader) -> None:
    campaign_id = add_draft(runtime, people, name="Spring")
    path = add(ann, reader, campaign=str(campaign_id))
    page = ann.get(f"{path}/edit").text
    assert "canary-path" in page and f'<option selected value="{campaign_id}">Spring' in page
    changed = {"name": "CRM 2", "url": reader.url, "kinds": ["clicked"], "campaign": str(campaign_id)}
    assert ann.post(f"{path}/edit", changed).location == path
    page = ann.get(path).text
    assert "CRM 2" in page and "<dd>clicked</dd>" in page and "Spring" in page


def test_removed_it_is_gone(ann: Visit, reader: Reader) -> None:
    path = add(ann, reader)
    ann.post(f"{path}/remove")
    assert ann.get(path).status_code == 404
    assert "No endpoints yet" in ann.get("/endpoints").text


def test_an_alert_leads_to_the_endpoint(ann: Visit, runtime: Runtime, reader: Reader) -> None:
    path = add(ann, reader)
    with runtime.db.begin() as conn:
        alert.raise_alert(conn, alert.Kind.ENDPOINT_DISABLED, int(path.rsplit("/", 1)[1]), "It took nothing.")
    page = ann.get("/alerts").text
    assert f'Endpoint <a href="{path}">CRM</a>' in page
