"""`millrace campaign test` and `choose`: what an operator is told of a test, and may do about it."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner, Result

from app.config import Settings
from cli.main import main
from tests.test_variants import House, house, runtime

__all__ = ["house", "runtime"]


@pytest.fixture(autouse=True)
def environment(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", settings.database_url)
    monkeypatch.setenv("REDIS_URL", settings.redis_url)
    monkeypatch.setenv("SECRET_KEY", settings.secret_key)
    monkeypatch.setenv("MILLRACE_HOME", str(settings.home))


def millrace(*words: str) -> Result:
    return CliRunner().invoke(main, ["campaign", *words])


def test_an_operator_sees_a_test_and_chooses_once(house: House) -> None:
    house.launch()
    house.send()
    house.click(1, 5)
    number = str(house.campaign_id)
    told = millrace("test", number)
    assert told.exit_code == 0
    assert "B is ahead, but there is not enough to tell." in told.output
    [line] = [line for line in told.output.splitlines() if line.startswith("B  ")]
    assert "5 of" in line and line.endswith("Second")
    facts = json.loads(millrace("test", number, "--json").output)
    assert (facts["winner"], facts["certain"], [each["clicked"] for each in facts["variants"]]) == (
        None,
        False,
        [0, 5, 0],
    )
    assert facts["waiting"] == house.progress().open
    assert millrace("choose", number, "c").output == f"The rest of campaign {number} gets variant C.\n"
    assert (house.test().winner, house.test().by_hand, house.test().chosen_by) == (2, True, None)
    again = millrace("choose", number, "A")
    assert again.exit_code == 1 and "Variant C was chosen already." in again.output
    assert "(the rest gets it)" in millrace("test", number).output


def test_a_campaign_without_a_test_says_so(house: House) -> None:
    told = millrace("test", str(house.world.campaign_id))
    assert told.exit_code == 1 and "has one content, and no test" in told.output
    assert millrace("choose", str(house.world.campaign_id), "B").exit_code == 1
    assert millrace("choose", str(house.campaign_id), "F").exit_code == 2
