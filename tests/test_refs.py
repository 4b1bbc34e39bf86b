"""Provider ids come back as they were put away, whatever a provider calls its emails."""

from __future__ import annotations

from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.models.refs import pack, unpack

LINES = st.text(st.characters(exclude_categories=["C", "Z"]), max_size=40)
UUIDS = [str(uuid4()) for _ in range(50)]


@given(st.lists(LINES | st.uuids().map(str), min_size=1, max_size=60).filter(any))
def test_refs_come_back_as_they_were(refs: list[str]) -> None:
    assert unpack(pack(refs)) == refs


@pytest.mark.parametrize(
    "refs",
    [
        UUIDS,
        [uuid.upper() for uuid in UUIDS],
        [*UUIDS, ""],
        [uuid.replace("-", "_") for uuid in UUIDS],
        [uuid[:-1] + "g" for uuid in UUIDS],
        [uuid[:-1] + "é" for uuid in UUIDS],
        ["-" * 36] * 3,
        [UUIDS[0][:8] + UUIDS[0][9:] + "-", UUIDS[1]],
    ],
    ids=["uuids", "capitals", "one missing", "no dashes", "no digits", "no ASCII", "dashes", "shifted"],
)
def test_what_looks_like_uuids_comes_back_as_it_was(refs: list[str]) -> None:
    assert unpack(pack(refs)) == refs


def test_uuids_take_sixteen_bytes_each() -> None:
    packed = pack(UUIDS)
    assert packed is not None
    assert len(packed) == 1 + 16 * len(UUIDS)


def test_no_refs_are_nothing() -> None:
    assert pack([]) is None
    assert unpack(None) == []
