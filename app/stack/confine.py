"""How a server is started so that it never runs as root and never outlives the process that started it.

PostgreSQL refuses to run as root. A root caller gets a user namespace in which root carries an ordinary uid, so that
every file stays root's; where namespaces are refused, the server drops to an unprivileged uid that owns the data.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from app.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Confinement:
    """`prefix` goes before a server's command; `owner` is the uid, seen from outside, that its files must have."""

    name: str
    prefix: tuple[str, ...]
    owner: int


def bound_to_us(signal: str) -> tuple[str, ...]:
    """The prefix of a command that gets `signal` ("INT", "TERM") when the thread that started it ends, even by kill -9.

    Start it from a thread that lives as long as the process: prctl(2)'s PR_SET_PDEATHSIG watches the thread.
    """
    return (_tool("setpriv"), "--pdeathsig", signal, "--")


@cache
def choose() -> Confinement:
    """The first way that works here; raises ConfigError when root can neither be mapped nor dropped."""
    if os.geteuid() != 0:
        return Confinement("ordinary user", (), os.geteuid())
    for way in (mapped(), dropped()):
        if _works(way):
            return way
    raise ConfigError(
        "PostgreSQL does not run as root, and this machine allows neither a user namespace nor another uid."
        " Run Millrace as an ordinary user, or set DATABASE_URL to a PostgreSQL server with TimescaleDB."
    )


def mapped() -> Confinement:
    """Root outside is an ordinary uid inside: nothing is chowned."""
    person = _ordinary()
    prefix = (_tool("unshare"), "--user", f"--map-user={person.pw_uid}", f"--map-group={person.pw_gid}", "--")
    return Confinement("user namespace", prefix, os.geteuid())


def dropped() -> Confinement:
    """An unprivileged uid that keeps one capability: to walk through folders that only root may enter."""
    person = _ordinary()
    ids = (f"--reuid={person.pw_uid}", f"--regid={person.pw_gid}", "--clear-groups")
    walk = ("--inh-caps=+dac_override", "--ambient-caps=+dac_override")
    return Confinement("unprivileged uid", (_tool("setpriv"), *ids, *walk, "--"), person.pw_uid)


def may_own(uid: int) -> bool:
    """Whether a folder of `uid` is ours: made by us, or given to the user that we drop to."""
    return uid == os.geteuid() or (os.geteuid() == 0 and uid == _ordinary().pw_uid)


def give(folder: Path, owner: int) -> None:
    """Makes `folder` and all in it `owner`'s, when it is not already (another way may have been used before)."""
    if folder.lstat().st_uid == owner:
        return
    for path in (*folder.rglob("*"), folder):
        os.chown(path, owner, -1, follow_symlinks=False)


def _ordinary() -> pwd.struct_passwd:
    # initdb looks its uid up by name, so it must be one that the machine knows.
    try:
        return pwd.getpwnam("nobody")
    except KeyError:
        raise ConfigError("This machine has no user `nobody`: run Millrace as an ordinary user.") from None


def _works(way: Confinement) -> bool:
    done = subprocess.run([*way.prefix, "id", "-u"], capture_output=True, text=True, check=False)
    return done.returncode == 0 and done.stdout.strip() not in ("", "0")


def _tool(name: str) -> str:
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/bin:/bin:/usr/sbin:/sbin")
    if found is None:
        raise ConfigError(
            f"The program `{name}` (package util-linux) is missing: the embedded servers need it."
            " Install it, or set DATABASE_URL and REDIS_URL to servers of your own."
        )
    return found
