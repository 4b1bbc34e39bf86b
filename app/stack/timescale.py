"""Where TimescaleDB comes from: a Community build in a folder, or the Apache edition that Debian packages.

The wheel's PostgreSQL loads either from outside its own folders (PostgreSQL 18: extension_control_path).
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from app.errors import ConfigError

Edition = Literal["apache", "community"]
WAYS_OUT = (
    "Ways out: `docker compose up` brings a server that has it,"
    " or set DATABASE_URL to a PostgreSQL server with TimescaleDB."
)


@dataclass(frozen=True, slots=True)
class Extension:
    """A build of TimescaleDB: `folder` holds lib/ and share/extension/."""

    edition: Edition
    version: str
    folder: Path

    def settings(self) -> dict[str, str]:
        """What the server must be told to find and preload it."""
        return {
            "shared_preload_libraries": "timescaledb",
            "dynamic_library_path": f"{self.folder / 'lib'}:$libdir",
            "extension_control_path": f"{self.folder / 'share'}:$system",
        }


def cache_folder() -> Path:
    """Where downloads are kept: $XDG_CACHE_HOME/millrace, or ~/.cache/millrace."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "millrace"


def community() -> Extension | None:
    """The build that somebody made here: MILLRACE_TIMESCALEDB_DIR, or timescaledb-community in the cache folder."""
    named = os.environ.get("MILLRACE_TIMESCALEDB_DIR")
    folder = Path(named).expanduser().absolute() if named else cache_folder() / "timescaledb-community"
    found = read(folder)
    if found is None and named:
        raise ConfigError(
            f"MILLRACE_TIMESCALEDB_DIR names {folder}, which holds no TimescaleDB (lib/, share/extension/)."
        )
    return found if found is not None and found.edition == "community" else None


def apache() -> Extension:
    """Debian's build, from the cache folder or fetched into it; raises ConfigError with the ways out."""
    from app.stack import debian  # only a first start needs it

    folder = cache_folder() / "timescaledb-apache"
    found = read(folder) or read(debian.fetch(folder))
    if found is None:
        raise ConfigError(f"{folder} holds no TimescaleDB that can be read: delete it and start again. {WAYS_OUT}")
    return found


def choose(edition: Edition | None) -> Extension:
    """The named edition; None: Community where there is one, else Apache."""
    if edition == "apache":
        return apache()
    found = community()
    if found is None and edition == "community":
        raise ConfigError(
            f"A Community build of TimescaleDB is needed, and {cache_folder() / 'timescaledb-community'} holds none:"
            " set MILLRACE_TIMESCALEDB_DIR to one, or MILLRACE_HOME to another folder."
        )
    return found or apache()


def read(folder: Path) -> Extension | None:
    """What `folder` holds, or None. A Community build is known by its second library."""
    control = folder / "share" / "extension" / "timescaledb.control"
    if not control.is_file():
        return None
    version = re.search(r"^default_version\s*=\s*'([^']+)'", control.read_text(), re.MULTILINE)
    if version is None or not (folder / "lib" / f"timescaledb-{version[1]}.so").is_file():
        return None
    has_tsl = (folder / "lib" / f"timescaledb-tsl-{version[1]}.so").is_file()
    return Extension("community" if has_tsl else "apache", version[1], folder)
