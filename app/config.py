"""Settings: frozen, typed, read once from an environment mapping."""

from __future__ import annotations

import re
from binascii import a2b_base64
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from app.errors import ConfigError

MOST: Final = 10_000_000.0  # no number here means anything beyond
MOST_DAYS: Final = 400  # that posts are kept, by command too
EVERYWHERE: Final = "*"  # among hosts: all of them
LOG_LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


@dataclass(frozen=True, slots=True)
class Settings:
    """What an operator may choose. Durations are in seconds."""

    database_url: str
    redis_url: str
    secret_key: str
    reports_database_url: str
    base_url: str = "http://127.0.0.1:8000"
    home: Path = Path.home() / ".millrace"
    port: int = 8000
    provider_url: str | None = None
    provider_sender: str | None = None
    private_providers: frozenset[str] = frozenset()  # hosts that users may name though they are at no public address
    range_size: int = 1000
    lease: float = 60.0
    call_deadline: float = 18.0  # below a third of the lease, so that a call ends before its range is taken away
    look_every: float = 3.0
    worker_threads: int = 4
    prepare: bool = True  # statements on the database's sessions: not behind a pooler that changes these by transaction
    worker_nice: int = 10  # how far a worker stands back (nice) behind the web process on its machine
    calls: int = 128  # four pages of twenty calls, and the looking thread's, all waiting at once
    trusted_proxies: int = 0  # how many reverse proxies stand in front of the web and tell the visitor's address
    log_level: str = "INFO"
    alert_smtp_url: str | None = None  # none: alerts are not mailed
    alert_from: str | None = None
    alert_webhook_url: str | None = None  # none: alerts are not posted
    alert_webhook_secret: str | None = None
    webhook_days: int = 3  # that a provider's posts are kept after they were read, where the database does not say

    def __repr__(self) -> str:  # never the secrets, wherever it is printed
        return f"Settings(base_url={self.base_url!r}, home={str(self.home)!r})"


def read(environ: Mapping[str, str]) -> Settings:
    """Settings from an environment mapping; raises ConfigError naming the variable and the way out."""
    database_url = _required(environ, "DATABASE_URL", "where PostgreSQL is; `millrace up` brings its own")
    lease = _number(environ, "MILLRACE_LEASE", 60.0, least=3.0)
    deadline = _number(environ, "MILLRACE_CALL_DEADLINE", lease * 0.3, least=0.1)
    if deadline > lease / 3:
        raise ConfigError("MILLRACE_CALL_DEADLINE must be at most a third of MILLRACE_LEASE.")
    return Settings(
        database_url=_postgres(database_url, "DATABASE_URL"),
        reports_database_url=_postgres(environ.get("REPORTS_DATABASE_URL") or database_url, "REPORTS_DATABASE_URL"),
        redis_url=_redis(environ),
        secret_key=_secret(environ),
        base_url=_base_url(environ),
        home=home(environ),
        port=int(_number(environ, "PORT", 8000, least=1)),
        provider_url=environ.get("PROVIDER_URL") or None,
        provider_sender=environ.get("PROVIDER_SENDER") or None,
        private_providers=_hosts(environ.get("MILLRACE_PRIVATE_PROVIDERS", "")),
        range_size=int(_number(environ, "MILLRACE_RANGE_SIZE", 1000, least=1)),
        lease=lease,
        call_deadline=deadline,
        look_every=_number(environ, "MILLRACE_LOOK_EVERY", 3.0, least=0.1),
        worker_threads=int(_number(environ, "MILLRACE_WORKER_THREADS", 4, least=1)),
        prepare=_switch(environ, "MILLRACE_PREPARE", True),
        worker_nice=int(_number(environ, "MILLRACE_WORKER_NICE", 10, least=0, most=19)),
        calls=int(_number(environ, "MILLRACE_CALLS", 128, least=1)),
        trusted_proxies=int(_number(environ, "TRUSTED_PROXIES", 0, least=0)),
        log_level=_log_level(environ),
        webhook_days=int(_number(environ, "MILLRACE_WEBHOOK_DAYS", 3, least=1, most=MOST_DAYS)),
        **_alerts(environ),
    )


def home(environ: Mapping[str, str]) -> Path:
    """The folder of the embedded servers' data and of the generated key: MILLRACE_HOME, or ~/.millrace."""
    return Path(environ.get("MILLRACE_HOME") or Path.home() / ".millrace").expanduser().absolute()


def _hosts(written: str) -> frozenset[str]:
    """Names of hosts between commas; 1 is every host there is, 0 and nothing is none."""
    names = frozenset(each.strip().lower() for each in written.split(",") if each.strip())
    return frozenset({EVERYWHERE}) if names & {"1", EVERYWHERE} else names - {"0"}


