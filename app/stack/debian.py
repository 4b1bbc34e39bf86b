"""Fetches Debian's TimescaleDB package into the cache folder, through apt itself and without root.

apt knows this machine's mirrors and proxies, verifies the Release file's signature and every checksum below it; it is
given folders of our own and one suite that has the package.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from app.errors import ConfigError
from app.stack import elf, timescale

PACKAGE = "postgresql-18-timescaledb"
SUITES = ("forky", "sid")  # Debian 14, and what comes after it
KEYRINGS = ("/usr/share/keyrings/debian-archive-keyring.pgp", "/usr/share/keyrings/debian-archive-keyring.gpg")


def fetch(folder: Path) -> Path:
    """Puts lib/ and share/extension/ into `folder` (all or nothing; many processes may ask at once) and gives it back.

    Raises ConfigError, with the ways out, when the package cannot be had.
    """
    try:
        with locked(folder.with_name(folder.name + ".lock")):
            if timescale.read(folder) is None:
                with tempfile.TemporaryDirectory(prefix="new-", dir=folder.parent) as work:
                    ready = _unpack(_download(Apt(Path(work)), PACKAGE), Path(work) / "unpacked")
                    shutil.rmtree(folder, ignore_errors=True)
                    ready.rename(folder)
    except OSError as error:
        raise _cannot(f"{error.filename or folder}: {error.strerror}") from error
    return folder


class Apt:
    """apt with its state in `work`: an ordinary user may call it, and the machine's own lists stay as they are."""

    def __init__(self, work: Path) -> None:
        if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
            raise _cannot("this machine has no apt-get, which would fetch it")
        self.work = work
        for part in ("lists/partial", "cache/archives/partial", "debs"):
            (work / part).mkdir(parents=True)
        (work / "status").touch()
        paths = {
            "Dir::State": work,
            "Dir::State::lists": work / "lists",
            "Dir::State::status": work / "status",
            "Dir::Cache": work / "cache",
            "Dir::Log": work,
        }
        self.options = [part for name, path in paths.items() for part in ("-o", f"{name}={path}")]
        # As root apt would fetch as its own user, who may not enter our folders.
        self.options += ["-o", "Acquire::Languages=none", "-o", "APT::Sandbox::User=", "-o", "Acquire::Retries=3", "-q"]

    def archives(self) -> list[str]:
        """The bases of the machine's package archives, as apt reads them in its .list and .sources files."""
        uris = re.findall(r"'(\S+)/dists/\S+/(?:In)?Release'", self.run("update", "--print-uris"))
        return sorted(dict.fromkeys(uris), key=lambda uri: "security" in uri)

    def use(self, archive: str, suites: Sequence[str]) -> None:
        """Looks into `suites` of `archive` from now on, and into nothing else. Raises CalledProcessError."""
        keyring = next((path for path in KEYRINGS if Path(path).exists()), None)
        signed = f"[signed-by={keyring}] " if keyring else ""
        sources = self.work / "sources.list"
        sources.write_text("".join(f"deb {signed}{archive} {suite} main\n" for suite in suites))
        self.options += ["-o", f"Dir::Etc::sourcelist={sources}", "-o", "Dir::Etc::sourceparts=/dev/null"]
        self.run("update", "-o", "APT::Update::Error-Mode=any")

    def download(self, *packages: str) -> list[Path]:
        """The .deb files, checked against the signed index. Raises CalledProcessError."""
        self.run("download", *packages)
        return sorted((self.work / "debs").glob("*.deb"))

    def run(self, *arguments: str) -> str:
        """What apt-get printed. Raises CalledProcessError."""
        environment = os.environ | {"LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}
        return subprocess.run(
            ["apt-get", *self.options, *arguments],
            cwd=self.work / "debs",
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=True,
            timeout=600,
        ).stdout


def _download(apt: Apt, package: str) -> Path:
    said = "apt knows no archive here"
    try:
        archives = apt.archives()
    except subprocess.SubprocessError as error:
        raise _cannot(f"apt failed: {_last_line(error)}") from error
    for archive in archives:
        for suite in SUITES:
            try:
                apt.use(archive, [suite])
                return apt.download(package)[0]
            except subprocess.SubprocessError as error:
                said = _last_line(error)
    raise _cannot(f"none of this machine's package archives gave {package}: {said}")


def _unpack(deb: Path, into: Path) -> Path:
    """A folder with lib/ and share/extension/ whose libraries load on this machine's C library."""
    subprocess.run(["dpkg-deb", "-x", str(deb), str(into)], check=True, capture_output=True)
    ready = into / "ready"
    (ready / "share").mkdir(parents=True)
    shutil.move(next(into.glob("usr/lib/postgresql/*/lib")), ready / "lib")
    shutil.move(next(into.glob("usr/share/postgresql/*/extension")), ready / "share" / "extension")
    for library in (ready / "lib").glob("timescaledb*.so"):
        library.write_bytes(elf.loosen(library.read_bytes(), newest=elf.glibc()))
    return ready


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Only one process at a time; the others wait."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _cannot(why: str) -> ConfigError:
    return ConfigError(f"TimescaleDB could not be fetched: {why}. {timescale.WAYS_OUT}")


def _last_line(error: subprocess.SubprocessError) -> str:
    said = str(getattr(error, "stderr", None) or error).strip()
    return said.splitlines()[-1] if said else type(error).__name__
