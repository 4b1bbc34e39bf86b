"""Compiled content as a provider's own template."""

from __future__ import annotations

from app.mail import Letter, Parts
from app.providers import variables


def test_every_slot_becomes_its_placeholder_and_the_rest_stays() -> None:
    parts = Parts(("<p>Dear ", ", ", "!</p>"), (1, 0))
    assert variables.template(parts, "%recipient.v{}%".format) == "<p>Dear %recipient.v1%, %recipient.v0%!</p>"


def test_static_text_is_escaped_and_placeholders_are_not() -> None:
    parts = Parts(("50 % for ", ""), (0,))
    assert variables.template(parts, "%{}%".format, lambda text: text.replace("%", "%%")) == "50 %% for %0%"


def test_a_text_without_slots_is_itself() -> None:
    assert variables.template(Parts(("as it is",), ()), str) == "as it is"


def test_a_template_filled_by_its_values_is_what_a_finished_body_would_be() -> None:
    parts = Parts(("a ", " b ", " c ", ""), (0, 1, 0))
    letter = Letter(1, "ada@example.com", ("one", "two"), "https://mail.example.com/u/1")
    text = variables.template(parts, "[{}]".format)
    for slot, value in enumerate(variables.values(letter)):
        text = text.replace(f"[{slot}]", value)
    assert text == parts.fill(letter.values)
