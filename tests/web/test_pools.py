"""Promises of the pools' pages: what is secret goes in and never comes out, and nobody reaches inside by them."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import text

from app.flows import pools, senders
from app.models import limit, suppression, webhook
from app.models.pool import Pool
from app.models.webhook import Arrivals
from app.providers.address import is_confined
from app.runtime import Runtime
from app.signing import Vault
from tests.peers import Peer, running_sink
from tests.web.conftest import People, Visit
from tests.web.test_campaigns import words

URL = "smtp://canary-user:canary%40pass@smtp.example.com:587?tls=starttls"
SMTP = {
    "name": "Marketing",
    "batch": "50",
    "host": "smtp.example.com",
    "port": "587",
    "tls": "starttls",
    "user": "canary-user",
    "password": "canary@pass",
    "connections": "4",
    "messages": "",
}
# What one types for each kind, and the URL that it makes.
TYPED: dict[str, tuple[dict[str, str], str]] = {
    "ses": (
        {
            "region": "eu-west-1",
            "key_id": "ASIAEXAMPLE",
            "key": "s/e+c",
            "configuration_set": "news",
            "token": "canary/token+of=sixteen",
        },
        "ses://ASIAEXAMPLE:s%2Fe%2Bc@email.eu-west-1.amazonaws.com?configuration_set=news"
        "&token=canary%2Ftoken%2Bof%3Dsixteen",
    ),
    "sendgrid": ({"region": "api.eu.sendgrid.com", "key": "SG.x-y"}, "sendgrid://:SG.x-y@api.eu.sendgrid.com"),
    "mailgun": (
        {"region": "api.mailgun.net", "domain": "mg.example.com", "key": "k"},
        "mailgun://:k@api.mailgun.net/mg.example.com",
    ),
    "postmark": ({"key": "t", "stream": "news"}, "postmark://:t@api.postmarkapp.com?stream=news"),
    "resend": ({"key": "re_1"}, "resend://:re_1@api.resend.com"),
    "brevo": ({"key": "xkeysib-1"}, "brevo://:xkeysib-1@api.brevo.com"),
    "smtp": (SMTP, "smtp://canary-user:canary%40pass@smtp.example.com:587?tls=starttls&connections=4"),
    "url": ({"url": URL}, URL),
}


PLACES = ("url", "gateway", "host")  # the field that says where a pool is reached, of the form's own


@pytest.fixture(autouse=True)
def resolver(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names of the internet are public ones, and nobody is asked for them."""
    real = socket.getaddrinfo

    def getaddrinfo(host: str, port: Any, *arguments: Any, **named: Any) -> Any:
        if re.fullmatch(r"[\d.]+|localhost|.*:.*", host):
            return real(host, port, *arguments, **named)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("9.9.9.9", port))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


def fault_of(page: str, field: str) -> str:
    """What stands beside a field of a form that was refused."""
    found = re.search(rf'id="{field}-fault">([^<]*)<', page)
    return found[1] if found else ""


@pytest.fixture
def sink() -> Iterator[Peer]:
    with running_sink() as peer:
        yield peer


def allow(runtime: Runtime, *hosts: str) -> None:
    """As if the operator had named these hosts."""
    runtime.settings = replace(runtime.settings, private_providers=frozenset(hosts))


def row(number: int, receiver: str = "", per_second: str = "", burst: str = "", per_day: str = "") -> dict[str, str]:
    """A row of limits as a browser posts it."""
    columns = {"receiver": receiver, "per_second": per_second, "burst": burst, "per_day": per_day}
    return {f"{name}-{number}": value for name, value in columns.items()}


def stored(runtime: Runtime) -> Pool:
    with runtime.db.session() as session:
        return session.query(Pool).one()


