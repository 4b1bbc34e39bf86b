"""What the benchmarks of messages have in common: a template and its stream, and a store of those that wait."""

from __future__ import annotations

from dataclasses import dataclass

from app.flows import message_templates
from app.flows.message_templates import TemplateDraft
from app.flows.messages import NewMessage
from app.models import stream
from app.models.stream import Kind
from app.models.template_data import OWN_CONTENT
from app.runtime import Runtime
from bench import letter, prefill, sending
from bench.prefill import Connection, Tenant

TEMPLATE = "Five new routes"
DOMAINS = 97
APART = "1 hour"  # between what is due and the first that is not: nothing falls due while it is measured

# As programs would have asked for them over days: in no order of their times, `slip` at a time for the same one.
STORE = """
WITH drawn AS (
    SELECT n, place, place / %(slip)s * %(slip)s AS first
      FROM generate_series(0, %(messages)s::bigint - 1) AS n
     CROSS JOIN LATERAL (SELECT n * 7919 %% %(messages)s AS place) AS each
), timed AS (
    SELECT n, place,
           CASE
               WHEN place < %(due)s THEN now() - interval '10 minutes' * (1 - first::float8 / %(due)s)
               ELSE now() + %(apart)s::interval + interval '1 day' * ((first - %(due)s)::float8 / %(messages)s)
           END AS due_at
      FROM drawn
)
INSERT INTO message (id, due_at, organisation_id, campaign_id, domain_id, email, data)
SELECT floor(extract(epoch FROM due_at - timestamptz '2020-01-01Z') / 60)::bigint << 34 | place,
       due_at, %(organisation_id)s, %(campaign_id)s, 1 + n %% %(domains)s,
       'lead' || n || '@mail' || n %% %(domains)s || '.example.com',
       json_build_object('first_name', 'Ada', 'last_name', 'Berg', 'country', 'DE', 'plan', 'pro', 'order', n)
  FROM timed
 ORDER BY n
"""
# On the shelves that `app/shelves.py` gives to what was accepted at some moment of the day before its time, each as
# likely as the other: a quarter of it within the last six hours.
WAIT = """
WITH slip AS (
    SELECT due_at, min(id) AS first_id, count(*) AS size, array_agg(id ORDER BY id) AS ids,
           extract(epoch FROM due_at - timestamptz '2020-01-01Z') / 60 AS minute
      FROM message
     GROUP BY due_at, (id & 17179869183) / %(slip)s
), placed AS (
    SELECT *, CASE WHEN (hashint8(first_id) & 1023) < 256 THEN 0 ELSE 1 END AS level
      FROM slip
)
INSERT INTO message_due (due_at, first_id, campaign_id, size, shelf, message_ids)
SELECT due_at, first_id, %(campaign_id)s, size, floor(minute / width)::integer * width * 4 + level,
       CASE WHEN size > 1 THEN ids END
  FROM placed
 CROSS JOIN LATERAL (SELECT (ARRAY[15, 120])[level + 1] AS width) AS each
 ORDER BY hashint8(first_id + 1)
"""


@dataclass(frozen=True, slots=True)
class Open:
    """A tenant's template, its stream and the address that it is sent from."""

    tenant: Tenant
    campaign_id: int
    template: str
    sender: str


def open_stream(runtime: Runtime, conn: Connection, provider_url: str) -> Open:
    """A tenant with a pool, a sender, a template and its stream; without messages."""
    tenant = prefill.create_tenant(conn)
    sender_id, address = sending.create_sender(runtime, tenant, provider_url)
    content = [_of_message(each) for each in (letter.SUBJECT, letter.HTML, letter.TEXT)]
    draft = TemplateDraft(TEMPLATE, content[0], content[1], content[2], sender_id=sender_id)
    template_id = message_templates.create(runtime, tenant.organisation_id, tenant.user_id, draft)
    kind = Kind(template_id, sender_id)
    with runtime.db.begin() as ours:
        opened = stream.find_or_open(ours, tenant.organisation_id, tenant.user_id, [kind], OWN_CONTENT)
    return Open(tenant, opened[kind], TEMPLATE, address)


def _of_message(content: str) -> str:
    """The benchmarks' letter, with the fields that a message brings."""
    return content.replace("lead.email", "to").replace("lead.", "data.")


def fill(conn: Connection, opened: Open, number: int, due: int, slip: int) -> None:
    """A store of `number` messages, of which `due` are due; they were accepted `slip` at a time. Commits.

    Each was accepted at some moment of the 24 hours before its time: a quarter lies on narrow shelves, the rest on
    wide ones.
    """
    values = {
        "messages": number,
        "due": due,
        "slip": slip,
        "apart": APART,
        "domains": DOMAINS,
        "organisation_id": opened.tenant.organisation_id,
        "campaign_id": opened.campaign_id,
    }
    names = "INSERT INTO domain (name) SELECT 'mail' || n || '.example.com' FROM generate_series(0, %s - 1) AS n"
    conn.execute(names, [DOMAINS])
    conn.execute(STORE.encode(), values)
    conn.execute(WAIT.encode(), values)
    conn.commit()
    prefill.vacuum(conn, "message")
    prefill.vacuum(conn, "message_due")


def new_messages(opened: Open, number: int, first: int = 0) -> list[NewMessage]:
    """Messages for now, as a program asks for them."""
    data = {"last_name": "Berg", "country": "DE", "plan": "pro"}
    return [
        NewMessage(
            f"lead{n}@mail{n % DOMAINS}.example.com",
            template=opened.template,
            data=data | {"first_name": "Ada", "order": n},
            metadata={"order": n},
        )
        for n in range(first, first + number)
    ]
