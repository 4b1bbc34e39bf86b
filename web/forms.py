"""What all forms share: trimmed text, and faults put beside the fields that they are about."""

from __future__ import annotations

from collections.abc import Iterable

from flask_wtf import FlaskForm
from wtforms.fields.choices import SelectChoice

from app.errors import Invalid


class Form(FlaskForm):  # type: ignore[misc]
    """A form of ours; its fields' faults come from the flows, said once and shown here."""

    class Meta(FlaskForm.Meta):  # type: ignore[misc]
        def bind_field(self, form, unbound_field, options):  # type: ignore[no-untyped-def]
            filters = list(unbound_field.kwargs.get("filters", ()))
            if unbound_field.field_class.__name__ in ("StringField", "EmailField"):
                filters.append(_trim)
            return unbound_field.bind(form=form, filters=filters, **options)

    def blame(self, invalid: Invalid) -> None:
        """Puts each fault beside its field, the others above the form."""
        for fault in invalid.faults:
            field = self._fields.get(fault.pointer)
            errors = self.form_errors if field is None else field.errors
            if field is not None and not isinstance(errors, list):
                field.errors = errors = list(errors)
            errors.append(fault.message)


def choices(pairs: Iterable[tuple[object, str]]) -> list[SelectChoice]:
    """What a SelectField offers, from (value, label)."""
    return [SelectChoice(str(value), label) for value, label in pairs]


def _trim(value: str | None) -> str | None:
    return value.strip() if value else value
