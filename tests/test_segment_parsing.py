"""Segment conditions from outside: understood, or refused at once with a pointer and a sentence."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from app.errors import Invalid
from app.models import segment
from app.models.condition import BYTES, DEPTH, FAULTS, RULES
from app.models.field import COLUMNS, Field
from app.models.operators import OPERATORS, suiting
from app.models.rule import LIST

ATTRIBUTES = {"plan": "text", "country": "text", "age": "number", "vip": "boolean", "born": "date"}
FIELDS = {f.name: f for f in COLUMNS} | {
    f"attributes.{name}": Field(f"attributes.{name}", kind, name.title())  # type: ignore[arg-type]
    for name, kind in ATTRIBUTES.items()
}
SCHEMA = Draft202012Validator(segment.json_schema())
DOCS = Path(__file__).parent.parent / "docs"
ONE: dict[str, Any] = {"field": "attributes.plan", "operator": "=", "value": "pro"}


def group(*rules: object, **more: object) -> dict[str, Any]:
    return {"combinator": "and", "rules": list(rules), **more}


def rule(field: str, operator: str, *value: object) -> dict[str, Any]:
    return {"field": field, "operator": operator} | ({"value": value[0]} if value else {})


def faults(document: object) -> dict[str, str]:
    with pytest.raises(Invalid) as caught:
        segment.parse(document, FIELDS)
    return {fault.pointer: fault.message for fault in caught.value.faults}


def nested(depth: int) -> dict[str, Any]:
    document = group(ONE)
    for _ in range(depth - 1):
        document = group(document)
    return document


@pytest.mark.parametrize(
    "document",
    [
        group(),
        group(id="root", **{"not": False}),
        group(ONE, id="1", **{"not": True}),
        nested(DEPTH),
        group(*[ONE] * RULES),
        group(rule("attributes.plan", "in", [str(number) for number in range(LIST)])),
        group(rule("email", "contains", "x" * 1_024)),
        group(rule("email", "contains", "é" * 512)),
        group(rule("status", "notIn", ["active", "invalid"])),
        group(rule("time_zone", "null"), rule("time_zone", "notNull", None), rule("attributes.age", "null", "")),
        group(rule("attributes.age", "between", [1, 1.5]), rule("attributes.age", "=", -(10**15))),
        group(rule("attributes.vip", "!=", True)),
        group(rule("attributes.born", "between", ["9999-12-31", "9999-12-31"]), rule("created_at", "<", "now")),
        group(rule("created_at", ">", "1 minute ago"), rule("created_at", "=", "In 100 years")),
        group(rule("created_at", "between", ["90 days ago", "30 days ago"]), rule("attributes.born", ">", "today")),
        group(rule("created_at", "between", ["2026-01-01", "now"])),
        group(rule("created_at", "<=", "2026-05-31T18:00:00.5+05:30"), rule("created_at", "<", "2026-05-31 18:00")),
    ],
)
def test_what_the_format_allows_is_understood_and_fits_the_schema(document: dict[str, Any]) -> None:
    assert segment.parse(document, FIELDS)
    assert segment.parse_json(json.dumps(document), FIELDS) == (document, segment.parse(document, FIELDS))
    SCHEMA.validate(document)


@pytest.mark.parametrize(
    ("document", "pointer", "said"),
    [
        (None, "", "no group"),
        ([], "", "no group"),
        ({"combinator": "and"}, "", "no group"),
        (ONE, "", "no group"),
        (group(combinator="xor"), "/combinator", '"and" or "or"'),
        ({"rules": [ONE]}, "/combinator", '"and" or "or"'),
        (group(ONE, **{"not": "yes"}), "/not", "true or false"),
        (group(**{"not": True}), "/rules", "no rules"),
        (group(ONE, group()), "/rules/1/rules", "no rules"),
        (group(ONE, "or", ONE), "/rules/1", "one combinator"),
        (group(7), "/rules/0", "no rule"),
        (group(ONE, muted=True), "/muted", "without effect"),
        (group(ONE | {"disabled": False}), "/rules/0/disabled", "without effect"),
        (group(ONE | {"valueSource": "field"}), "/rules/0/valueSource", "two fields"),
        (group(ONE | {"lhs": {}}), "/rules/0/lhs", "left side"),
        (group(ONE | {"match": {}}), "/rules/0/match", "Match modes"),
        (group(ONE | {"a/b~c": 1}), "/rules/0/a~1b~0c", "a/b~c"),
        (group(ONE | {"\ud800": 1}), "/rules/0", "nobody knows"),
        (group(ONE | {"id": 7}), "/rules/0/id", "printable"),
        (group(ONE, id="\0"), "/id", "printable"),
        (group(rule("attributes.nope", "=", "x")), "/rules/0/field", 'no field "attributes.nope"'),
        (group(rule("plan", "=", "x")), "/rules/0/field", 'Did you mean "attributes.plan"?'),
        (group(rule("emial", "=", "x")), "/rules/0/field", 'Did you mean "email"?'),
        (group(rule("x" * 10_000, "=", "x")), "/rules/0/field", "xxx…"),
        (group({"operator": "=", "value": 1}), "/rules/0/field", "which field"),
        (group(rule("email", "like", "x")), "/rules/0/operator", 'no operator "like"'),
        (group(rule("email", "toString", "x")), "/rules/0/operator", "no operator"),
        (group(rule("attributes.age", "contains", "x")), "/rules/0/operator", "is a number. Use one of: ="),
        (group(rule("attributes.vip", "<", True)), "/rules/0/operator", "is yes or no"),
        (group(rule("status", "contains", "act")), "/rules/0/operator", "a few fixed values"),
        (group(rule("status", "=", "Active")), "/rules/0/value", "active, unsubscribed, invalid"),
        (group(rule("email", "=")), "/rules/0/value", "in quotes"),
        (group(rule("email", "=", "  ")), "/rules/0/value", "empty"),
        (group(rule("email", "=", "a\0b")), "/rules/0/value", "NUL"),
        (group(rule("email", "=", "\ud800")), "/rules/0/value", "half a character"),
        (group(rule("email", "=", "é" * 513)), "/rules/0/value", "too long"),
        (group(rule("email", "null", "x")), "/rules/0/value", "takes no value"),
        (group(rule("email", "in", "a,b")), "/rules/0/value", "in a list"),
        (group(rule("email", "in", [])), "/rules/0/value", "at least one"),
        (group(rule("email", "in", ["a", "b", 3])), "/rules/0/value/2", "in quotes"),
        (group(rule("email", "in", ["a"] * (LIST + 1))), "/rules/0/value", "too many values"),
        (group(rule("attributes.age", "=", "30")), "/rules/0/value", "without quotes"),
        (group(rule("attributes.age", "=", True)), "/rules/0/value", "without quotes"),
        (group(rule("attributes.age", "=", float("nan"))), "/rules/0/value", "too large"),
        (group(rule("attributes.age", "=", 10**5_000)), "/rules/0/value", "too large"),
        (group(rule("attributes.age", "between", [2, 1])), "/rules/0/value", "above the second"),
        (group(rule("attributes.age", "between", [1])), "/rules/0/value", "two values"),
        (group(rule("attributes.vip", "=", 1)), "/rules/0/value", "true or false"),
        (group(rule("attributes.born", "=", 20240101)), "/rules/0/value", "like"),
        (group(rule("attributes.born", "=", "2023-02-30")), "/rules/0/value", "no day 2023-02-30"),
        (group(rule("attributes.born", "=", "0000-01-01")), "/rules/0/value", "no day"),
        (group(rule("attributes.born", "=", "2024-01-01T25:00")), "/rules/0/value", "no time"),
        (group(rule("attributes.born", "=", "0001-01-01T00:00+14:00")), "/rules/0/value", "no time"),
        (group(rule("attributes.born", "=", "20240101")), "/rules/0/value", "30 days ago"),
        (group(rule("attributes.born", "=", "in 3 days ago")), "/rules/0/value", "30 days ago"),
        (group(rule("attributes.born", "=", "3 days")), "/rules/0/value", "30 days ago"),
        (group(rule("attributes.born", "=", "3 moons ago")), "/rules/0/value", "30 days ago"),
        (group(rule("attributes.born", "=", "999999999 days ago")), "/rules/0/value", "too far"),
        (group(rule("attributes.born", "=", "٣ days ago")), "/rules/0/value", "30 days ago"),
        (group(rule("created_at", "between", ["1 week ago", "30 days ago"])), "/rules/0/value", "above the second"),
        (nested(DEPTH + 1), "/rules/0" * DEPTH, "too deep"),
        (group(*[ONE] * (RULES + 1)), f"/rules/{RULES}", "too many rules"),
        (group(group(*[ONE] * RULES), ONE), "/rules/1", "too many rules"),
    ],
)
def test_a_fault_is_named_by_its_pointer_in_a_sentence(document: object, pointer: str, said: str) -> None:
    found = faults(document)
    assert said in found[pointer]
    assert len(found[pointer]) < 400
    json.dumps(found, ensure_ascii=False).encode()  # an answer can be made of it


def test_every_fault_is_named_at_once() -> None:
    document = group(rule("plan", "=", 1), group(rule("email", "~", 1)), rule("attributes.age", "=", "x"), ONE)
    assert list(faults(document)) == ["/rules/0/field", "/rules/1/rules/0/operator", "/rules/2/value"]


def test_faults_are_named_up_to_a_number() -> None:
    assert len(faults(group(*[{}] * RULES))) == FAULTS


@pytest.mark.parametrize(
    "body",
    [
        '{"combinator":"and","rules":[' * 1_000 + "]}" * 1_000,
        '{"combinator":"and","rules":[' * 5_000 + "]}" * 5_000,
        "[" * 100_000,
        json.dumps(group(rule("email", "=", "x" * 1_000_000))),
        json.dumps(group(*[{}] * 80_000)),
        json.dumps(group(*[[]] * 80_000)),
        json.dumps(group(*[group()] * 7_000)),
        json.dumps(group(*[{str(key): key for key in range(20_000)}])),
        json.dumps(group(*[rule("attributes.plan", "in", ["x" * 1_024] * 200)] * 2)),
        '{"combinator":"and","rules":[{"field":"attributes.age","operator":"=","value":NaN}]}',
        '{"combinator":"and","rules":[{"field":"attributes.age","operator":"=","value":1e999}]}',
        '{"combinator":"and","rules":[{"field":"email","operator":"=","value":"\\ud800"}]}',
        "",
        "null",
        b"\xff\xfe",
    ],
    ids=range(15),
)
def test_hostile_bodies_are_refused_within_200_milliseconds(body: str | bytes) -> None:
    began = time.process_time()
    with pytest.raises(Invalid):
        segment.parse_json(body, FIELDS)
    assert time.process_time() - began < 0.2


def test_a_decoded_body_may_be_deep_or_large_too() -> None:
    deep: dict[str, Any] = group(ONE)
    for _ in range(100_000):
        deep = group(deep)
    assert list(faults(deep)) == ["/rules/0" * DEPTH]
    while deep is not ONE:  # or Python's own clean-up would recurse through it
        deep = deep["rules"].pop()
    large = group(*[rule("attributes.plan", "in", ["x" * 1_000] * 100)] * 4)
    assert len(json.dumps(large)) > BYTES
    assert "too large" in faults(large)[""]


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from([*OPERATORS, *FIELDS]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["combinator", "not", "rules", "id", "field", "operator", "value", "x"]), inner
        )
        | st.fixed_dictionaries({"combinator": st.sampled_from(["and", "or"]), "rules": st.lists(inner, max_size=3)})
        | st.fixed_dictionaries(
            {"field": st.sampled_from([*FIELDS]), "operator": st.sampled_from([*OPERATORS]), "value": inner}
        )
    ),
    max_leaves=12,
)


@settings(max_examples=500, deadline=None)
@given(document=json_values)
def test_any_json_is_understood_or_refused_and_what_is_understood_fits_the_schema(document: object) -> None:
    try:
        condition = segment.parse(document, FIELDS)
    except Invalid as error:
        assert error.faults
        return
    SCHEMA.validate(document)
    segment.compile(condition, FIELDS)
    assert segment.describe(condition, FIELDS)


@pytest.mark.parametrize(
    "document",
    [
        {},
        ONE,
        group(group()),
        group(ONE, combinator="xor"),
        group(ONE, muted=True),
        group(ONE | {"valueSource": "field"}),
        group(ONE, "or", ONE),
        group(rule("email", "like", "x")),
        group(rule("email", "=")),
        group(rule("email", "in", "x")),
        group(rule("email", "between", ["x"])),
        group(rule("email", "null", "x")),
        group(*[ONE] * (RULES + 1)),
        nested(DEPTH + 1),
    ],
)
def test_the_schema_refuses_what_the_parser_refuses_by_shape(document: object) -> None:
    faults(document)
    assert not SCHEMA.is_valid(document)


def test_the_schema_is_itself_valid_and_published_as_it_is() -> None:
    Draft202012Validator.check_schema(segment.json_schema())
    assert json.loads((DOCS / "segment.schema.json").read_text()) == segment.json_schema()


def test_the_manual_s_examples_work_and_it_names_every_operator() -> None:
    manual = (DOCS / "segments.md").read_text()
    examples = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", manual, re.DOTALL)]
    sentences = [segment.describe(segment.parse(example, FIELDS), FIELDS) for example in examples]
    assert len(sentences) == 4
    assert f"*{sentences[0]}*" in manual
    assert [name for name in OPERATORS if f"`{name}`" not in manual] == []


def test_every_operator_suits_some_field_and_every_denial_denies_an_operator() -> None:
    assert {name for known in FIELDS.values() for name in suiting(known)} == set(OPERATORS)
    for operator in OPERATORS.values():
        if operator.denies is not None:
            positive = OPERATORS[operator.denies]
            assert (positive.denies, positive.takes, positive.types) == (None, operator.takes, operator.types)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (group(), "Every lead"),
        (group(ONE), 'Plan is "pro"'),
        (group(ONE, **{"not": True}), 'not (Plan is "pro")'),
        (
            group(ONE, {"combinator": "or", "rules": [rule("attributes.age", ">=", 30), rule("time_zone", "null")]}),
            'Plan is "pro" and (Age is at least 30 or Time zone is not known)',
        ),
        (group(rule("attributes.plan", "in", list("abcde"))), 'Plan is one of "a", "b", "c" and 2 more'),
        (group(rule("status", "=", "active")), "Status is active"),
        (group(rule("attributes.vip", "=", False)), "Vip is no"),
        (group(rule("attributes.age", "between", [1, 2.5])), "Age is between 1 and 2.5"),
        (group(rule("created_at", ">=", "30 days ago")), "Created is on or after 30 days ago"),
        (group(rule("created_at", "<", "2026-05-31T18:00Z")), "Created is before 2026-05-31 18:00 UTC"),
        (group(rule("attributes.born", "=", "today")), "Born is today"),
        (group(rule("attributes.born", "<=", "in 1 year")), "Born is on or before 1 year from now"),
        (group(rule("attributes.born", ">", "90 minutes ago")), "Born is after 90 minutes ago"),
        (group(rule("attributes.born", ">", "in 2 hours")), "Born is after 2 hours from now"),
        (group(rule("attributes.born", "<", "18 months ago")), "Born is before 18 months ago"),
        (group(rule("attributes.born", "<", "now")), "Born is before now"),
    ],
)
def test_a_condition_reads_as_a_sentence(document: object, said: str) -> None:
    assert segment.describe(segment.parse(document, FIELDS), FIELDS) == said


def test_a_sentence_stays_short() -> None:
    assert len(segment.describe(segment.parse(group(*[ONE] * RULES), FIELDS), FIELDS)) == 300


def test_a_stored_condition_that_lost_its_attribute_says_so_in_lists() -> None:
    assert segment.summary(group(rule("attributes.gone", "null")), FIELDS).startswith(
        "Needs mending: There is no field"
    )
