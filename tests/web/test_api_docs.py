"""Promises of docs/api.md: its examples run against a real server, and its tables say what is so."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.config import Settings
from app.flows import api_keys, message_templates, range_messages, send_range
from app.flows.message_templates import TemplateDraft
from app.models.api_key import SCOPES
from app.runtime import Runtime
from tests import world
from tests.peers import Peer
from tests.web_server import running_web
from web.api.reading import DEEPEST
from web.api.route import BODY_LIMIT, MANY_LIMIT

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "api.md").read_text()
HTML = '<p>Hello</p><p><a href="{{ unsubscribe_url }}">Unsubscribe</a></p>'


@pytest.fixture
def runtime(settings: Settings) -> Iterator[Runtime]:
    opened = Runtime(replace(settings, look_every=0.1))
    yield opened
    opened.close()


@pytest.fixture
def docs(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the examples define. Beside them lies the client, which they import."""
    monkeypatch.syspath_prepend(str(ROOT / "web" / "static"))
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL):
        exec(block, names)  # noqa: S102 - our own page
    return names


def test_the_examples_do_what_the_page_says(runtime: Runtime, peer: Peer, docs: dict[str, Any]) -> None:
    built = world.build(runtime.db, secret_key=runtime.settings.secret_key, provider_url=peer.url)
    receipt = TemplateDraft("Receipt", "Order {{ data.number }}", "<p>{% for i in data.items %}{{ i }}{% endfor %}</p>")
    message_templates.create(runtime, built.organisation_id, built.user_id, receipt)
    secret = api_keys.create(runtime, built.organisation_id, built.user_id, "Shop", tuple(SCOPES)).secret
    with running_web(runtime) as base, docs["open_millrace"](base, secret) as millrace:
        order = {"email": "ann@example.com", "number": 7, "items": ["a", "b"]}
        first = docs["send_receipt"](millrace, order)
        assert docs["send_receipt"](millrace, order) == first
        later = (datetime.now(UTC) + timedelta(days=1)).isoformat()
        many = [{"to": f"lead{n}@example.com", "template": "Receipt", "send_at": later} for n in range(1500)]
        ids = docs["send_many"](millrace, many, "monday")
        assert docs["send_many"](millrace, many, "monday") == ids
        assert len(set(ids)) == 1500
        assert docs["what_became_of"](millrace, ids[0]) == "scheduled"
        assert docs["call_back"](millrace, ids[0])
        assert not docs["call_back"](millrace, ids[0])
        range_messages.cut_due(runtime)
        send_range.drain(runtime)
        assert docs["what_became_of"](millrace, first) == "sent"
        assert sum(1 for _ in docs["read_all"](millrace, "/messages")) == 1501
        copied = docs["Millrace"](base, secret)
        with copied.http:
            assert len(docs["order_receipts"](copied, [order, order])) == 2
            with pytest.raises(docs["Problem"]):
                docs["order_receipts"](copied, [order, order | {"email": "ann"}])
        customers = [
            {"email": f"c{n}@example.com", "zone": "Europe/Berlin", "plan": "pro", "orders": n} for n in range(9)
        ]
        assert docs["put_leads"](millrace, customers)["added"] == 9
        some = {"combinator": "and", "rules": [{"field": "attributes.orders", "operator": ">", "value": 5}]}
        campaign_id = docs["launch"](millrace, "May", some, built.sender_id, "Hello", HTML)
        progress = millrace.get(f"/campaigns/{campaign_id}/progress").json()["progress"]
        assert progress["audience"] == 3
        with pytest.raises(ValueError, match="html"):
            docs["launch"](millrace, "June", some, built.sender_id, "", "")
    assert peer.sink.book.stats()["duplicates"] == 0


def test_the_problem_on_the_page_is_one_that_is_answered(runtime: Runtime) -> None:
    built = world.build(runtime.db, secret_key=runtime.settings.secret_key)
    secret = api_keys.create(runtime, built.organisation_id, built.user_id, "Shop", ["messages:send"]).secret
    message_templates.create(runtime, built.organisation_id, built.user_id, TemplateDraft("Receipt", "a", "b"))
    (shown,) = re.findall(r"```json\n(.*?)```", TEXT, re.DOTALL)
    asked = [{"to": "ann@example.com", "template": "Receipt"}] * 17 + [{"to": "ann", "template": "Recipt"}]
    with running_web(runtime) as base:
        header = {"Authorization": f"Bearer {secret}"}
        answer = httpx.post(f"{base}/api/v1/messages", json=asked, headers=header)
    assert answer.json() == json.loads(shown)


def test_the_pages_tables_and_numbers_are_the_codes() -> None:
    table = TEXT.partition("| scope |")[2].partition("\n\n")[0]
    assert set(re.findall(r"`(\w+:\w+)`", table)) == set(SCOPES)
    assert f"{MANY_LIMIT >> 20} MiB of messages" in TEXT and f"{BODY_LIMIT >> 20} MiB of anything else" in TEXT
    assert f"deeper than {DEEPEST} levels" in TEXT
    assert f"{api_keys.PER_MINUTE:,} unless" in TEXT
