"""The forms of a pool: one for each kind of account, made from its table of fields; its secret; and a test send."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from wtforms import EmailField, IntegerField, PasswordField, SelectField, StringField
from wtforms.validators import InputRequired

from app.errors import Fault, Invalid
from app.providers.forms import Field, Kind
from web.forms import Form, choices

OPTION = re.compile(r"The option (?P<name>\w+)=.*?: ", re.DOTALL)  # as app/providers/address.py words it
BATCH = "How many emails go to the provider at a time, at most; one that takes fewer gets fewer."


class SecretForm(Form):
    """What a pool's webhooks are signed with. Written, never read."""

    secret = PasswordField(
        "Webhook secret",
        description="Kept encrypted and never shown again; saved empty, webhooks are no longer taken.",
    )


class TestForm(Form):
    """One email, to see that it arrives."""

    sender = SelectField("From", coerce=int)
    address = EmailField("To", [InputRequired("Enter the address that the test goes to.")])


class AccountForm(Form):
    """What every pool has; the fields of its kind stand behind."""

    name = StringField("Name", description="For you and your colleagues: “Marketing”, “Transactional”, …")

    def values(self, kind: Kind) -> dict[str, str]:
        """What was typed into the kind's own fields."""
        return {field.name: self[field.name].data or "" for field in kind.fields}

    def blame(self, invalid: Invalid) -> None:
        """As every form, but what is wrong with a URL that was made of fields is said at the field it came from."""
        super().blame(Invalid([self._traced(each) for each in invalid.faults]))

    def _traced(self, fault: Fault) -> Fault:
        if fault.pointer != "url" or "url" in self:
            return fault
        option = OPTION.match(fault.message)
        if option and option["name"] in self:
            return Fault(option["name"], f"This must be {fault.message[option.end() :]}")
        if "The host" in fault.message:
            return Fault("host" if "host" in self else "gateway", fault.message)
        return Fault("more", fault.message) if "more" in self and self["more"].data else fault

    def ask_again(self) -> None:
        """Secrets that were typed are not sent back, so the form says that they are missing."""
        for field in self:
            if isinstance(field, PasswordField) and field.data and not field.errors:
                field.errors = ["Enter it again: what is secret is not sent back."]


def account_form(kind: Kind, known: Mapping[str, Any] | None = None) -> AccountForm:
    """The form of a kind of account: a new one's, or one's of which all but the secrets is `known`."""
    fields = {field.name: _field(field, stored=known is not None) for field in kind.fields}
    made = type("KindForm", (AccountForm,), {**fields, "batch": IntegerField("Emails per call", description=BATCH)})
    form: AccountForm = made(data=known or {"batch": 50})
    for shared in ("name", "batch"):
        form[shared].flags.plain = True
    for field in kind.fields:
        needed = field.needed and not (field.secret and known is not None)
        form[field.name].flags.plain = needed or bool(field.offers) or bool(field.default)
    return form


def _field(field: Field, *, stored: bool) -> Any:
    hint = f"{field.hint} Kept encrypted and never shown again." if field.secret and field.needed else field.hint
    if field.secret:
        return PasswordField(field.label, description="Left empty, what is stored stays." if stored else hint.strip())
    if field.offers:
        return SelectField(
            field.label, choices=choices(field.offers), description=field.hint, validate_choice=False, default=""
        )
    return StringField(field.label, description=hint, default=field.default)
