"""The mutations still stand: what each takes away is there, its tests exist, and the docs list it."""

from __future__ import annotations

import ast
from functools import cache
from typing import Final

import pytest

from tests.diagrams import COMMAND, DOCS
from tests.mutations import MUTATIONS, Mutation

ROOT: Final = DOCS.parent
NAMES: Final = [each.name for each in MUTATIONS]


@cache
def names_in(file: str) -> set[str]:
    tree = ast.parse((ROOT / file).read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


@pytest.mark.parametrize("mutation", MUTATIONS, ids=NAMES)
def test_what_a_mutation_takes_away_stands_there_exactly_once(mutation: Mutation) -> None:
    source = (ROOT / mutation.file).read_text()
    assert [source.count(old) for old, _ in mutation.swaps] == [1] * len(mutation.swaps)
    mutated = mutation.apply(source)
    assert mutated != source
    if mutation.file.endswith(".py"):
        ast.parse(mutated)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=NAMES)
def test_the_tests_that_catch_a_mutation_exist(mutation: Mutation) -> None:
    assert mutation.tests
    for node in mutation.tests:
        file, _, name = node.partition("::")
        assert name.partition("[")[0] in names_in(file), node


def test_the_docs_list_every_mutation_with_its_defence_and_its_tests() -> None:
    page = (DOCS / "reliability.md").read_text()
    missing = [each.name for each in MUTATIONS if each.line not in page]
    assert not missing, f"write the list anew: {COMMAND}"
    assert len(set(NAMES)) == len(NAMES)
