"""No template takes a second or 200 MB, whatever is in it and in its leads, and none reaches anything of Python's."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.hostile_templates import HOSTILE

RENDERED = {
    "a loop over a field",
    "doubling in a loop",
    "a chain of appends",
    "tripling letters",
    "powers",
    "a number of a thousand digits",
    "division by nothing",
    "many dates",
    "the year 99999",
    "rounding to a billion places",
    "truncating to a billion",
    "a condition without end",
    "comments full of openings",
    "raw full of openings",
    "many merge fields",
    "many different merge fields",
    "many blocks",
    "tags without end",
    "deep tags",
    "deep tables",
    "deep lists",
    "huge margins",
    "one tag with everything",
    "an attribute without end",
    "comments of html",
    "entities",
    "addresses from fields",
    "addresses in blocks",
    "markers of ours",
}


@pytest.fixture(scope="module")
def tried() -> dict[str, dict[str, object]]:
    """What came of each, tried in a process that may not take more than 200 MB."""
    ran = subprocess.run(
        [sys.executable, "-m", "tests.hostile_templates"], capture_output=True, text=True, timeout=100, check=False
    )
    answers = [json.loads(line) for line in ran.stdout.splitlines()]
    assert ran.returncode == 0, f"after {answers[-1:]}: {ran.stderr[-2000:]}"
    return {str(answer["name"]): answer for answer in answers}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_template_is_refused_or_rendered_within_a_second(
    name: str, tried: dict[str, dict[str, object]]
) -> None:
    answer = tried[name]
    assert float(str(answer["seconds"])) < 1, answer
    assert int(str(answer["largest"])) <= 2_000_000
    outcomes = answer["outcomes"]
    assert isinstance(outcomes, list)
    if name in RENDERED:
        assert outcomes[0] == "rendered", outcomes
        assert all(outcome == "rendered" or outcome.startswith("unrenderable: ") for outcome in outcomes)
    else:
        assert len(outcomes) == 1
        assert outcomes[0].startswith("invalid: html: ")
