"""Scripted IMAP and POP servers on a loopback port: one mailbox, that says what it was asked and what is left in it."""

from __future__ import annotations

import re
import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

USER, PASSWORD = "bounces@example.com", 'p@ss/w:"rd'


class Mailbox:
    """The messages by number; those marked as seen, and how often anybody logged in."""

    def __init__(self, *messages: bytes) -> None:
        self.messages = dict(enumerate(messages, 1))
        self.seen: set[int] = set()
        self.logins = 0
        self.hang_up_after = 0  # of one session, so many messages were fetched; 0: never

    def served(self) -> int:
        self.logins += 1
        return self.hang_up_after


class _Imap(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        box: Mailbox = self.server.box  # type: ignore[attr-defined]
        deleted: set[int] = set()
        left = box.served()
        self.say("* OK ready")
        while line := self.rfile.readline().decode("utf-8", "replace").rstrip("\r\n"):
            tag, _, command = line.partition(" ")
            verb = command.upper()
            if verb == "CAPABILITY":
                self.say("* CAPABILITY IMAP4rev1 UIDPLUS")
            elif verb.startswith("LOGIN"):
                wanted = '"{}"'.format(PASSWORD.replace('"', '\\"'))
                if command.partition(" ")[2] != f"{USER} {wanted}":
                    self.say(f"{tag} NO [AUTHENTICATIONFAILED] Invalid credentials")
                    continue
            elif verb.startswith("SELECT"):
                if "INBOX" not in command:
                    self.say(f"{tag} NO [NONEXISTENT] Unknown mailbox")
                    continue
                self.say(f"* {len(box.messages)} EXISTS")
            elif verb.startswith("UID SEARCH"):
                first, last = map(int, command.split()[2].split(":"))
                found = list(box.messages)[first - 1 : last]  # by place, as sequence numbers are
                self.say("* SEARCH " + " ".join(str(each) for each in found if each not in box.seen))
            elif verb.startswith("UID FETCH"):
                most = int(re.findall(r"<0\.(\d+)>", command)[0])
                for uid in map(int, command.split()[2].split(",")):
                    if box.hang_up_after and not left:
                        return
                    left -= 1
                    message = box.messages[uid][:most]
                    self.wfile.write(f"* {uid} FETCH (UID {uid} BODY[]<0> {{{len(message)}}}\r\n".encode())
                    self.wfile.write(message + b")\r\n")
            elif verb.startswith("UID STORE"):
                uids = set(map(int, command.split()[2].split(",")))
                box.seen |= uids
                deleted |= uids if r"\Deleted" in command else set()
            elif verb == "EXPUNGE":
                for uid in deleted:
                    del box.messages[uid]
            elif verb == "LOGOUT":
                self.say("* BYE")
            self.say(f"{tag} OK done")
            if verb == "LOGOUT":
                return

    def say(self, line: str) -> None:
        self.wfile.write(line.encode() + b"\r\n")


class _Pop(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        box: Mailbox = self.server.box  # type: ignore[attr-defined]
        deleted: set[int] = set()
        left = box.served()
        numbered = list(box.messages)  # a session counts from 1
        self.say("+OK ready")
        while line := self.rfile.readline().decode("utf-8", "replace").rstrip("\r\n"):
            verb, _, rest = line.partition(" ")
            if verb == "PASS" and rest != PASSWORD:
                self.say("-ERR [AUTH] no")
                continue
            if verb == "STAT":
                self.say(f"+OK {len(numbered)} 0")
                continue
            if verb == "RETR":
                if box.hang_up_after and not left:
                    return
                left -= 1
                self.say("+OK follows")
                self.wfile.write(re.sub(rb"(?m)^\.", b"..", box.messages[numbered[int(rest) - 1]]) + b"\r\n.\r\n")
                continue
            if verb == "DELE":
                deleted.add(numbered[int(rest) - 1])
            if verb == "QUIT":
                for number in deleted:
                    del box.messages[number]
            self.say("+OK")
            if verb == "QUIT":
                return

    def say(self, line: str) -> None:
        self.wfile.write(line.encode() + b"\r\n")


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    context: ssl.SSLContext

    def get_request(self) -> tuple[Any, Any]:
        connection, address = super().get_request()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self.context.wrap_socket(connection, server_side=True), address

    def handle_error(self, request: Any, client_address: Any) -> None:
        """The client went away, or does not trust our certificate: it says so itself."""


@contextmanager
def serving(kind: str, box: Mailbox, context: ssl.SSLContext) -> Iterator[int]:
    """This mailbox over TLS, as "imaps" or "pop3s"; gives the port."""
    with _Server(("127.0.0.1", 0), _Imap if kind == "imaps" else _Pop) as server:
        server.context = context
        server.box = box  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join(5)
