"""`millrace up`: everything on this machine: servers, schema, first user, demo, and the Procfile's processes."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import sys
import threading
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import click
import redis

from app import config, schema, stack
from app.errors import ConfigError, Unavailable
from cli.process import leave_environment
from cli.supervisor import Supervisor, quoted, read_procfile, with_our_programs

CHECKOUT = Path(__file__).parent.parent
SINK_PORT = 9025
NAMES: dict[stack.Server, str] = {"postgres": "DATABASE_URL", "valkey": "REDIS_URL"}
# What other commands need to reach what runs here.
LEFT = ("DATABASE_URL", "REPORTS_DATABASE_URL", "REDIS_URL", "SECRET_KEY", "PROVIDER_URL", "BASE_URL", "PORT")
READY_WITHIN = 60.0  # seconds
# What becomes of a demo's emails, so that its reports have something to show.
DEMO_RATES = ("--bounce", "0.02", "--complain", "0.001", "--open", "0.3", "--click", "0.05")
SINK_SECRET = "MILLRACE_SINK_WEBHOOK_SECRET"  # noqa: S105 - the name of the variable


@dataclass(frozen=True, slots=True)
class Prepared:
    """How to log in, in a sentence, and the token of the address that the sink reports to; None: it does not."""

    login: str
    token: str | None


@click.command("up")
@click.option("--demo/--no-demo", default=True, show_default=True, help="Load generated leads and a draft campaign.")
def up(demo: bool) -> None:
    """Run everything here: embedded servers, web, worker, clock, and a sink that takes the emails.

    PORT says where the pages are; DATABASE_URL and REDIS_URL name servers of your own instead of the embedded ones;
    MILLRACE_HOME is the folder of all data.
    """
    # Also where the caller ignores them, as a shell does for what it puts in the background.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    try:
        code = _up({name: value for name, value in os.environ.items() if value}, demo)
    except KeyboardInterrupt:
        code = 0
    _say("stopped")
    sys.exit(code)


def _up(environ: Mapping[str, str], demo: bool) -> int:
    home = config.home(environ)
    _require_free(_port(environ))
    with _servers(environ, home) as servers:
        environment = with_our_programs(_filled({**environ, **servers}, home))
        settings = config.read(environment)
        _say("bringing the schema up to date")
        schema.migrate(settings.database_url)
        _require_redis(settings.redis_url)
        prepared = _first_steps(settings, demo, environment[SINK_SECRET])
        leave_environment(home, {name: environment[name] for name in LEFT if name in environment})
        return _run(environment, settings, prepared)


@contextmanager
def _servers(environ: Mapping[str, str], home: Path) -> Iterator[dict[str, str]]:
    """DATABASE_URL and REDIS_URL of the embedded servers that are needed; they stop at the end."""
    needed = tuple(server for server, name in NAMES.items() if name not in environ)
    if not needed:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        yield {}
        return
    _say(f"starting the embedded servers ({' and '.join(needed)}), data in {home}")
    with stack.start(home, servers=needed) as servers:
        if "postgres" in needed:
            _say(f"TimescaleDB {servers.postgres.extension.version}, {servers.edition} edition")
        yield {NAMES[server]: getattr(servers, server).url() for server in needed}
        _say("stopping the embedded servers")


def _filled(environ: Mapping[str, str], home: Path) -> dict[str, str]:
    """What `up` chooses where the operator has not."""
    port = _port(environ)
    sink = _sink_port(home)
    defaults = {
        "MILLRACE_HOME": str(home),
        "PORT": str(port),
        "BIND": "127.0.0.1",
        "BASE_URL": f"http://127.0.0.1:{port}",
        "SECRET_KEY": _kept(home / "secret-key", lambda: secrets.token_urlsafe(48)),
        SINK_SECRET: _kept(
            home / "sink-webhook-secret", lambda: f"whsec_{b64encode(secrets.token_bytes(32)).decode()}"
        ),
        "PROVIDER_URL": f"sink+http://127.0.0.1:{sink}",
        "MILLRACE_SINK_PORT": str(sink),
    }
    return {**defaults, **environ}


def _first_steps(settings: config.Settings, demo: bool, sink_secret: str) -> Prepared:
    """Makes a first user and the demo where there are none."""
    from app.flows import first_steps  # with all that a campaign needs: not before the servers run
    from cli.process import open_runtime

    note = settings.home / "first-login"
    runtime = open_runtime(settings, name="millrace up")
    try:
        user = first_steps.ensure_first_user(runtime)
        if user.password is not None:
            note.touch(mode=0o600)
            note.write_text(f"{user.email}\n{user.password}\n")
        if demo and settings.provider_url:
            first_steps.ensure_demo(runtime, settings.provider_url, say=_say)
        token = first_steps.connect_sink(runtime, sink_secret)
    finally:
        runtime.close()
    if user.password is not None:
        return Prepared(f"log in as {user.email} with the password {user.password} (also in {note})", token)
    where = f"; the first password is in {note}" if note.exists() else ""
    return Prepared(f"log in as {user.email}{where}", token)


def _run(environment: Mapping[str, str], settings: config.Settings, prepared: Prepared) -> int:
    port = environment["MILLRACE_SINK_PORT"]
    sink = quoted([sys.executable, "-m", "cli", "sink", "--port", port, *_reporting(settings, prepared)])
    commands = {**read_procfile(CHECKOUT / "Procfile"), "sink": sink}
    supervisor = Supervisor(commands, environment, CHECKOUT, last=frozenset({"sink"}))
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, supervisor.ask_to_stop)
    lines = [
        f"Millrace is at http://127.0.0.1:{settings.port}/",
        prepared.login,
        f"the sink, which takes the demo's emails, tells what it got at http://127.0.0.1:{port}/stats",
        "Ctrl-C stops everything; the data stays",
    ]
    try:
        supervisor.start()
        threading.Thread(target=_announce, args=(supervisor, settings.port, lines), daemon=True).start()
        return supervisor.run()
    finally:
        supervisor.stop()


def _reporting(settings: config.Settings, prepared: Prepared) -> list[str]:
    """The sink's options that make it report on the demo's emails: to this machine, wherever the pages are seen."""
    if prepared.token is None:
        return []
    address = f"http://127.0.0.1:{settings.port}/webhooks/{prepared.token}"
    return ["--webhook", address, "--webhook-delay", "1", *DEMO_RATES]


def _announce(supervisor: Supervisor, port: int, lines: list[str]) -> None:
    """Says where to look once the pages answer."""
    deadline = time.monotonic() + READY_WITHIN
    while not supervisor.stopping and time.monotonic() < deadline:
        if _answers(port):
            for line in lines:
                supervisor.say("up", line)
            return
        time.sleep(0.2)
    if not supervisor.stopping:
        supervisor.say("up", f"the web process has not answered for {READY_WITHIN:.0f} s: see its lines above")


def _answers(port: int) -> bool:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(f"http://127.0.0.1:{port}/healthz", timeout=2):
            return True
    except (urllib.error.URLError, OSError):
        return False


def _port(environ: Mapping[str, str]) -> int:
    raw = environ.get("PORT", "8000")
    if not raw.isdigit() or not 0 < int(raw) < 65536:
        raise ConfigError(f"PORT must be a number from 1 to 65535, not {raw!r}.")
    return int(raw)


def _require_free(port: int) -> None:
    try:
        _bind(port)
    except PermissionError:
        raise ConfigError(f"This user may not listen on port {port}: choose one above 1023, like PORT=8000.") from None
    except OSError:
        raise ConfigError(f"Port {port} is taken by another program: choose another, like PORT={port + 1}.") from None


def _require_redis(url: str) -> None:
    try:
        with redis.Redis.from_url(url, socket_connect_timeout=5, socket_timeout=5) as client:
            client.ping()
    except (redis.RedisError, ValueError) as error:
        way_out = "Mend REDIS_URL, or unset it to use the embedded server."
        raise Unavailable(f"Redis cannot be reached: {error}. {way_out}") from error


def _sink_port(home: Path) -> int:
    """The same from start to start, while it is free: the demo's pool has it in its address."""
    note = home / "sink-port"
    for port in (int(note.read_text()) if note.exists() else SINK_PORT, 0):
        try:
            chosen = _bind(port)
        except OSError:
            continue
        note.write_text(str(chosen))
        return chosen
    raise Unavailable("No port of this machine is free.")


def _bind(port: int) -> int:
    with socket.create_server(("127.0.0.1", port)) as probe:
        chosen: int = probe.getsockname()[1]
        return chosen


def _kept(path: Path, make: Callable[[], str]) -> str:
    """A secret of this installation, made once."""
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(make())
    return path.read_text().strip()


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _say(line: str) -> None:
    click.echo(f"millrace: {line}")
