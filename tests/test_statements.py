"""The house rules that a reader relies on: every named statement is used, every used name exists, words stay ours."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from app.db import MODELS, Statements

ROOT = Path(__file__).parent.parent
NOUNS = sorted(path.stem for path in MODELS.glob("*.sql"))
USED = re.compile(r"\bSQL\.(\w+)")


@pytest.mark.parametrize("noun", NOUNS)
def test_every_statement_is_used_and_every_used_name_exists(noun: str) -> None:
    source = (MODELS / f"{noun}.py").read_text()
    assert f'Statements("{noun}")' in source
    assert set(USED.findall(source)) - {"by_name", "noun"} == set(Statements(noun).by_name)


def test_statements_are_run_by_their_own_noun_only() -> None:
    sources = {path: path.read_text() for path in (ROOT / "app").rglob("*.py")}
    holders = {path for path, source in sources.items() if "Statements(" in source}
    own = {MODELS / f"{noun}.py" for noun in NOUNS}
    assert holders == own


def test_a_wrong_name_is_an_error_not_a_silence() -> None:
    with pytest.raises(AttributeError, match="no statement named nonsense"):
        _ = Statements(NOUNS[0]).nonsense


def test_imports_run_one_way() -> None:
    linted = subprocess.run([ROOT / ".venv/bin/lint-imports"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert linted.returncode == 0, linted.stdout
