"""Promises of alerts to operators: settings that cannot be are named without their secrets; the commands tell."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner, Result

from app.config import Settings, read
from app.errors import ConfigError
from app.models import alert
from app.models.alert import Kind
from app.runtime import Runtime
from cli.main import main
from tests import world
from tests.alert_readers import SECRET, Inbox
from tests.test_smtp import authority, secured

__all__ = ["authority"]
HOUSE = {"DATABASE_URL": "postgresql:///x", "REDIS_URL": "redis://127.0.0.1:1", "SECRET_KEY": "x" * 32}
WAYS = {
    "ALERT_SMTP_URL": "smtp://canary:canary@mail.example.com:587",
    "ALERT_FROM": "alerts@example.com",
    "ALERT_WEBHOOK_URL": "https://hooks.example.com/canary",
    "ALERT_WEBHOOK_SECRET": SECRET,
}


@pytest.fixture(autouse=True)
def environment(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", settings.database_url)
    monkeypatch.setenv("REDIS_URL", settings.redis_url)
    monkeypatch.setenv("SECRET_KEY", settings.secret_key)
    monkeypatch.setenv("MILLRACE_HOME", str(settings.home))


def millrace(*words: str) -> Result:
    return CliRunner().invoke(main, words)


def findings() -> dict[str, dict[str, object]]:
    return {each["part"]: each for each in json.loads(millrace("doctor", "--json").output)}


def test_the_ways_are_read_and_never_printed() -> None:
    settings = read(HOUSE | WAYS)
    assert settings.alert_smtp_url == WAYS["ALERT_SMTP_URL"]
    assert (settings.alert_from, settings.alert_webhook_url) == ("alerts@example.com", WAYS["ALERT_WEBHOOK_URL"])
    assert settings.alert_webhook_secret == SECRET
    assert "canary" not in repr(settings) and SECRET not in repr(settings)
    assert read(HOUSE).alert_smtp_url is None and read(HOUSE).alert_webhook_url is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ALERT_SMTP_URL", "http://canary@example.com"),
        ("ALERT_SMTP_URL", "smtp://"),
        ("ALERT_SMTP_URL", "smtp://canary:x@host:port"),
        ("ALERT_SMTP_URL", "smtp://canary host"),
        ("ALERT_FROM", ""),
        ("ALERT_FROM", "Canary <a@example.com>"),
        ("ALERT_FROM", "a@example.com\r\nBcc: b@example.com"),
        ("ALERT_WEBHOOK_URL", "ftp://canary"),
        ("ALERT_WEBHOOK_URL", "https://"),
        ("ALERT_WEBHOOK_URL", "https://canary:canary@example.com/"),
        ("ALERT_WEBHOOK_URL", "https://example.com/canary\r\nX: y"),
        ("ALERT_WEBHOOK_SECRET", ""),
        ("ALERT_WEBHOOK_SECRET", "canary"),
        ("ALERT_WEBHOOK_SECRET", "whsec_Y2FuYXJ5"),
        ("ALERT_WEBHOOK_SECRET", "whsec_canary!canary!canary!canary!canary!"),
    ],
)
def test_a_way_that_cannot_be_is_named_without_its_secret(name: str, value: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read(HOUSE | WAYS | {name: value})
    assert name in str(refused.value)
    assert "canary" not in str(refused.value).lower()


def test_open_alerts_are_listed(runtime: Runtime) -> None:
    assert "No alert is open." in millrace("alerts").output
    built = world.build(runtime.db, secret_key=runtime.settings.secret_key)
    with runtime.db.begin() as conn:
        alert.raise_alert(conn, Kind.POOL_DOWN, built.pool_id, "HTTP 503\n\x1b[31mred")
        alert.raise_alert(conn, Kind.POOL_DOWN, built.pool_id, "HTTP 503\n\x1b[31mred")
        alert.raise_alert(conn, Kind.UNKNOWN, built.campaign_id, "3 leads")
        alert.clear(conn, Kind.UNKNOWN, built.campaign_id)
    told = millrace("alerts")
    assert told.exit_code == 0
    assert f"The provider is down: pool {built.pool_id} Pool" in told.output
    assert "found 2 times" in told.output
    assert "3 leads" not in told.output
    assert "HTTP 503 [31mred" in told.output  # no escape that would steer a terminal
    (listed,) = json.loads(millrace("alerts", "--json").output)
    assert (listed["kind"], listed["times"], listed["pool"]["id"]) == ("pool_down", 2, built.pool_id)


def test_the_doctor_mentions_open_alerts(runtime: Runtime) -> None:
    built = world.build(runtime.db, secret_key=runtime.settings.secret_key)
    assert findings()["alerts"]["found"] == "none is open"
    with runtime.db.begin() as conn:
        alert.raise_alert(conn, Kind.POOL_DOWN, built.pool_id, "HTTP 503")
    assert (findings()["alerts"]["found"], findings()["alerts"]["well"]) == ("1 open", True)


def test_the_doctor_logs_in_at_the_mail_server(authority: object, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "alert mail" not in findings()
    inbox = Inbox()
    monkeypatch.setenv("ALERT_FROM", "alerts@example.com")
    with secured(inbox, authority) as url:  # type: ignore[arg-type]
        monkeypatch.setenv("ALERT_SMTP_URL", url)
        assert findings()["alert mail"]["well"] is True
        monkeypatch.setenv("ALERT_SMTP_URL", url.replace("p%40ss%2Fw%3Ard", "canary"))
        wrong = findings()["alert mail"]
    away = findings()["alert mail"]
    for finding in (wrong, away):
        assert finding["well"] is False and finding["advice"]
        assert "canary" not in str(finding)
    assert inbox.messages == []