@pytest.mark.parametrize("kind", TYPED)
def test_a_pool_of_every_kind_is_added_by_a_form_and_its_secrets_never_come_out(
    ann: Visit, runtime: Runtime, kind: str
) -> None:
    typed, url = TYPED[kind]
    response = ann.post(f"/pools/new?kind={kind}", {"name": "Marketing", "batch": "40", **typed})
    assert response.status_code == 302, words(response.text)
    kept = stored(runtime)
    assert runtime.vault.decrypt(kept.url).removesuffix(" public") == url
    assert (kept.name, kept.batch) == ("Marketing", int(typed.get("batch", 40)))
    pages = [ann.get(path).text for path in ("/senders", f"/pools/{kept.id}", f"/pools/{kept.id}/edit")]
    secrets = [typed[name] for name in ("key", "key_id", "user", "password") if len(typed.get(name, "")) > 3]
    assert not [secret for secret in [*secrets, "canary"] for page in pages if secret in page]
    assert b"canary" not in kept.url


@pytest.mark.parametrize("kind", TYPED)
def test_a_form_left_empty_names_each_field_and_keeps_nothing(ann: Visit, runtime: Runtime, kind: str) -> None:
    assert ann.get(f"/pools/new?kind={kind}").status_code == 200
    response = ann.post(f"/pools/new?kind={kind}", {"name": "", "batch": "50"})
    assert response.status_code == 422
    assert response.text.count('class="fault"') >= 2
    with runtime.db.session() as session:
        assert session.query(Pool).count() == 0


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("host", "smtp.example.com/x", "This must be a host"),
        ("port", "99999", "whole number from 1 to 65535"),
        ("tls", "maybe", "Choose one"),
        ("connections", "0", "whole number from 1 to 100"),
        ("batch", "0", "1 to 1,000"),
        ("more", "nonsense", "name=value"),
        ("more", "speed=9", "unknown"),
        ("more", "ca=/etc/passwd", "Only who runs Millrace"),
    ],
)
def test_a_faulty_field_is_named_what_was_typed_is_kept_and_secrets_are_not_sent_back(
    ann: Visit, runtime: Runtime, field: str, value: str, said: str
) -> None:
    response = ann.post("/pools/new?kind=smtp", {**SMTP, field: value})
    assert response.status_code == 422
    assert said in response.text
    assert 'value="Marketing"' in response.text
    assert "canary" not in response.text


def test_what_is_left_empty_of_the_secrets_stays(ann: Visit, runtime: Runtime) -> None:
    ann.post("/pools/new?kind=smtp", SMTP)
    pool = stored(runtime)
    page = ann.get(f"/pools/{pool.id}/edit").text
    assert 'value="smtp.example.com"' in page
    edited = {**SMTP, "name": "News", "batch": "7", "connections": "9", "user": "", "password": ""}
    assert ann.post(f"/pools/{pool.id}/edit", edited).status_code == 302
    kept = stored(runtime)
    assert (kept.name, kept.batch) == ("News", 7)
    assert "canary-user:canary%40pass@smtp.example.com:587?tls=starttls&connections=9" in runtime.vault.decrypt(
        kept.url
    )
    before = kept.url
    ann.post(f"/pools/{pool.id}/edit", {**edited, "name": "Other"})
    assert stored(runtime).url == before, "a new name is no new account"
    ann.post(f"/pools/{pool.id}/edit", {**edited, "password": "fresh"})
    assert "canary-user:fresh@" in runtime.vault.decrypt(stored(runtime).url)


@pytest.mark.parametrize(
    "elsewhere", [{"host": "smtp.attacker.example"}, {"port": "2525"}, {"tls": ""}, {"more": "ca=x"}], ids=str
)
def test_a_stored_secret_never_goes_to_another_server(ann: Visit, runtime: Runtime, elsewhere: dict[str, str]) -> None:
    ann.post("/pools/new?kind=smtp", SMTP)
    pool = stored(runtime)
    response = ann.post(f"/pools/{pool.id}/edit", {**SMTP, "user": "", "password": "", **elsewhere})
    assert response.status_code == 422
    assert response.text.count("Enter it again") == 2
    assert stored(runtime).url == pool.url


