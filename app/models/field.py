"""What may be known of a lead: its columns and its organisation's attributes, for segments, templates and pages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from sqlalchemy import Connection

from app.db import Statements

SQL = Statements("field")
ATTRIBUTE: Final = "attributes."  # a field that begins so is an attribute; any other is a column

Type = Literal["text", "number", "boolean", "date", "timestamp"]


@dataclass(frozen=True, slots=True)
class Field:
    """One thing known of a lead. `choices` lists every value that it can have, where these are few and fixed."""

    name: str
    type: Type
    label: str
    choices: tuple[str, ...] = ()

    @property
    def attribute(self) -> str | None:
        """The attribute's name; None for a column."""
        return self.name.removeprefix(ATTRIBUTE) if self.name.startswith(ATTRIBUTE) else None


Fields = Mapping[str, Field]

# Columns of `lead` that people may ask for; `domain` is the receiving domain's name.
COLUMNS: Final = (
    Field("email", "text", "Email"),
    Field("status", "text", "Status", choices=("active", "unsubscribed", "invalid")),
    Field("time_zone", "text", "Time zone"),
    Field("created_at", "timestamp", "Created"),
    Field("domain", "text", "Domain"),
)


def load_fields(conn: Connection, organisation_id: int) -> Fields:
    """The fields of an organisation's leads, by the names that segments use: columns first, then attributes by name."""
    attributes = [
        Field(ATTRIBUTE + row.name, row.type, row.name.replace("_", " ").capitalize())
        for row in conn.execute(SQL.find_attributes, {"organisation_id": organisation_id})
    ]
    return {field.name: field for field in (*COLUMNS, *attributes)}
