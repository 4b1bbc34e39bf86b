"""Promises of the segments' pages: what is typed is counted, what is wrong is pointed at."""

from __future__ import annotations

import json

import pytest

from app.models import lead
from app.runtime import Runtime
from tests import world
from tests.web.conftest import People, Visit
from web.json_lines import lines_of

FRENCH = {"combinator": "and", "rules": [{"field": "attributes.country", "operator": "=", "value": "France"}]}


@pytest.fixture
def three_leads(runtime: Runtime, people: People) -> None:
    countries = {"ada": "France", "bo": "France", "cy": "Japan"}
    with runtime.db.begin() as conn:
        domain = lead.number_domains(conn, ["example.org"])["example.org"]
        lead.register_attributes(conn, people.ours, {"country": "text", "age": "number", "signed_up": "date"})
        lines = (
            f"{name}@example.org\t{domain}\t\\N\t{json.dumps({'country': country})}\n"
            for name, country in countries.items()
        )
        world.merge(conn, people.ours, lines)


def preview(visit: Visit, condition: object) -> str:
    text = condition if isinstance(condition, str) else json.dumps(condition, indent=2)
    response = visit.post("/segments/preview", {"condition": text})
    assert response.status_code == 200
    return response.text


@pytest.mark.usefixtures("three_leads")
def test_a_condition_is_counted_and_sampled_while_it_is_typed(ann: Visit) -> None:
    shown = preview(ann, FRENCH)
    assert "<strong>2</strong>" in shown
    assert "ada<wbr>@example.org" in shown
    assert "cy<wbr>@example.org" not in shown


@pytest.mark.usefixtures("three_leads")
def test_nobody_counts_the_leads_of_another_organisation(eve: Visit) -> None:
    assert "<strong>0</strong>" in preview(eve, {"combinator": "and", "rules": []})


@pytest.mark.usefixtures("three_leads")
def test_a_fault_is_shown_with_its_pointer_and_its_line(ann: Visit) -> None:
    rules = [*FRENCH["rules"], {"field": "attributes.age", "operator": "=", "value": "old"}]
    shown = preview(ann, {"combinator": "and", "rules": rules})
    assert "/rules/1/value" in shown
    assert "Line 12" in shown


@pytest.mark.parametrize("condition", ["", "{", "[]", "null", '{"combinator":"and","rules":' + "[" * 1000])
def test_what_is_no_condition_is_said_to_be_none(ann: Visit, condition: str) -> None:
    assert "This needs mending" in preview(ann, condition)


@pytest.mark.usefixtures("three_leads")
def test_a_segment_is_saved_shown_changed_and_deleted(ann: Visit) -> None:
    saved = ann.post("/segments/new", {"name": "The French", "condition": json.dumps(FRENCH)})
    assert saved.status_code == 302
    page = ann.get("/segments").text
    assert "The French" in page
    address = page.split('class="strong" href="')[1].split('"')[0]
    assert "attributes.country" in ann.get(address).text
    ann.post(address, {"name": "From France", "condition": json.dumps(FRENCH)})
    assert "From France" in ann.get("/segments").text
    ann.post(f"{address}/delete")
    assert "From France" not in ann.get(address).text


def test_a_broken_segment_is_not_saved_and_what_was_typed_stays(ann: Visit) -> None:
    response = ann.post("/segments/new", {"name": "Broken", "condition": '{"combinator": "xor"}'})
    assert response.status_code == 422
    assert "xor" in response.text
    assert "Broken" not in ann.get("/segments").text


@pytest.mark.usefixtures("three_leads")
def test_every_example_is_a_condition_that_can_be_counted(ann: Visit) -> None:
    import html

    page = ann.get("/segments/new").text
    examples = [html.unescape(part.split('"')[0]) for part in page.split('data-text="')[1:]]
    assert len(examples) >= 6
    for example in examples:
        assert "mending" not in preview(ann, example)


def test_the_schema_is_published(ann: Visit) -> None:
    assert ann.get("/segments/schema.json").get_json()["$schema"].startswith("https://json-schema.org/")


@pytest.mark.parametrize(
    "text, pointer, line",
    [
        ('{\n"a": [\n1,\n{"b": "x"}\n]}', "/a/1/b", 4),
        ('{"a/b": 1,\n"c~d": 2}', "/c~0d", 2),
        ('{"a/b": 1}', "/a~1b", 1),
        ('{"a": "} \\" [",\n "b": null}', "/b", 2),
        ("[[],\n[],\n[7]]", "/2/0", 3),
    ],
)
def test_a_pointer_leads_to_its_line(text: str, pointer: str, line: int) -> None:
    assert lines_of(text)[pointer] == line


@pytest.mark.parametrize("text", ["", "]", "}{", '{"a', "{]}", ",:", '{"\\x": 1}', "[" * 100_000])
def test_no_text_breaks_the_search_for_lines(text: str) -> None:
    lines_of(text)
