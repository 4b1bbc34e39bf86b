"""Every change of a state that the database sees is held against the tables of moves in app/models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sqlalchemy import Connection, text

from app.models import campaign, handoff, outbox

Moves = Mapping[str, Mapping[str, str]]

TABLES: Final[Mapping[str, Moves]] = {
    "campaign": campaign.MOVES,
    "outbox": outbox.MOVES,
    "handoff": handoff.MOVES,
}

WATCH = """
CREATE TABLE legal_move (noun text, came_from text, went_to text, seen integer NOT NULL DEFAULT 0);
CREATE FUNCTION watch_move() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE legal_move SET seen = seen + 1
     WHERE noun = TG_TABLE_NAME AND came_from = OLD.state AND went_to = NEW.state;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'a % went from % to %', TG_TABLE_NAME, OLD.state, NEW.state;
    END IF;
    RETURN NULL;
END $$;
CREATE FUNCTION watch_fence() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the fence of range % went from % to %', OLD.id, OLD.fence, NEW.fence;
END $$;
CREATE TRIGGER watch_fence AFTER UPDATE ON outbox FOR EACH ROW
    WHEN (NEW.fence < OLD.fence OR (NEW.state = 'leased' AND OLD.state <> 'leased' AND NEW.fence = OLD.fence))
    EXECUTE FUNCTION watch_fence();
"""
TRIGGER = """
CREATE TRIGGER watch_{noun} AFTER UPDATE ON {noun} FOR EACH ROW WHEN (OLD.state <> NEW.state)
    EXECUTE FUNCTION watch_move()
"""


def watch_moves(conn: Connection) -> None:
    """From now on a move that no table has is an error, as is a fence that does not grow."""
    conn.execute(text(WATCH))
    for noun, moves in TABLES.items():
        conn.execute(text(TRIGGER.format(noun=noun)))
        for came_from, targets in moves.items():
            for went_to in targets:
                values = {"noun": noun, "came_from": came_from, "went_to": went_to}
                conn.execute(text("INSERT INTO legal_move VALUES (:noun, :came_from, :went_to)"), values)


def moves_seen(conn: Connection) -> set[tuple[str, str, str]]:
    """(noun, came from, went to) of every move that has happened."""
    rows = conn.execute(text("SELECT noun, came_from, went_to FROM legal_move WHERE seen > 0"))
    return {(row.noun, row.came_from, row.went_to) for row in rows}
