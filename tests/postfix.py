"""A real Postfix of a test's own on a loopback port: Debian's package, with all that it reads and writes in one folder.

Only root may run one; the machine's own Postfix, if there is one, is left alone.

`python -m tests.postfix` finds or installs the package and says so.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

PLACES = "/usr/sbin:/usr/bin"
RETURNS = "bounces.example.com"  # the domain whose mail comes back to us
MAIN = """\
compatibility_level = 3.6
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
shlib_directory = /usr/lib/postfix
queue_directory = {folder}/queue
data_directory = {folder}/data
mail_owner = postfix
setgid_group = postdrop
myhostname = mx.test.example.com
mydestination =
mynetworks = 127.0.0.0/8
inet_interfaces = loopback-only
inet_protocols = ipv4
maillog_file = {folder}/log
maillog_file_prefixes = {folder}
alias_maps =
transport_maps = inline:{{ {transports} }}
default_transport = error:5.4.4 nobody is there
local_transport = error:5.1.1 nobody is here
virtual_mailbox_domains = {returns}
virtual_mailbox_base = {folder}
virtual_mailbox_maps = static:Maildir/
virtual_uid_maps = static:65534
virtual_gid_maps = static:65534
recipient_delimiter = +
smtpd_reject_unlisted_recipient = no
smtpd_recipient_restrictions = permit_mynetworks, reject
delay_warning_time = 1s
in_flow_delay = 0
minimal_backoff_time = 1s
maximal_backoff_time = 2s
queue_run_delay = 1s
notify_classes =
"""
MASTER = """\
127.0.0.1:{port} inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
pickup unix n - n 60 1 pickup
report unix - n n - 4 pipe
  flags=F user=nobody argv={folder}/pipe
"""


@dataclass(frozen=True, slots=True)
class Postfix:
    """A running one. Reports to `RETURNS` go into `maildir`, unless `transports` send them elsewhere."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes]

    @property
    def maildir(self) -> Path:
        return self.folder / "Maildir"

    def queue(self) -> list[dict[str, object]]:
        """What `postqueue -j` tells of each message: its queue, sender, recipients with the reason of a delay."""
        command = ["postqueue", "-c", str(self.folder / "etc"), "-j"]
        told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout
        return [json.loads(line) for line in told.splitlines()]

    def flush(self) -> None:
        """Try everything again now."""
        subprocess.run(["postqueue", "-c", str(self.folder / "etc"), "-f"], check=True, timeout=20)

    def reports(self, wanted: int, seconds: float = 15.0) -> list[Path]:
        """The reports in `maildir` once there are so many; fails with Postfix's log where they do not come."""
        until = time.monotonic() + seconds
        while len(found := sorted((self.maildir / "new").glob("*"))) < wanted:
            if time.monotonic() > until:
                raise AssertionError(f"{len(found)} of {wanted} reports came\n{(self.folder / 'log').read_text()}")
            time.sleep(0.05)
        return found

    def kill(self) -> None:
        """As if the machine had lost its power: all of its processes at once. Its master leads a group of its own."""
        master = int((self.folder / "queue/pid/master.pid").read_text())
        for group in {master, self.process.pid}:
            with suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)
        self.process.wait(10)
        until = time.monotonic() + 10
        with suppress(ProcessLookupError):
            while time.monotonic() < until:  # until all are gone, with the port and the lock
                os.killpg(master, 0)
                time.sleep(0.02)


def find() -> str | None:
    """Why none can be run here, None where one can."""
    if os.geteuid() != 0:
        return "only root may run a Postfix"
    if shutil.which("postfix", path=PLACES) is None:
        if shutil.which("sendmail", path=PLACES) is not None:
            return "this machine has another mail server, which Postfix would replace"
        return "there is no Postfix here (`make postfix` installs Debian's)"
    return None


def install() -> None:
    """Debian's package, by root, neither configured nor started; not where it would replace another mail server."""
    if os.geteuid() != 0 or not shutil.which("apt-get") or shutil.which("sendmail", path=PLACES):
        return
    answer = b"postfix postfix/main_mailer_type select No configuration\n"
    subprocess.run(["debconf-set-selections"], input=answer, check=False)
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for command in ("update -qq", "install -y -qq --no-install-recommends postfix"):
        subprocess.run(["apt-get", *command.split()], env=environment, stdout=subprocess.DEVNULL, check=False)


@contextmanager
def running(transports: Mapping[str, str], pipe: str = "exit 0") -> Iterator[Postfix]:
    """A Postfix with these transports by domain. `pipe` is the shell script behind the transport "report:"."""
    folder = Path(tempfile.mkdtemp(prefix="millrace-postfix-"))
    try:
        port = _set_up(folder, transports, pipe)
        started = _start(folder, port)
        try:
            yield started
        finally:
            started.kill()
    finally:
        shutil.rmtree(folder)


def again(stopped: Postfix) -> Postfix:
    """The same one, on the same port with the same queue, after it was killed."""
    return _start(stopped.folder, stopped.port)


def _set_up(folder: Path, transports: Mapping[str, str], pipe: str) -> int:
    folder.chmod(0o755)  # its daemons are other users
    for name in ("etc", "queue", "data", "Maildir"):
        (folder / name).mkdir()
    shutil.chown(folder / "data", "postfix")
    shutil.chown(folder / "Maildir", "nobody")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    mapped = ", ".join(f"{{ {domain} = {transport} }}" for domain, transport in transports.items())
    (folder / "etc/main.cf").write_text(MAIN.format(folder=folder, transports=mapped, returns=RETURNS))
    (folder / "etc/master.cf").write_text(MASTER.format(folder=folder, port=port))
    (folder / "pipe").write_text(f"#!/bin/sh\n{pipe}\n")
    (folder / "pipe").chmod(0o755)
    return port


def _start(folder: Path, port: int) -> Postfix:
    """In the foreground and in a process group of its own, so that it dies with nobody left behind."""
    command = ["postfix", "-c", str(folder / "etc"), "start-fg"]
    with (folder / "said").open("ab") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said, stdin=subprocess.DEVNULL, start_new_session=True)
    until = time.monotonic() + 15
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), 1) as greeted:
                greeted.recv(100)
                return Postfix(folder, port, process)
        except OSError:
            if process.poll() is not None or time.monotonic() > until:
                log = folder / "log"
                told = (folder / "said").read_text() + (log.read_text() if log.exists() else "")
                raise RuntimeError(f"Postfix did not start:\n{told}") from None
            time.sleep(0.05)


if __name__ == "__main__":
    install()
    missing = find()
    print(
        f"!! NO POSTFIX: ITS TESTS WILL BE SKIPPED: {missing}" if missing else "SMTP tests use this machine's Postfix"
    )
