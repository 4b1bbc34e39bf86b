"""A whole campaign over real SMTP: two thousand leads, STARTTLS and AUTH, some refused; every message read back."""

from __future__ import annotations

import re
from contextlib import closing
from datetime import UTC, datetime
from email import message_from_bytes
from email.header import decode_header, make_header
from pathlib import Path
from ssl import SSLContext

from sqlalchemy import text

from app.config import Settings
from app.flows import launch, send_range
from app.models import ledger, outbox
from app.models.outbox import Progress
from app.runtime import Runtime
from app.signing import Signer
from tests import world
from tests.test_smtp import Mailbox, authority, secured

__all__ = ["authority"]  # the fixture

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
LEADS = 2000
LINK = re.compile(r"^<(http://127\.0\.0\.1:8000/u/([A-Za-z0-9_-]+))>$")


def test_a_campaign_of_two_thousand_goes_through_smtp_each_message_right(
    settings: Settings,
    authority: tuple[SSLContext, Path],
) -> None:
    mailbox = Mailbox(pipelining=True)
    with secured(mailbox, authority) as url, closing(Runtime(settings)) as runtime:
        built = world.build(
            runtime.db, secret_key=runtime.settings.secret_key, leads=LEADS, provider_url=f"{url}&connections=8"
        )
        with runtime.db.begin() as conn:  # every fiftieth mailbox does not exist
            conn.execute(text("UPDATE lead SET email = 'gone.' || email WHERE id % 50 = 0"))
            leads = {row.id: row for row in conn.execute(text("SELECT id, email, attributes FROM lead"))}
        launch.launch(runtime, built.organisation_id, built.campaign_id)
        send_range.drain(runtime, seconds=90)
        with runtime.db.begin() as conn:
            assert outbox.progress(conn, built.campaign_id) == Progress(LEADS, 1960, 40, 0, 0, 0, 0, 0)
            assert ledger.sum_all(conn, built.campaign_id, LONG_AGO).record == {"sent": 1960, "refused": 40}
            assert world.row(conn, "SELECT state FROM campaign")["state"] == "finished"
    refused = {lead_id for lead_id in leads if lead_id % 50 == 0}

    signer = Signer(settings.secret_key)
    arrived = set()
    for sender, recipients, raw in mailbox.received:
        message = message_from_bytes(raw)
        lead = leads[int(message["X-Millrace-Lead"])]
        assert lead.id not in arrived
        arrived.add(lead.id)
        assert (sender, recipients) == ("news@example.com", [lead.email])
        name = lead.attributes.get("first_name", "")
        assert str(make_header(decode_header(message["Subject"]))) == f"News for {name}"
        link = LINK.match(message["List-Unsubscribe"])
        assert link and signer.read_unsubscribe(link[2]) == (lead.id, built.campaign_id)
        assert message["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
        plain, html = (part.get_payload(decode=True).decode() for part in message.get_payload())
        plan = lead.attributes["plan"]
        assert f"<p>Hello {name or 'friend'}, {plan}.</p>" in html and link[1] in html
        assert f"Hello {name or 'friend'}, {plan}." in plain and link[1] in plain
    assert arrived == set(leads) - refused
