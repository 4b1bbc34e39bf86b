"""The browser of the browser tests: this machine's Chromium, else Debian's, fetched through apt, also without root.

`python -m tests.chromium` finds or fetches one and says which.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from app.errors import ConfigError
from app.stack import timescale
from app.stack.debian import Apt, locked

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
STATUS = "/var/lib/dpkg/status"
WRAPPER = """#!/bin/sh
export LD_LIBRARY_PATH="{libraries}" FONTCONFIG_FILE="{folder}/fonts.conf"
exec "{folder}/usr/lib/chromium/chromium" "$@"
"""
FONTS = """<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "urn:fontconfig:fonts.dtd">
<fontconfig><dir>{folder}/usr/share/fonts</dir><dir>/usr/share/fonts</dir><cachedir>{folder}/fonts</cachedir></fontconfig>
"""


def find() -> Path | None:
    """A Chromium that starts, or None: $CHROMIUM, one on PATH, or the one fetched before."""
    named = os.environ.get("CHROMIUM")
    candidates = [named] if named else [*map(shutil.which, NAMES), str(_cached() / "chromium")]
    return next((Path(path) for path in candidates if path and _starts(path)), None)


def fetch() -> Path | None:
    """Debian's package: installed by root, else unpacked into the cache folder. None when neither works."""
    if os.geteuid() == 0 and shutil.which("apt-get"):
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        for command in ("update -qq", "install -y -qq --no-install-recommends chromium fonts-liberation"):
            subprocess.run(["apt-get", *command.split()], env=environment, stdout=subprocess.DEVNULL, check=False)
        return find()
    with locked(_cached().with_name("chromium.lock")):
        return find() or _unpack()


def _unpack() -> Path | None:
    folder = _cached()
    with tempfile.TemporaryDirectory(prefix="new-", dir=folder.parent) as work:
        try:
            apt = Apt(Path(work))
            apt.options += ["-o", f"Dir::State::status={STATUS}"]  # only what this machine lacks
            apt.run("update")
            needed = apt.run("install", "--print-uris", "-y", "--no-install-recommends", "chromium", "fonts-liberation")
            names = [f"{name}={version}" for name, version in re.findall(r"' ([^_\s]+)_([^_\s]+)_\S+\.deb ", needed)]
            debs = apt.download(*(name.replace("%3a", ":") for name in names))
        except (ConfigError, subprocess.SubprocessError) as error:
            print(getattr(error, "stderr", None) or error, file=sys.stderr)
            return None
        made = Path(work) / "made"
        for deb in debs:
            subprocess.run(["dpkg-deb", "-x", str(deb), str(made)], check=True)
        shutil.rmtree(folder, ignore_errors=True)
        made.rename(folder)
    libraries = sorted({str(path.parent) for path in folder.glob("usr/lib/**/*.so*")})
    (folder / "fonts.conf").write_text(FONTS.format(folder=folder))
    (folder / "chromium").write_text(WRAPPER.format(folder=folder, libraries=":".join(libraries)))
    (folder / "chromium").chmod(0o755)
    return find()


def _cached() -> Path:
    return timescale.cache_folder() / "chromium"


def _starts(path: str) -> bool:
    try:
        return subprocess.run([path, "--version"], capture_output=True, check=False, timeout=30).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


if __name__ == "__main__":
    found = find() or fetch()
    if found:
        print(f"browser tests use {found}")
    else:
        print("!! NO CHROMIUM: THE BROWSER TESTS WILL BE SKIPPED. Install one, or name it: CHROMIUM=/path/to/chromium")
