"""The form that a campaign is written in, and the way between it and a draft."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from wtforms import RadioField, SelectField, StringField, TextAreaField

from app.flows.edit_campaign import Draft
from app.flows.edit_variants import Parts, TestDraft
from app.models import recurrence, segment, sender
from app.models.campaign import Campaign, Content
from app.models.field import Fields, Type, load_fields
from app.models.schedule import from_json
from web import schedule_form, variant_form
from web.context import me, runtime
from web.forms import Form, choices
from web.schedule_form import ScheduleFields
from web.variant_form import VariantFields

SAMPLE: Final = """<!doctype html>
<html>
<body>
  <p>Hello%s,</p>

  <p>…</p>

  <p><small><a href="{{ unsubscribe_url }}">Unsubscribe</a></small></p>
</body>
</html>
"""
# How a merge field of each type is best begun.
FILTERS: Final[dict[Type, str]] = {"text": ' | default: "…"', "date": ' | date: "%-d %B %Y"'}
# What a campaign does about emails of which nobody knows whether the provider took them: its name, and one sentence.
POLICIES: Final = {
    "hold": (
        "Wait",
        "Until a webhook or a person tells. After a day the campaign is finished, and still says how many.",
    ),
    "resend": (
        "Send again, once",
        "Only while the pool's webhooks arrive, so that silence means something. Somebody may still get it twice.",
    ),
    "leave": ("Leave", "They count as failed: nobody gets it twice, and somebody may not get it at all."),
}
# How opens and clicks are seen: by whom, in one sentence each.
TRACKING: Final = {
    "auto": ("As the provider does", "Its own reports; where it makes none, as over SMTP, by Millrace itself."),
    "on": ("By Millrace", "Through addresses of Millrace, whichever the provider is. Its own reports are left out."),
    "off": ("Not at all", "Nothing is put into the email. What a provider reports unasked is still recorded."),
}
TRACKED_BY: Final = choices((name, label) for name, (label, _) in TRACKING.items())


def _number(value: object) -> int | None:
    return int(str(value)) if value not in (None, "", "None") else None


class CampaignForm(VariantFields, ScheduleFields, Form):
    """Everything that is written by hand. Its fields are named like the faults of `edit_campaign`."""

    name = StringField("Name", description="For you and your colleagues; leads see it only where you merge it in.")
    sender = SelectField("From", coerce=_number)
    segment = SelectField("To", coerce=_number)
    subject = StringField("Subject")
    html = TextAreaField("HTML")
    text = TextAreaField("Text", description="For readers without HTML. Left empty, it is made from the HTML.")
    unknown_policy = RadioField(
        "When it is not known whether the provider took an email",
        choices=choices((name, label) for name, (label, _) in POLICIES.items()),
        default="hold",
        validate_choice=False,  # the flow names what is wrong
    )
    track_opens = SelectField("Opens", choices=TRACKED_BY, default="auto", validate_choice=False)
    track_clicks = SelectField("Clicks", choices=TRACKED_BY, default="auto", validate_choice=False)

    def offer(self) -> None:
        """Fill the lists with what this organisation has."""
        written = (self.name, self.sender, self.segment, self.subject)
        for field in (*written, self.track_opens, self.track_clicks):
            field.flags.plain = True  # a draft is saved without them, but they are not called optional
        variant_form.offer(self)
        schedule_form.offer(self)
        with runtime().db.begin() as conn:
            senders = sender.list_senders(conn, me().organisation_id)
            segments = segment.find_page(conn, me().organisation_id, limit=1000)
        names = [(each.id, f"{each.name} <{each.address}>") for each in senders]
        self.sender.choices = choices([("", "Choose a sender …"), *names])
        self.segment.choices = choices([("", "Everyone"), *((each.id, each.name) for each in segments)])

    def draft(self) -> Draft:
        """What was written. Raises Invalid naming what is wrong about its times."""
        variants, test = variant_form.read_variants(self)
        start_at, schedule, repeats = schedule_form.read(self)
        return Draft(
            name=self.name.data or "",
            sender_id=self.sender.data,
            segment_id=self.segment.data,
            subject=self.subject.data or "",
            html=_lines(self.html.data),
            text=_lines(self.text.data),
            start_at=start_at,
            unknown_policy=self.unknown_policy.data or "",
            track_opens=self.track_opens.data or "",
            track_clicks=self.track_clicks.data or "",
            variants=variants,
            test=test,
            schedule=schedule,
            repeats=repeats,
        )


def fresh() -> dict[str, object]:
    """A new campaign's form: it begins with HTML that can be sent, and greets by name where names are known."""
    with runtime().db.begin() as conn:
        knows_names = "attributes.first_name" in load_fields(conn, me().organisation_id)
    greeting = ' {{ lead.first_name | default: "there" }}' if knows_names else ""
    return {"html": SAMPLE % greeting} | schedule_form.fresh()


def written(found: Campaign, content: Content, variants: Sequence[Parts], test: TestDraft) -> dict[str, object]:
    """A saved campaign's form."""
    with runtime().db.begin() as conn:
        repeats = recurrence.find(conn, found.id)
    return {
        "name": found.name,
        "sender": found.sender_id,
        "segment": found.segment_id,
        "subject": content.subject,
        "html": content.html,
        "text": content.text,
        "unknown_policy": found.unknown_policy,
        "track_opens": found.track_opens,
        "track_clicks": found.track_clicks,
        **schedule_form.written(found.start_at, from_json(found.schedule), repeats),
        **variant_form.written_variants(variants, test),
    }


def merge_fields(fields: Fields) -> list[tuple[str, str]]:
    """(what to write, what it is) for every merge field that content may use."""
    known = [("{{ lead.email }}", "the lead's address"), ("{{ lead.time_zone }}", "the lead's time zone")]
    for field in fields.values():
        if field.attribute:
            known.append((f"{{{{ lead.{field.attribute}{FILTERS.get(field.type, '')} }}}}", field.type))
    others = [("{{ unsubscribe_url }}", "needed in a link"), ("{{ campaign.name }}", ""), ("{{ sender.name }}", "")]
    return others[:1] + known + others[1:]


def _lines(value: str | None) -> str:
    """Browsers send CR LF; templates are kept, and counted in lines, with LF."""
    return (value or "").replace("\r\n", "\n")
