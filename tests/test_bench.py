"""Benchmarks: each runs at a small size on a server of its own, and answers in the one shape that programs read."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import psycopg
import pytest

from app.models.limit import Limit
from bench import harness, old_design, pace, prefill
from bench.__main__ import BENCHES, main

SMALL = {
    "append": ["--rows", "3000", "--emails", "2000", "--days", "3"],
    "launch": ["--leads", "5000"],
    "send": ["--leads", "2000"],
    "import": ["--rows", "3000"],
    "report": ["--events", "3000"],
    "compose": ["--leads", "1000"],
    "segment": ["--leads", "2000"],
    "webhooks": ["--rows", "3000", "--events", "2000", "--days", "3", "--post", "100", "--beside", "200"],
    "clicks": ["--clicks", "2000", "--leads", "2000"],
    "pace": ["--seconds", "3", "--workers", "2", "--ramp", "3"],
    "plan": ["--emails", "2400", "--leads", "5000", "--days", "1", "--rival", "200", "--past", "200"],
    "schedule": ["--messages", "3000", "--due", "500"],
    "enqueue": ["--emails", "1500"],
    "api": ["--messages", "2000", "--leads", "1000", "--seconds", "2", "--rate", "10", "--web", "1"],
}


@pytest.mark.timeout(300)  # each starts servers that wait for the disk; "send" starts workers too
@pytest.mark.parametrize("name", SMALL)  # "faults" has a file of its own
def test_a_benchmark_answers_with_one_json_object_on_its_last_line(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([name, *SMALL[name], "--json"]) == 0
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(answer) == {"bench", "settings", "ours", "rivals", "reach"}
    assert answer["bench"] == name
    assert answer["rivals"]
    for figures in (answer["ours"], *answer["rivals"].values()):
        assert figures
        assert all(isinstance(figure, int | float) for figure in figures.values())
    for aim in answer["reach"].values():
        assert set(aim) == {"target", "got"}


def test_the_most_within_a_second_is_found_wherever_the_second_begins() -> None:
    assert pace.most_within([0.0, 0.6, 0.7, 1.1, 1.59, 2.7], 1.0) == 4
    assert pace.most_within([1.0, 2.0], 1.0) == 1
    assert pace.most_within([], 1.0) == 0


def test_it_is_told_for_how_long_a_second_had_too_much() -> None:
    times = [0.0, 0.5, 0.75, 3.0]  # three in the last second from 0.75 until the first is a second old
    assert pace.over(times, 1.0, 2) == pytest.approx(0.25)
    assert pace.over(times, 1.0, 3) == 0
    assert pace.over(times, 1.0, 1) == pytest.approx(1.0)  # from 0.5 to 1.5


def test_it_is_told_when_a_bucket_was_emptied() -> None:
    steady = [1.0, 1.1, 1.2, 2.5, 3.5, 4.5]  # a burst of three, then one a second
    assert pace.spent_at(steady, 1.0, 0.0, 4.0) == 1.2
    assert pace.spent_at(steady, 1.0, 2.0, 4.0) == 3.5
    assert pace.spent_at([], 1.0, 2.5, 4.5) == 2.5


def test_too_much_in_a_second_or_in_all_is_a_broken_promise() -> None:
    def broken(times: list[float], seconds: int) -> list[str]:
        bucket = pace.Bucket("all", Limit(per_second=2.0, burst=2), full=True, emails=times)
        return list(pace.find_broken([bucket], seconds))

    assert broken([0.0, 0.1, 0.2, 0.3, 1.5, 2.0], 2) == []
    (said,) = broken([0.0, 0.1, 0.2, 0.3, 0.4], 2)
    assert said == "all: for 0.600 s the last second had more than the 4 allowed."
    (said,) = broken([0.0, 0.1, 0.2, 0.3, 1.1, 1.2, 1.7], 2)
    assert said == "all: 7 emails in 2 s, where 6 are allowed."


def test_without_a_name_the_benchmarks_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    listed = capsys.readouterr().out
    assert all(f"  {name} " in listed for name in BENCHES)


def test_a_wrong_name_is_answered_with_the_list_and_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["apend"]) == 2
    shown = capsys.readouterr()
    assert "append" in shown.out
    assert "'apend'" in shown.err


def test_a_benchmark_leaves_nothing_behind() -> None:
    before = set(Path(tempfile.gettempdir()).glob("millrace-bench-*"))
    with harness.server("apache") as house:
        assert house.folder not in before
        assert house.settings["fsync"] == "on"
    assert not house.folder.exists()


def test_the_old_design_keeps_one_row_an_email_through_its_life(database_url: str) -> None:
    with psycopg.connect(database_url) as conn:
        old_design.create(conn, rows=500)
        emails = [old_design.Email(1, 1, lead, f"{lead}@example.com", "Hello") for lead in range(1, 51)]
        ids = old_design.insert(conn, emails, "queued")
        old_design.mark_sent(conn, ids, [f"ref-{lead}" for lead in range(1, 51)])
        old_design.mark_bounced(conn, "ref-7")
        rows = conn.execute("SELECT lead_id, status FROM email WHERE id = ANY(%s)", [ids]).fetchall()
        indexes = conn.execute("SELECT count(*) FROM pg_index WHERE indrelid = 'email'::regclass").fetchone()
    assert dict(rows) == {lead: "bounced" if lead == 7 else "sent" for lead in range(1, 51)}  # type: ignore[arg-type]
    assert indexes == (9,)  # eight, and the primary key's


def test_the_past_is_as_long_as_asked_for_on_both_sides(database_url: str) -> None:
    with psycopg.connect(database_url) as conn:
        tenant = prefill.create_tenant(conn)
        prefill.create_events(conn, tenant, 1000, days=10)
        old_design.create(conn, rows=1000, days=10)
        for table, time in (("event", "time"), ("email", "created_at")):
            found = conn.execute(f"SELECT count(*), now() - min({time}) > interval '9 days' FROM {table}".encode())
            assert found.fetchone() == (1000, True)


def test_leads_have_addresses_of_their_own_and_every_fifth_is_pro(database_url: str) -> None:
    with psycopg.connect(database_url) as conn:
        tenant = prefill.create_tenant(conn)
        prefill.create_leads(conn, tenant, 1000, stride=7)
        query = (
            "SELECT count(DISTINCT email), count(*) FILTER (WHERE attributes ->> 'plan' = 'pro'), max(id)"
            " FROM lead WHERE organisation_id = %s"
        )
        assert conn.execute(query, [tenant.organisation_id]).fetchone() == (1000, 200, 7000)


def test_the_log_of_a_block_counts_what_the_block_wrote(database_url: str) -> None:
    with psycopg.connect(database_url) as conn:
        conn.execute("CREATE TABLE written (body text)")
        conn.commit()
        with harness.Wal(database_url) as wal:
            conn.execute("INSERT INTO written SELECT repeat(chr(65 + n % 26), 1000) FROM generate_series(1, 100) AS n")
            conn.commit()
    assert 100_000 < wal.bytes < 400_000
    assert 0 <= wal.read_images() < wal.bytes