@pytest.mark.parametrize(
    ("kind", "typed"),
    [
        ("sink", {"host": "127.0.0.1", "port": "9"}),
        ("sink", {"host": "localhost", "port": "9"}),
        ("smtp", {"host": "169.254.169.254", "port": "25", "tls": "none"}),
        ("sendgrid", {"region": "api.sendgrid.com", "key": "k", "gateway": "[::ffff:10.0.0.1]:80/x"}),
        ("url", {"url": "sink+http://127.0.0.1:9#"}),
        ("url", {"url": "sink+http://127.0.0.1:9?batch=5"}),
        ("url", {"url": "ses://a:b@100.100.100.200?region=eu-west-1"}),
    ],
)
def test_nobody_but_the_operator_adds_a_pool_at_a_private_address(
    ann: Visit, runtime: Runtime, kind: str, typed: dict[str, str]
) -> None:
    form = {"name": "Inside", "batch": "50", **typed}
    response = ann.post(f"/pools/new?kind={kind}", form)
    assert response.status_code == 422
    assert "MILLRACE_PRIVATE_PROVIDERS" in fault_of(response.text, next(each for each in PLACES if each in typed))
    allow(runtime, "*")
    assert ann.post(f"/pools/new?kind={kind}", form).status_code == 302


def test_what_is_wrong_with_an_option_is_said_at_its_field(ann: Visit) -> None:
    page = ann.post("/pools/new?kind=smtp", {**SMTP, "returns": "bounces"}).text
    assert fault_of(page, "returns").startswith("This must be an address like bounces@mail.example.com")
    assert '<details class="more" open>' in page


def test_a_form_that_was_refused_says_that_its_secrets_must_be_entered_again(ann: Visit) -> None:
    form = {"name": "", "batch": "50", "region": "api.sendgrid.com", "key": "SG.canary"}
    page = ann.post("/pools/new?kind=sendgrid", form).text
    assert fault_of(page, "key").startswith("Enter it again")
    assert "canary" not in page


def test_a_name_that_turns_private_after_it_was_saved_is_not_connected_to(
    ann: Visit, runtime: Runtime, sink: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = sink.url.rpartition(":")[2]
    form = {"name": "Rebinds", "batch": "50", "host": "rebinds.example.com", "port": port}
    assert ann.post("/pools/new?kind=sink", form).status_code == 302
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda host, port, **_: [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))],
    )
    pool = stored(runtime)
    ann.post(f"/pools/{pool.id}/check")
    page = ann.get(f"/pools/{pool.id}").text
    assert "no public address" in page
    with pytest.raises(Exception, match="no public address"):
        runtime.provider(pool.url, pool.id).check()


def test_an_operators_pool_stays_one_until_a_user_points_it_elsewhere(
    ann: Visit, runtime: Runtime, people: People, sink: Peer
) -> None:
    pool_id = pools.add_pool(runtime, people.ours, "Demo", sink.url)
    port = sink.url.rpartition(":")[2]
    form = {"name": "Demo", "batch": "9", "host": "127.0.0.1", "port": port, "more": "batch=9"}
    assert ann.post(f"/pools/{pool_id}/edit", form).status_code == 302
    assert not is_confined(runtime.vault.decrypt(stored(runtime).url))
    assert ann.post(f"/pools/{pool_id}/edit", {**form, "port": "22"}).status_code == 422


def test_a_check_is_kept_and_shown_with_its_time(ann: Visit, runtime: Runtime, people: People, sink: Peer) -> None:
    pool_id = pools.add_pool(runtime, people.ours, "Demo", sink.url)
    assert "Not asked yet" in ann.get(f"/pools/{pool_id}").text
    assert ann.post(f"/pools/{pool_id}/check").status_code == 302
    page = words(ann.get(f"/pools/{pool_id}").text)
    assert "The sink answers. It has taken 0 emails" in page
    assert "Asked" in page


def test_a_check_that_fails_says_why_in_a_sentence(ann: Visit, runtime: Runtime, people: People) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    pool_id = pools.add_pool(runtime, people.ours, "Demo", f"sink+http://127.0.0.1:{port}")
    ann.post(f"/pools/{pool_id}/check")
    assert "The provider could not be reached" in ann.get(f"/pools/{pool_id}").text
    assert "The last check failed" in ann.get("/senders").text


