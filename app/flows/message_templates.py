"""Writing templates of messages: saved whole or not at all, compiled as they are saved, in effect at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import Connection
from sqlalchemy.orm import Session

from app.errors import Conflict, Fault, Invalid, Unrenderable
from app.flows.compose import unsubscribe_base
from app.models import account, campaign, message_template, track
from app.models.message_template import PURPOSES, MessageTemplate, TemplateLine, TemplateVersion
from app.models.sender import Sender
from app.models.template import Compiled, LeadView, Shared, compile_content, has_unsubscribe_link
from app.models.template import preview as fill
from app.models.template_links import Links, LinkSpot, number_together
from app.runtime import Runtime

LONGEST_NAME: Final = 100
MOST_LINKS: Final = 2_000  # that a template may have had
CONTENT: Final = ("subject", "html", "text")


@dataclass(frozen=True, slots=True)
class TemplateDraft:
    """A template's form. `sender_id` is of messages that name no sender; an empty `text` is made from the HTML."""

    name: str
    subject: str
    html: str
    text: str = ""
    purpose: str = "transactional"
    sender_id: int | None = None
    track_opens: str = "off"
    track_clicks: str = "off"


@dataclass(frozen=True, slots=True)
class TemplatePreview:
    """An email of a template; `fault` says why these data make none."""

    subject: str
    html: str
    text: str
    fault: str | None


def create(runtime: Runtime, organisation_id: int, user_id: int, draft: TemplateDraft) -> int:
    """Save a new template; its id. Raises Invalid naming every field that is wrong."""
    with runtime.db.session() as session:
        compiled = _check(session, organisation_id, draft, None)
        found = MessageTemplate(organisation_id=organisation_id, urls=[], linked=[])
        _fill(found, draft, compiled)
        session.add(found)
        session.flush()
        message_template.keep_version(session.connection(), found.id, user_id)
        return found.id


def update(runtime: Runtime, organisation_id: int, user_id: int, template_id: int, draft: TemplateDraft) -> None:
    """Save a template again; messages that were handed over already keep what they said. Raises Invalid, NotFound."""
    with runtime.db.session() as session:
        conn = session.connection()
        account.hold(conn, organisation_id)
        found = message_template.get(session, organisation_id, template_id, lock=True)
        compiled = _check(session, organisation_id, draft, template_id)
        if draft.purpose == "transactional" != found.purpose:
            _check_ways(conn, template_id)
        changed = any(getattr(found, name) != getattr(draft, name) for name in CONTENT)
        found.version += changed
        _fill(found, draft, compiled)
        session.flush()
        if changed:
            message_template.keep_version(conn, template_id, user_id)
        message_template.update_streams(conn, template_id)


def delete(runtime: Runtime, organisation_id: int, template_id: int) -> None:
    """Take a template away: nobody can name it any more. Messages that wait are sent as it was. Raises NotFound."""
    with runtime.db.session() as session:
        found = message_template.get(session, organisation_id, template_id, lock=True)
        found.deleted_at = campaign.now(session.connection())


def find(runtime: Runtime, organisation_id: int, template_id: int) -> MessageTemplate:
    """One template. Raises NotFound."""
    with runtime.db.session() as session:
        return message_template.get(session, organisation_id, template_id)


def list_templates(runtime: Runtime, organisation_id: int) -> list[TemplateLine]:
    """All templates, by name."""
    with runtime.db.begin() as conn:
        return message_template.list_templates(conn, organisation_id)


def list_versions(runtime: Runtime, organisation_id: int, template_id: int) -> list[TemplateVersion]:
    """What a template has said, the newest first. Raises NotFound."""
    with runtime.db.session() as session:
        message_template.get(session, organisation_id, template_id)
        return message_template.list_versions(session.connection(), template_id)


def preview(runtime: Runtime, organisation_id: int, template_id: int, data: Mapping[str, Any]) -> TemplatePreview:
    """The email that a message with these data would be. The unsubscribe address in it unsubscribes nobody.

    Raises NotFound.
    """
    with runtime.db.session() as session:
        found = message_template.get(session, organisation_id, template_id)
        sender = session.get(Sender, found.sender_id) if found.sender_id else None
    base = unsubscribe_base(runtime.settings.base_url)
    shared = Shared(found.name, sender.name if sender else "", base)
    view = LeadView(0, "somebody@example.com", None, data)
    try:
        return TemplatePreview(*fill(Compiled.from_json(found.compiled), view, shared, f"{base}preview"), None)
    except Unrenderable as error:
        return TemplatePreview("", "", "", str(error))


def _fill(found: MessageTemplate, draft: TemplateDraft, compiled: Compiled) -> None:
    found.name = draft.name.strip()
    found.subject, found.html, found.text = draft.subject, draft.html, draft.text
    found.purpose, found.sender_id = draft.purpose, draft.sender_id
    found.track_opens, found.track_clicks = draft.track_opens, draft.track_clicks
    # those that it had come first, so that each keeps its position
    before = Links(tuple(found.urls), tuple(LinkSpot(0, 0, 0, link) for link in range(1, len(found.urls) + 1)))
    (_, links), standing = number_together([before, compiled.links])
    if len(links.urls) > MOST_LINKS:
        raise Conflict(f"This template has had more than {MOST_LINKS:,} links: make a new one.")
    found.urls, found.linked = list(links.urls), [bits >> 1 & 1 for bits in standing]
    found.compiled = replace(compiled, links=links).to_json()


def _check(session: Session, organisation_id: int, draft: TemplateDraft, template_id: int | None) -> Compiled:
    """Everything that may be wrong with a template, at once. Raises Invalid."""
    faults = [*_check_name(session, organisation_id, draft.name.strip(), template_id)]
    if draft.purpose not in PURPOSES:
        faults.append(Fault("purpose", f"Choose one of these: {', '.join(PURPOSES)}."))
    if draft.sender_id is not None:
        sender = session.get(Sender, draft.sender_id)
        if sender is None or sender.organisation_id != organisation_id:
            faults.append(Fault("sender", "There is no such sender."))
    for name in ("track_opens", "track_clicks"):
        if getattr(draft, name) not in track.CHOICES:
            faults.append(Fault(name, f"Choose one of these: {', '.join(track.CHOICES)}."))
    try:
        compiled = compile_content(draft.subject, draft.html, draft.text, None)
    except Invalid as error:
        raise Invalid([*faults, *error.faults]) from None
    if draft.purpose == "marketing" and not has_unsubscribe_link(compiled):
        faults.append(Fault("html", "What markets something shows everybody a link: {{ unsubscribe_url }}."))
    if faults:
        raise Invalid(faults)
    return compiled


def _check_ways(conn: Connection, template_id: int) -> None:
    """Those whose messages would be for transactions now have a pool that may carry them. Raises Invalid."""
    if names := message_template.find_marketing_alone(conn, template_id):
        said = f"Messages of it are from {', '.join(names)}, and go through a pool for campaigns alone"
        raise Invalid.one("purpose", f"{said}: choose one for messages first.")


def _check_name(session: Session, organisation_id: int, name: str, template_id: int | None) -> list[Fault]:
    if not name:
        return [Fault("name", "Give the template a name: programs ask for it by that.")]
    if len(name) > LONGEST_NAME:
        return [Fault("name", f"The name is longer than {LONGEST_NAME} characters.")]
    if not name.isprintable():
        return [Fault("name", "The name has a character in it that nobody can see.")]
    if message_template.is_taken(session, organisation_id, name, template_id):
        return [Fault("name", "There is a template with this name already.")]
    return []
