"""Message templates over the API: written, read, tried, taken away."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final

from pydantic import Field

from app.flows import message_templates
from app.flows.message_templates import TemplateDraft
from app.models.message_template import PURPOSES
from web.api.cursors import Page
from web.api.route import Answering, Asking, Caller, Made, Routes

routes: Final = Routes("templates")
LARGE: Final = 4 * 1024 * 1024  # bytes: HTML of a megabyte, escaped
AT: Final = {"sender": "/sender_id"}
Name = Annotated[str, Field(description="What messages name it by.", max_length=message_templates.LONGEST_NAME)]
SenderId = Annotated[
    int | None, Field(description="The sender of messages that name none, by its number.", ge=1, lt=2**31)
]
Purpose = Annotated[str, Field(description=f"One of {', '.join(PURPOSES)}.")]
Tracked = Annotated[str, Field(description="auto, on or off.")]


class NewTemplate(Asking):
    """A template as it is written. An empty text is made from the HTML."""

    name: Name
    subject: str
    html: str
    text: str = ""
    purpose: Purpose = "transactional"
    sender_id: SenderId = None
    track_opens: Tracked = "off"
    track_clicks: Tracked = "off"


class TemplateChange(Asking):
    """What is to be different; what is not said stays. It is in effect at once."""

    name: Name = ""
    subject: str = ""
    html: str = ""
    text: str = ""
    purpose: Purpose = ""
    sender_id: SenderId = None
    track_opens: Tracked = ""
    track_clicks: Tracked = ""


class TemplateLine(Answering):
    """A template in a list; `version` grows with each change of what it says."""

    id: int
    name: str
    purpose: str
    version: int
    subject: str
    updated_at: datetime


class Template(TemplateLine):
    """A template with what it says."""

    html: str
    text: str
    sender_id: int | None
    track_opens: str
    track_clicks: str


class Data(Asking):
    """What a message would bring."""

    data: dict[str, Any] = {}


class Preview(Answering):
    """The email that it would be; `fault` says why these data make none."""

    subject: str
    html: str
    text: str
    fault: str | None


@routes.get("/templates", "templates:read", answer=Page[TemplateLine])
def list_all(caller: Caller) -> Page[TemplateLine]:
    """List all templates by name."""
    found = message_templates.list_templates(caller.runtime, caller.organisation_id)
    return Page[TemplateLine](items=[TemplateLine.model_validate(each) for each in found], next=None)


@routes.post("/templates", "templates:write", body=NewTemplate, answer=Template, status=201, largest=LARGE, at=AT)
def create(caller: Caller, body: NewTemplate) -> Made:
    """Save a new template. It is compiled now, so that what is wrong with it is said now."""
    draft = TemplateDraft(**body.model_dump())
    made = message_templates.create(caller.runtime, caller.organisation_id, caller.user_id, draft)
    return Made(get(caller, made), f"templates/{made}")


@routes.get("/templates/<int:template_id>", "templates:read", answer=Template)
def get(caller: Caller, template_id: int) -> Template:
    """Read a template."""
    return Template.model_validate(message_templates.find(caller.runtime, caller.organisation_id, template_id))


@routes.patch(
    "/templates/<int:template_id>", "templates:write", body=TemplateChange, answer=Template, largest=LARGE, at=AT
)
def change(caller: Caller, template_id: int, body: TemplateChange) -> Template:
    """Change a template. Messages that were handed over already keep what they said."""
    known = get(caller, template_id).model_dump(include=set(TemplateChange.model_fields))
    draft = TemplateDraft(**(known | body.model_dump(exclude_unset=True)))
    message_templates.update(caller.runtime, caller.organisation_id, caller.user_id, template_id, draft)
    return get(caller, template_id)


@routes.delete("/templates/<int:template_id>", "templates:write")
def remove(caller: Caller, template_id: int) -> None:
    """Take a template away. Messages that wait are sent as it was."""
    message_templates.delete(caller.runtime, caller.organisation_id, template_id)


@routes.post("/templates/<int:template_id>/preview", "templates:read", body=Data, answer=Preview, once=False)
def preview(caller: Caller, template_id: int, body: Data) -> Preview:
    """Show the email that a message with these data would be."""
    return Preview.model_validate(
        message_templates.preview(caller.runtime, caller.organisation_id, template_id, body.data)
    )