def test_a_changed_account_was_not_checked(ann: Visit, runtime: Runtime, people: People, sink: Peer) -> None:
    pool_id = pools.add_pool(runtime, people.ours, "Demo", sink.url)
    ann.post(f"/pools/{pool_id}/check")
    form = {"name": "Demo", "batch": "50", "host": "127.0.0.1", "port": sink.url.rpartition(":")[2], "more": "batch=3"}
    assert ann.post(f"/pools/{pool_id}/edit", form).status_code == 302
    assert "Not asked yet" in ann.get(f"/pools/{pool_id}").text


def test_a_test_send_is_a_real_call_and_no_event(ann: Visit, runtime: Runtime, people: People, sink: Peer) -> None:
    pool_id = pools.add_pool(runtime, people.ours, "Demo", sink.url)
    sender = senders.add_sender(runtime, people.ours, pool_id, "Old Mill", "hello@example.com")
    ann.post(f"/pools/{pool_id}/test", {"sender": str(sender), "address": "Me@Example.com"})
    page = words(ann.get(f"/pools/{pool_id}").text)
    assert "The provider took it; it calls the email sink-1." in page
    [letter] = sink.sink.book.messages(10)
    assert letter["to"] == "me@example.com" and "Demo" in letter["subject"]
    with runtime.db.begin() as conn:
        assert conn.execute(text("SELECT count(*) FROM event")).scalar_one() == 0


def test_a_test_send_says_why_it_was_refused(ann: Visit, runtime: Runtime, people: People, sink: Peer) -> None:
    sink.behave(refuse=1.0)
    pool_id = pools.add_pool(runtime, people.ours, "Demo", sink.url)
    sender = senders.add_sender(runtime, people.ours, pool_id, "Old Mill", "hello@example.com")
    ann.post(f"/pools/{pool_id}/test", {"sender": str(sender), "address": "me@example.com"})
    assert "550 5.1.1 No such mailbox" in ann.get(f"/pools/{pool_id}").text
    sink.behave(refuse=0.0, unsure=1.0)
    ann.post(f"/pools/{pool_id}/test", {"sender": str(sender), "address": "me@example.com"})
    assert "Nobody knows whether the provider took it" in ann.get(f"/pools/{pool_id}").text


def test_a_suppressed_address_gets_no_test(ann: Visit, runtime: Runtime, people: People, sink: Peer) -> None:
    pool_id = pools.add_pool(runtime, people.ours, "Demo", sink.url)
    sender = senders.add_sender(runtime, people.ours, pool_id, "Old Mill", "hello@example.com")
    with runtime.db.begin() as conn:
        suppression.suppress(conn, people.ours, ["no@example.com"], "unsubscribed")
    response = ann.post(f"/pools/{pool_id}/test", {"sender": str(sender), "address": "NO@example.com"})
    assert response.status_code == 422 and "suppressed" in response.text
    assert not sink.sink.book.messages(10)


def test_a_test_goes_through_the_pool_of_the_page_alone(
    ann: Visit, runtime: Runtime, people: People, sink: Peer
) -> None:
    pool_id = pools.add_pool(runtime, people.ours, "Demo", sink.url)
    other = pools.add_pool(runtime, people.ours, "Other", URL)
    sender = senders.add_sender(runtime, people.ours, other, "Old Mill", "hello@example.com")
    response = ann.post(f"/pools/{pool_id}/test", {"sender": str(sender), "address": "me@example.com"})
    assert response.status_code == 422
    assert not sink.sink.book.messages(10)


def test_tests_are_slow(ann: Visit, runtime: Runtime, people: People, sink: Peer) -> None:
    pool_id = pools.add_pool(runtime, people.ours, "Demo", sink.url)
    sender = senders.add_sender(runtime, people.ours, pool_id, "Old Mill", "hello@example.com")
    form = {"sender": str(sender), "address": "me@example.com"}
    assert [ann.post(f"/pools/{pool_id}/test", form).status_code for _ in range(7)] == [302] * 6 + [429]


