"""A private Dovecot on loopback that reads Maildirs over IMAP. The system's own is not touched.

    with Dovecot({"ann@here.test": maildir}) as dovecot, dovecot.login("ann@here.test") as imap: ...

Needs root, as Dovecot's master does: each user's mail is read as the owner of the Maildir.
"""

import contextlib
import imaplib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from bench.program import Program
from bench.wait import wait_until
from tests.harness.setup import require_tool

__all__ = ["Dovecot"]

PASSWORD = "open-sesame"
READY_S = 20.0
CONFIG = """\
base_dir = {directory}/run
state_dir = {directory}/state
log_path = {directory}/log
protocols = imap
listen = 127.0.0.1
ssl = no
disable_plaintext_auth = no
auth_username_chars =
first_valid_uid = 0
first_valid_gid = 0
passdb {{
  driver = passwd-file
  args = {directory}/users
}}
userdb {{
  driver = prefetch
}}
service imap-login {{
  inet_listener imap {{
    port = {port}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
"""


class Dovecot(Program):
    """One instance and its directory, gone after `close`."""

    def __init__(self, users: Mapping[str, Path]) -> None:
        """`users`: the Maildir of each one who may log in; it has to be there, as its owner says who reads it."""
        self._program = require_tool("dovecot", "dovecot-imapd")
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        self._directory = Path(tempfile.mkdtemp(prefix="dovecot-"))
        # Its processes before login are nobody's, and have to reach their sockets.
        self._directory.chmod(0o755)
        self._process: subprocess.Popen[bytes] | None = None
        self._config = self._directory / "dovecot.conf"
        self._config.write_text(CONFIG.format(directory=self._directory, port=self.port), encoding="utf-8")
        (self._directory / "users").write_text("".join(map(_row, users, users.values())), encoding="utf-8")

    def start(self) -> None:
        """Start and wait until it greets. Raises TimeoutError with what it logged."""
        self._process = subprocess.Popen([self._program, "-F", "-c", self._config], stderr=subprocess.DEVNULL)
        try:
            wait_until(self._greets, "a greeting from Dovecot", READY_S)
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{self.log()}") from error

    def _greets(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=5) as sock:
            return sock.recv(512).startswith(b"* OK")
        return False

    def login(self, user: str) -> imaplib.IMAP4:
        """Return an open session of a user's; a context manager that logs out."""
        imap = imaplib.IMAP4("127.0.0.1", self.port, timeout=20)
        try:
            # RFC 2595 s6: PLAIN takes UTF-8, which LOGIN does not.
            imap.authenticate("PLAIN", lambda _: b"\0%b\0%b" % (user.encode(), PASSWORD.encode()))
        except BaseException:
            imap.shutdown()
            raise
        return imap

    def log(self) -> str:
        """Return what it has logged."""
        file = self._directory / "log"
        return file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""

    def close(self) -> None:
        """Stop every process of the instance and delete its directory."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(20)
            self._process = None
        shutil.rmtree(self._directory, ignore_errors=True)


def _row(user: str, maildir: Path) -> str:
    """Return a line of a passwd-file, in which a per cent sign stands for itself when it is doubled."""
    owner = maildir.stat()
    mail = os.fspath(maildir).replace("%", "%%")
    fields = f"userdb_uid={owner.st_uid} userdb_gid={owner.st_gid} userdb_mail=maildir:{mail}"
    return f"{user}:{{PLAIN}}{PASSWORD}::::::{fields} userdb_home={mail}\n"