def _alerts(environ: Mapping[str, str]) -> dict[str, str | None]:
    """Where alerts go; no message repeats a value, for they hold secrets."""
    smtp, sender = environ.get("ALERT_SMTP_URL", "").strip(), environ.get("ALERT_FROM", "").strip()
    webhook, secret = environ.get("ALERT_WEBHOOK_URL", "").strip(), environ.get("ALERT_WEBHOOK_SECRET", "").strip()
    if smtp and not _has_host(smtp, "smtp"):
        raise ConfigError("ALERT_SMTP_URL must look like smtp://user:password@host:587?tls=starttls.")
    if smtp and not re.fullmatch(r"[!-~]+@[A-Za-z0-9.-]+", sender):
        raise ConfigError("ALERT_FROM must be the plain address that alerts are mailed from: alerts@example.com.")
    if webhook and (not _has_host(webhook, "http", "https") or "@" in urlsplit(webhook).netloc):
        raise ConfigError("ALERT_WEBHOOK_URL must be an http:// or https:// address without user and password.")
    if webhook and not _is_webhook_secret(secret):
        raise ConfigError(
            "ALERT_WEBHOOK_SECRET must be set with ALERT_WEBHOOK_URL: whsec_ and 24 to 64 random bytes in base64. Make "
            "one with: echo whsec_$(openssl rand -base64 32)"
        )
    return {
        "alert_smtp_url": smtp or None,
        "alert_from": sender or None,
        "alert_webhook_url": webhook or None,
        "alert_webhook_secret": secret or None,
    }


def _has_host(url: str, *schemes: str) -> bool:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return False
    return parts.scheme in schemes and bool(parts.hostname) and re.fullmatch(r"[!-~]+", url) is not None


def _is_webhook_secret(value: str) -> bool:
    """Whether it is a secret by the Standard Webhooks specification: whsec_ and 24 to 64 bytes in base64."""
    if not value.startswith("whsec_"):
        return False
    try:
        return 24 <= len(a2b_base64(value.removeprefix("whsec_"), strict_mode=True)) <= 64
    except ValueError:
        return False


def _required(environ: Mapping[str, str], name: str, meaning: str) -> str:
    value = environ.get(name, "").strip()
    if not value:
        raise ConfigError(f"{name} is not set: it says {meaning}.")
    return value


def _postgres(url: str, name: str) -> str:
    if urlsplit(url).scheme not in ("postgres", "postgresql"):
        raise ConfigError(f"{name} must begin with postgres:// or postgresql://.")
    return url


def _secret(environ: Mapping[str, str]) -> str:
    value = _required(environ, "SECRET_KEY", "the key that signs links and encrypts credentials; any 32 random bytes")
    if len(value) < 32:
        raise ConfigError("SECRET_KEY is too short: it needs at least 32 characters.")
    return value


def _base_url(environ: Mapping[str, str]) -> str:
    url = environ.get("BASE_URL") or f"http://127.0.0.1:{environ.get('PORT') or 8000}"
    if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
        raise ConfigError("BASE_URL must be an http:// or https:// address: emails' links begin with it.")
    return url.rstrip("/")


def _number(environ: Mapping[str, str], name: str, default: float, *, least: float, most: float = MOST) -> float:
    raw = environ.get(name)
    if raw is None or not raw.strip():
        return default
    try:
        value = float(raw)
    except ValueError:
        raise ConfigError(f"{name} must be a number, not {raw!r}.") from None
    if not least <= value <= most:  # "nan" is neither
        raise ConfigError(f"{name} must be between {least:g} and {most:g}, not {raw}.")
    return value


def _switch(environ: Mapping[str, str], name: str, default: bool) -> bool:
    raw = (environ.get(name) or "").strip().lower()
    if raw not in ("", "on", "off"):
        raise ConfigError(f"{name} must be on or off, not {raw}.")
    return default if not raw else raw == "on"


def _redis(environ: Mapping[str, str]) -> str:
    url = _required(environ, "REDIS_URL", "where Redis or Valkey is; `millrace up` brings its own")
    parts = urlsplit(url)
    if parts.scheme not in ("redis", "rediss", "unix"):
        raise ConfigError("REDIS_URL must begin with redis://, rediss:// or unix://.")
    try:
        _ = parts.port
    except ValueError:
        raise ConfigError("REDIS_URL has a port that is no number.") from None
    return url


def _log_level(environ: Mapping[str, str]) -> str:
    level = environ.get("MILLRACE_LOG_LEVEL", "INFO").upper()
    if level not in LOG_LEVELS:
        raise ConfigError(f"MILLRACE_LOG_LEVEL must be one of {', '.join(LOG_LEVELS)}, not {level}.")
    return level