def test_a_pool_is_deleted_only_while_nothing_refers_to_it(ann: Visit, runtime: Runtime, people: People) -> None:
    first, second, unused = (pools.add_pool(runtime, people.ours, name, URL) for name in ("First", "Second", "Unused"))
    identity = senders.Identity(first, "Mill", "a@example.com", second_pool_id=second)
    senders.add(runtime, people.ours, identity)
    for pool_id in (first, second, unused):
        assert ann.post(f"/pools/{pool_id}/delete").status_code == 302
    with runtime.db.session() as session:
        assert sorted(pool.name for pool in session.query(Pool)) == ["First", "Second"]
    assert "reports still name it" in ann.get("/senders").text


def test_a_pool_that_sent_is_kept(ann: Visit, runtime: Runtime, people: People) -> None:
    pool_id = pools.add_pool(runtime, people.ours, "Sent", URL)
    with runtime.db.begin() as conn:
        conn.execute(
            text(
                "INSERT INTO handoff (range_id, campaign_id, pool_id, run, key, lead_ids)"
                " VALUES (1, 1, :pool_id, 1, gen_random_uuid(), '{1}')"
            ),
            {"pool_id": pool_id},
        )
    ann.post(f"/pools/{pool_id}/delete")
    assert stored(runtime).id == pool_id


def test_an_account_of_another_secret_key_is_entered_anew(ann: Visit, runtime: Runtime) -> None:
    ann.post("/pools/new?kind=smtp", SMTP)
    pool = stored(runtime)
    with runtime.db.session() as session:
        session.get_one(Pool, pool.id).url = Vault("another key of thirty-two letters!!").encrypt(URL)
    ann.post(f"/pools/{pool.id}/check")
    assert "encrypted under another SECRET_KEY" in ann.get(f"/pools/{pool.id}").text
    assert ann.get(f"/pools/{pool.id}/edit").status_code == 200
    assert ann.post(f"/pools/{pool.id}/edit", SMTP).status_code == 302
    assert "canary-user:canary%40pass@" in runtime.vault.decrypt(stored(runtime).url)


def test_limits_are_set_as_they_are_typed(ann: Visit, runtime: Runtime, people: People) -> None:
    pool_id = pools.add_pool(runtime, people.ours, "Ours", URL)
    typed = {"per_second-0": "14", "per_day-0": "50,000", **row(1, "Google (Gmail, Workspace)", "2.5", "", "")}
    typed |= row(2, "Example.com", "", "", "100") | row(3)
    assert ann.post(f"/pools/{pool_id}/limits", typed).status_code == 302
    with runtime.db.begin() as conn:
        kept = limit.list_limits(conn, pool_id)
    assert kept == [
        limit.Limit("", 14.0, 14, 50000),
        limit.Limit("example.com", None, 1, 100),
        limit.Limit("google", 2.5, 2, None),
    ]
    page = words(ann.get(f"/pools/{pool_id}").text)
    assert "Google (Gmail, Workspace) 2.5" in page
    page = ann.get(f"/pools/{pool_id}/limits").text
    assert 'value="50000"' in page and 'value="Google (Gmail, Workspace)"' in page
    assert ann.post(f"/pools/{pool_id}/limits", {"per_second-0": "", "per_day-0": ""}).status_code == 302
    assert "None: emails go as fast" in ann.get(f"/pools/{pool_id}").text


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (("", "1", "", ""), "Say whose"),
        (("nonsense", "1", "", ""), "Choose a receiver, or write a domain"),
        (("example.com", "fast", "", ""), "Write a number."),
        (("example.com", "nan", "", ""), "Write a number."),
        (("example.com", "1e300", "", ""), "between 0.0001"),
        (("example.com", "1", "1.5", ""), "Write a whole number."),
        (("example.com", "", "", "0"), "It must be between 1 and"),
        (("example.com", "", "", "9" * 30), "It must be between 1 and"),
        (("example.com", "", "5", ""), "Give a rate or a number for a day"),
    ],
)
def test_a_faulty_limit_is_named_and_changes_nothing(
    ann: Visit, runtime: Runtime, people: People, typed: tuple[str, str, str, str], said: str
) -> None:
    pool_id = pools.add_pool(runtime, people.ours, "Ours", URL)
    response = ann.post(f"/pools/{pool_id}/limits", {"per_second-0": "7", "per_day-0": "", **row(1, *typed)})
    assert response.status_code == 422
    assert said in response.text and 'value="7"' in response.text
    assert all(f'value="{each}"' in response.text for each in typed if each)
    with runtime.db.begin() as conn:
        assert limit.list_limits(conn, pool_id) == []


