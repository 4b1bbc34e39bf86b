"""Templates of messages: what a message says that names one. Changing one changes what is sent from then on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, func, select
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, Session, mapped_column
from sqlalchemy.types import SmallInteger, Text

from app.db import Base, Statements
from app.errors import NotFound

SQL = Statements("message_template")
PURPOSES: Final = ("transactional", "marketing")


class MessageTemplate(Base):
    """One template, as its form knows it. `urls` and `linked`: its links by position, and which of them it has now."""

    __tablename__ = "message_template"

    id: Mapped[int] = mapped_column(primary_key=True)
    organisation_id: Mapped[int]
    name: Mapped[str]
    purpose: Mapped[str] = mapped_column(default="transactional")
    sender_id: Mapped[int | None]
    track_opens: Mapped[str] = mapped_column(default="off")
    track_clicks: Mapped[str] = mapped_column(default="off")
    version: Mapped[int] = mapped_column(default=1)
    subject: Mapped[str]
    html: Mapped[str]
    text: Mapped[str] = mapped_column(default="")
    compiled: Mapped[dict[str, Any]] = mapped_column(JSONB)
    urls: Mapped[list[str]] = mapped_column(ARRAY(Text), default=list)
    linked: Mapped[list[int]] = mapped_column(ARRAY(SmallInteger), default=list)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now(), onupdate=func.now())
    deleted_at: Mapped[datetime | None]


@dataclass(frozen=True, slots=True)
class TemplateLine:
    """A template as lists show it; `sender` is the name of the one that it usually has."""

    id: int
    name: str
    purpose: str
    version: int
    subject: str
    updated_at: datetime
    sender: str | None


@dataclass(frozen=True, slots=True)
class TemplateVersion:
    """What a template said from `saved_at` on."""

    version: int
    subject: str
    html: str
    text: str
    saved_at: datetime
    saved_by: str | None


def get(session: Session, organisation_id: int, template_id: int, *, lock: bool = False) -> MessageTemplate:
    """The template; raises NotFound where there is none, it was deleted, or it is another organisation's."""
    found = session.get(MessageTemplate, template_id, with_for_update=lock)
    if found is None or found.organisation_id != organisation_id or found.deleted_at is not None:
        raise NotFound("There is no such template.")
    return found


def is_taken(session: Session, organisation_id: int, name: str, but: int | None = None) -> bool:
    """Whether another template has this name, whatever its case."""
    same = select(MessageTemplate.id).where(
        MessageTemplate.organisation_id == organisation_id,
        func.lower(MessageTemplate.name) == name.lower(),
        MessageTemplate.deleted_at.is_(None),
    )
    return any(template_id != but for template_id in session.scalars(same))


def list_templates(conn: Connection, organisation_id: int) -> list[TemplateLine]:
    """All templates, by name."""
    rows = conn.execute(SQL.list_templates, {"organisation_id": organisation_id})
    return [TemplateLine(**row._mapping) for row in rows]


def keep_version(conn: Connection, template_id: int, user_id: int | None) -> None:
    """Keep what a template says now, under its version."""
    conn.execute(SQL.keep_version, {"template_id": template_id, "user_id": user_id})


def list_versions(conn: Connection, template_id: int, limit: int = 20) -> list[TemplateVersion]:
    """What a template has said, the newest first."""
    rows = conn.execute(SQL.list_versions, {"template_id": template_id, "limit": limit})
    return [TemplateVersion(**row._mapping) for row in rows]


def find_marketing_alone(conn: Connection, template_id: int) -> list[str]:
    """The names of senders of a template's messages that have no pool which may carry what is transactional."""
    return list(conn.execute(SQL.find_marketing_alone, {"template_id": template_id}).scalars())


def update_streams(conn: Connection, template_id: int) -> None:
    """Let a template's streams say what it says from now on."""
    values = {"template_id": template_id}
    conn.execute(SQL.update_streams, values)
    conn.execute(SQL.update_contents, values)
    conn.execute(SQL.update_links, values)
