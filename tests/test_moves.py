"""States: the code's tables, the database's checks and the docs' diagrams are the same."""

from __future__ import annotations

import re

import pytest
from sqlalchemy import text

from app.runtime import Runtime
from tests.diagrams import BLOCKS, COMMAND, DOCS, Block
from tests.moves import TABLES, Moves, watch_moves


@pytest.mark.parametrize("noun", TABLES)
def test_the_database_knows_exactly_the_states_of_the_table_of_moves(runtime: Runtime, noun: str) -> None:
    with runtime.db.begin() as conn:
        checks = conn.execute(
            text(
                "SELECT pg_get_constraintdef(oid) FROM pg_constraint"
                " WHERE conrelid = CAST(:noun AS regclass) AND contype = 'c' AND conkey = ARRAY["
                "(SELECT attnum FROM pg_attribute WHERE attrelid = CAST(:noun AS regclass) AND attname = 'state')]"
            ),
            {"noun": noun},
        ).scalars()
        [check] = list(checks)
    assert set(re.findall(r"'(\w+)'", check)) == set(TABLES[noun])


@pytest.mark.parametrize("moves", TABLES.values(), ids=list(TABLES))
def test_every_state_can_be_reached_and_every_move_says_why(moves: Moves) -> None:
    targets = {target for each in moves.values() for target in each}
    assert targets <= set(moves)
    assert set(moves) - targets <= {"draft", "ready", "handed"}
    assert all(why for each in moves.values() for why in each.values())


def test_a_move_that_no_table_has_is_noticed(runtime: Runtime) -> None:
    with runtime.db.begin() as conn:
        watch_moves(conn)
        conn.execute(
            text(
                "INSERT INTO handoff (range_id, campaign_id, pool_id, run, key, lead_ids)"
                " VALUES (1, 1, 1, 1, gen_random_uuid(), '{1}')"
            )
        )
        conn.execute(text("UPDATE handoff SET state = 'settled', outcomes = 's'"))
    with pytest.raises(Exception, match="a handoff went from settled to handed"), runtime.db.begin() as conn:
        conn.execute(text("UPDATE handoff SET state = 'handed', outcomes = NULL"))


@pytest.mark.parametrize("block", BLOCKS, ids=[each.name for each in BLOCKS])
def test_the_docs_show_what_the_code_goes_by(block: Block) -> None:
    assert block.whole in (DOCS / block.page).read_text(), f"write it anew: {COMMAND}"