def test_a_pool_says_who_shares_its_account_and_what_that_means(ann: Visit, runtime: Runtime, people: People) -> None:
    url = "postmark://:a-key@api.postmarkapp.com?stream="
    first, second = (pools.add_pool(runtime, people.ours, name, url + name.lower()) for name in ("News", "Receipts"))
    alone = pools.add_pool(runtime, people.ours, "Alone", "postmark://:another@api.postmarkapp.com")
    page = words(ann.get(f"/pools/{second}").text)
    assert "News speaks with the same account of the provider." in page
    assert "Once each of them has a limit for all of its emails, the highest will hold for all of them" in page
    ann.post(f"/pools/{first}/limits", row(0, per_second="14", per_day="50,000"))
    page = words(ann.get(f"/pools/{second}").text)
    assert "None: emails go as fast as the provider takes them." in page and "Together" not in page
    ann.post(f"/pools/{second}/limits", row(0, per_second="10", per_day="20,000"))
    page = words(ann.get(f"/pools/{second}").text)
    assert "Together with this pool no more than 14 a second and 50,000 in 24 hours leave" in page
    with runtime.db.begin() as conn:
        assert limit.spend(conn, first, {limit.WHOLE: 12_000})
    assert "Of the day 38,000 are left." in words(ann.get(f"/pools/{second}").text)
    assert "Receipts speaks with the same account" in words(ann.get(f"/pools/{first}").text)
    assert "the same account" not in ann.get(f"/pools/{alone}").text


@pytest.mark.parametrize("path", ["", "/edit", "/check", "/test", "/resume", "/delete", "/webhooks", "/limits"])
def test_another_organisations_pool_is_not_there(eve: Visit, runtime: Runtime, people: People, path: str) -> None:
    pool_id = pools.add_pool(runtime, people.ours, "Ours", URL)
    ask = eve.get if path == "" else eve.post
    assert ask(f"/pools/{pool_id}{path}").status_code == 404
    assert stored(runtime).state == "active"


@pytest.mark.parametrize("path", ["new", "new?kind=smtp", "1", "1/edit"])
def test_a_marketer_sees_no_account(bob: Visit, path: str) -> None:
    assert bob.get(f"/pools/{path}").status_code == 403


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
    page = ann.get(f"/pools/{pool_id}").text
    with runtime.db.begin() as conn:
        door = webhook.list_doors(conn, people.ours)[pool_id]
    assert f"{runtime.settings.base_url}/webhooks/{door.token}" in page
    refused = ann.post(f"/pools/{pool_id}/webhooks", {"secret": "whsec_short"})
    assert refused.status_code == 422
    assert "whsec_short" not in refused.text
    secret = "whsec_" + "A" * 40
    assert ann.post(f"/pools/{pool_id}/webhooks", {"secret": secret}).status_code == 302
    assert secret not in ann.get(f"/pools/{pool_id}").text
    assert "none yet" in ann.get("/senders").text
    with runtime.db.begin() as conn:
        arrived = Arrivals(datetime.now(UTC), datetime.now(UTC), [0, 998, 0, 2], 1000, 0, 0, 0)
        webhook.note_arrivals(conn, pool_id, arrived)
    page = ann.get(f"/pools/{pool_id}").text
    assert "Half come within 2 s of the call, 99.9 % within 8 s." in page
    assert "15 min of silence" in page


def test_a_marketer_sees_neither_address_nor_secret(runtime: Runtime, people: People, bob: Visit) -> None:
    pool_id = pools.add_pool(runtime, people.ours, "Ours", "sink+http://127.0.0.1:9025")
    with runtime.db.begin() as conn:
        token = webhook.list_doors(conn, people.ours)[pool_id].token
    assert token not in bob.get("/senders").text
    assert bob.get(f"/pools/{pool_id}").status_code == 403
    assert bob.post(f"/pools/{pool_id}/webhooks", {"secret": "whsec_" + "A" * 40}).status_code == 403
