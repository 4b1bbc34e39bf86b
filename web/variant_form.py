"""The part of the campaign form that variants are written in, and how they are tested."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from wtforms import Field, IntegerField, RadioField, SelectField, StringField, TextAreaField

from app.flows.edit_variants import Parts, TestDraft
from app.models.variant import LETTERS
from web.forms import Form, choices

OTHERS: Final = LETTERS[1:].lower()  # variant A is the campaign's own content
UNITS: Final = {"minutes": timedelta(minutes=1), "hours": timedelta(hours=1), "days": timedelta(days=1)}
GOALS: Final = {
    "clicked": ("Clicks", "The variant whose readers followed a link most often, each person counted once."),
    "opened": ("Opens", "Pictures may be blocked, or loaded by nobody: opens say less than clicks."),
}
PARTS: Final = ("subject", "html", "text")


class VariantFields:
    """`subject_b` to `text_e`, and the test's own. What is left empty of a variant is as in variant A."""

    test_share = IntegerField("Test on", default=20)
    test_wait = IntegerField("Then wait", default=4)
    test_unit = SelectField("for", choices=choices((name, name) for name in UNITS), default="hours")
    test_goal = RadioField(
        "Winner by",
        choices=choices((name, label) for name, (label, _) in GOALS.items()),
        default="clicked",
        validate_choice=False,  # the flow names what is wrong
    )


for _letter in OTHERS:
    setattr(VariantFields, f"subject_{_letter}", StringField("Subject"))
    setattr(VariantFields, f"html_{_letter}", TextAreaField("HTML"))
    setattr(VariantFields, f"text_{_letter}", TextAreaField("Text"))


def fields_of(form: Form) -> dict[str, list[Field]]:
    """letter -> its three fields, from the second variant on."""
    return {letter.upper(): [form[f"{part}_{letter}"] for part in PARTS] for letter in OTHERS}


def offer(form: Form) -> None:
    """Whatever is left empty is as in variant A: nothing of it is called optional."""
    for each in fields_of(form).values():
        for field in each:
            field.flags.plain = True
    for name in ("test_share", "test_wait", "test_unit"):
        form[name].flags.plain = True


def read_variants(form: Form) -> tuple[list[Parts], TestDraft]:
    """What was written. A variant that was emptied is none: those behind it move up, in the form, too."""
    written = [[(field.data or "").replace("\r\n", "\n") for field in each] for each in fields_of(form).values()]
    variants = [Parts(*each) for each in written if any(value.strip() for value in each)]
    for fields, parts in zip(fields_of(form).values(), [*variants, *[Parts()] * len(OTHERS)], strict=False):
        for field, value in zip(fields, parts, strict=True):
            field.data = value
    unit = UNITS.get(form["test_unit"].data, UNITS["hours"])
    share, wait = form["test_share"].data, form["test_wait"].data
    return variants, TestDraft(_bounded(share), _bounded(wait) * unit, form["test_goal"].data or "")


def _bounded(number: int | None) -> int:
    """So that no span overflows; whatever is out of bounds is refused by the flow."""
    return max(-1, min(number if number is not None else -1, 1_000_000))


def written_variants(variants: Sequence[Parts], test: TestDraft) -> dict[str, object]:
    """Saved variants, as the form has them."""
    found: dict[str, object] = {"test_share": test.share, "test_goal": test.goal}
    for letter, parts in zip(OTHERS, variants, strict=False):
        found |= {f"{part}_{letter}": value for part, value in zip(PARTS, parts, strict=True)}
    unit = next((name for name, span in reversed(UNITS.items()) if test.wait and not test.wait % span), "minutes")
    return found | {"test_wait": test.wait // UNITS[unit], "test_unit": unit}
