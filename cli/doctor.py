"""`millrace doctor`: looks at every part, and says what to do about what is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from uuid import UUID

import click
import redis

from app import schema
from app.config import Settings, read
from app.db import Database
from app.errors import ConfigError, MillraceError
from app.models import alert, clock_lease, process
from app.models.process import Process
from app.providers.alert_mail import AlertMail
from app.signing import Vault
from cli.process import environment

LATE = 300.0  # seconds that something waits for a worker where one keeps up
OLDEST = 160_000  # PostgreSQL 16: segments ask it whether a text is a date (pg_input_is_valid)


@dataclass(frozen=True, slots=True)
class Finding:
    """One part: how it is, and what to do where it is not well."""

    part: str
    well: bool
    found: str
    advice: str = ""


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(as_json: bool) -> None:
    """Check servers, migrations, processes, what waits for them, and secrets. Exit code 1 where something is wrong."""
    findings = list(examine())
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings]))
    else:
        for finding in findings:
            mark = click.style("ok  ", fg="green") if finding.well else click.style("BAD ", fg="red")
            click.echo(f"{mark} {finding.part:<12} {finding.found}")
            if finding.advice:
                click.echo(f"     {'':<12} {finding.advice}")
    raise SystemExit(0 if all(finding.well for finding in findings) else 1)


def examine() -> Iterator[Finding]:
    """Look at each part in turn; what cannot be looked at without an earlier one is left out."""
    try:
        settings = read(environment())
    except MillraceError as error:
        yield Finding("settings", False, str(error), "Set it, or start everything with `millrace up`.")
        return
    yield Finding("settings", True, f"links begin with {settings.base_url}")
    yield _redis(settings)
    database = Database(settings.database_url, size=1, timeout=5.0, name="millrace doctor", prepare=settings.prepare)
    try:
        yield from _database(settings, database)
    finally:
        database.close()
    if settings.alert_smtp_url:
        yield _alert_mail(settings)


def _redis(settings: Settings) -> Finding:
    try:
        with redis.Redis.from_url(settings.redis_url, socket_timeout=3, socket_connect_timeout=3) as client:
            info = client.info("server")
            version = info.get("valkey_version") or info.get("redis_version")
            policy = str(client.config_get("maxmemory-policy").get("maxmemory-policy", ""))
    except (redis.RedisError, ValueError) as error:
        advice = "Start it, or check REDIS_URL. Workers look for work by themselves meanwhile, every few seconds."
        return Finding("redis", False, f"cannot be reached: {error}", advice)
    if policy and policy != "noeviction":
        return Finding("redis", False, f"{version}, evicts keys ({policy})", "Set maxmemory-policy to noeviction.")
    return Finding("redis", True, str(version))


def _database(settings: Settings, database: Database) -> Iterator[Finding]:
    checks: tuple[Callable[[], Finding], ...] = (
        lambda: _server(database),
        lambda: _edition(database),
        lambda: _migrations(settings),
        lambda: _process(
            database, "clock", "Nothing is started, rescued or refreshed: start one with `millrace clock`."
        ),
        lambda: _process(database, "worker", "Nothing is sent or imported: start one with `dramatiq workers.main`."),
        lambda: _reading(database),
        lambda: _credentials(settings, database),
        lambda: _alerts(database),
    )
    for check in checks:
        try:
            finding = check()
        except MillraceError as error:
            yield Finding("database", False, str(error), "Start it, or check DATABASE_URL.")
            return
        yield finding
        if not finding.well and finding.part in ("database", "timescaledb", "migrations"):
            return


def _server(database: Database) -> Finding:
    with database.begin() as conn:
        version, number = process.server_version(conn)
    if number < OLDEST:
        return Finding("database", False, version, "Millrace needs PostgreSQL 16 or newer.")
    return Finding("database", True, version)


def _edition(database: Database) -> Finding:
    with database.begin() as conn:
        version, licence = process.timescaledb(conn)
    if version is None:
        return Finding(
            "timescaledb", False, "is not in this database", "Run `millrace migrate`, or see docs/operations.md."
        )
    edition = "Community edition" if licence == "timescale" else "Apache edition: the clock keeps the roll-ups"
    return Finding("timescaledb", True, f"{version}, {edition}")


def _migrations(settings: Settings) -> Finding:
    at, newest = schema.current(settings.database_url), schema.head()
    if at == newest:
        return Finding("migrations", True, f"at {at}, the newest")
    return Finding("migrations", False, f"at {at}, the newest is {newest}", "Run `millrace migrate`.")


def _process(database: Database, kind: str, advice: str) -> Finding:
    with database.begin() as conn:
        alive = process.alive(conn, kind)
        works = clock_lease.find_owner(conn) if kind == "clock" else None
    if not alive:
        return Finding(kind, False, "none was seen within 30 seconds", advice)
    return Finding(kind, True, f"{len(alive)} alive: " + ", ".join(_name(each, works) for each in alive[:5]))


def _name(each: Process, works: UUID | None) -> str:
    """Where it runs; of several clocks, which one works."""
    return f"{each.host}/{each.pid}{' (works)' if each.id == works else ''}"


def _reading(database: Database) -> Finding:
    with database.begin() as conn:
        waiting = process.find_unread(conn)
    late = [f"{what} wait for {seconds / 60:,.0f} minutes" for what, seconds in waiting.items() if seconds > LATE]
    if late:
        return Finding("reading", False, ", ".join(late), "Workers read these: start more of them, or see their log.")
    return Finding("reading", True, f"{', '.join(waiting)}: none waits for long")


def _credentials(settings: Settings, database: Database) -> Finding:
    with database.begin() as conn:
        sealed = process.find_sealed(conn)
    vault, lost = Vault(settings.secret_key), 0
    for each in sealed:
        try:
            vault.decrypt(each)
        except ConfigError:
            lost += 1
    if lost:
        advice = "They were encrypted under another SECRET_KEY: set that one again, or enter them anew."
        return Finding("credentials", False, f"{lost} of {len(sealed)} stored secrets cannot be read", advice)
    return Finding("credentials", True, f"{len(sealed)} stored, all of them can be read")


def _alerts(database: Database) -> Finding:
    """An open alert is about a campaign or a pool: no part of the house is unwell by it."""
    with database.begin() as conn:
        found = alert.find_standing(conn)
    if not found:
        return Finding("alerts", True, "none is open")
    most = " or more" if len(found) >= alert.MOST_OPEN else ""
    return Finding("alerts", True, f"{len(found)}{most} open", "List them with `millrace alerts`.")


def _alert_mail(settings: Settings) -> Finding:
    advice = "Check ALERT_SMTP_URL; alerts are shown on their page meanwhile, and mailed within a day."
    try:
        AlertMail(settings.alert_smtp_url or "", settings.alert_from or "", deadline=5.0).check()
    except MillraceError as error:
        return Finding("alert mail", False, str(error), advice)
    return Finding("alert mail", True, "the server of ALERT_SMTP_URL answers")
