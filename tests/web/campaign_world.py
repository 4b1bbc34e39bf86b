"""What campaigns are made of, for the tests of their pages: leads, a sender whose pool ends in a sink, a draft."""

from __future__ import annotations

import json
from collections.abc import Mapping

from app.flows import edit_campaign, launch, pools, send_range, senders
from app.flows.edit_campaign import Draft
from app.models import lead
from app.runtime import Runtime
from tests import world
from tests.web.conftest import People

SUBJECT = 'News for {{ lead.first_name | default: "you" }}'
HTML = '<p>Hello {{ lead.first_name | default: "friend" }}.</p><p><a href="{{ unsubscribe_url }}">Unsubscribe</a></p>'
NOWHERE = "sink+http://127.0.0.1:9"


def add_leads(runtime: Runtime, organisation_id: int, names: Mapping[str, str]) -> dict[str, int]:
    """Leads at example.org by first name; email → id."""
    with runtime.db.begin() as conn:
        domain = lead.number_domains(conn, ["example.org"])["example.org"]
        lead.register_attributes(conn, organisation_id, {"first_name": "text"})
        lines = (
            f"{local}@example.org\t{domain}\t\\N\t{json.dumps({'first_name': name} if name else {})}\n"
            for local, name in names.items()
        )
        world.merge(conn, organisation_id, lines)
        emails = [f"{local}@example.org" for local in names]
        return {email: lead.find_id(conn, organisation_id, email) or 0 for email in emails}


def add_sender(runtime: Runtime, organisation_id: int, url: str = NOWHERE) -> int:
    """A sender with a pool of its own."""
    pool = pools.add_pool(runtime, organisation_id, "Marketing", url)
    return senders.add_sender(runtime, organisation_id, pool, "Old Mill Bakery", "hello@bakery.example.com")


def add_draft(runtime: Runtime, people: People, **values: object) -> int:
    """A draft that can be launched, unless told otherwise."""
    add_leads(runtime, people.ours, {})  # the attribute, at least
    draft = Draft(**({"name": "Spring", "subject": SUBJECT, "html": HTML} | values))  # type: ignore[arg-type]
    return edit_campaign.create(runtime, people.ours, people.ann, draft)


def send_all(runtime: Runtime, people: People, campaign_id: int) -> None:
    """Launch, and send as a worker does until nothing is due."""
    launch.launch(runtime, people.ours, campaign_id)
    send_range.drain(runtime)
