"""A private stock Postfix in a temporary directory, to measure Posthaste against. The system's own is not touched.

    with Postfix(via="[127.0.0.1]:2600") as postfix:
        host, port = postfix.address

Needs root, because Postfix's master does, and Debian's package (`apt-get install postfix`). No chroot, no DNS, no TLS;
it takes mail on 127.0.0.1 and relays everything to one next hop. `stock=True` leaves all tuning at its defaults, which
hold Postfix back in a benchmark: a one-second pause when mail comes in faster than it leaves, 20 deliveries at once.

CPU time is that of Postfix's master and all daemons it started, living and reaped; all are its direct children. Not in
the sum: postlogd, because where it stands Posthaste has no match (syslog would not be counted either), and the
`postfix start` script. What daemons spend on handing their lines to postlogd is counted.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path

from bench.cpu import tree_cpu_s
from bench.program import Program
from bench.wait import wait_until

__all__ = ["Postfix", "PostfixMissing"]

POSTFIX = Path("/usr/sbin/postfix")
READY_S = 20.0
STOP_S = 20.0
QUEUES = ("maildrop", "incoming", "active", "deferred", "hold")
MAIN = """\
compatibility_level = 3.6
queue_directory = {directory}/spool
data_directory = {directory}/lib
mail_owner = postfix
maillog_file_prefixes = {directory}
maillog_file = {directory}/log
myhostname = postfix.example.test
mydestination =
local_recipient_maps =
alias_maps =
alias_database =
inet_interfaces = loopback-only
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
relayhost = {via}
smtp_dns_support_level = disabled
smtp_host_lookup = native
smtpd_peername_lookup = no
smtpd_tls_security_level = none
smtp_tls_security_level = none
"""
TUNED = """\
in_flow_delay = 0
default_process_limit = 200
smtpd_client_connection_count_limit = 0
initial_destination_concurrency = 50
default_destination_concurrency_limit = 100
qmgr_message_active_limit = 20000
"""
# service type private unprivileged chroot wakeup maxproc command
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
proxywrite unix - - n - 1 proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""


class PostfixMissing(Exception):
    """This machine cannot run a private Postfix; the text says what is missing."""


class Postfix(Program):
    """One instance and its directory, gone after `close`."""

    def __init__(self, via: str, *, stock: bool = False, main: str = "") -> None:
        """`via` is the next hop; `main` are more lines for main.cf, in which {directory} is the instance's own.

        Raises PostfixMissing.
        """
        if not POSTFIX.exists():
            raise PostfixMissing("there is no Postfix on this machine: apt-get install postfix")
        if os.geteuid() != 0:
            raise PostfixMissing("Postfix can only be started by root")
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.address: tuple[str, int] = free.getsockname()[:2]
        self.directory = Path(tempfile.mkdtemp(prefix="postfix-"))
        # Its daemons run as another user and must reach their queue.
        self.directory.chmod(0o755)
        self._config = self.directory / "etc"
        self.pid = 0
        """Of its master, 0 while it does not run."""
        for name in ("etc", "spool", "lib"):
            (self.directory / name).mkdir()
        shutil.chown(self.directory / "lib", "postfix")
        lines = (MAIN + main).format(directory=self.directory, via=via) + ("" if stock else TUNED)
        (self._config / "main.cf").write_text(lines, encoding="utf-8")
        (self._config / "master.cf").write_text(MASTER.format(port=self.address[1]), encoding="utf-8")

    def start(self) -> None:
        """Start and wait until it greets. Raises RuntimeError with its own words, or TimeoutError."""
        done = subprocess.run(
            [POSTFIX, "-c", self._config, "start"], capture_output=True, text=True, timeout=READY_S, check=False
        )
        if done.returncode:
            raise RuntimeError(f"postfix start ended with {done.returncode}: {done.stderr}{self.log()}")
        pid_file = self.directory / "spool" / "pid" / "master.pid"
        wait_until(lambda: pid_file.exists() and bool(pid_file.read_text().strip()), "Postfix's master", READY_S)
        self.pid = int(pid_file.read_text())
        wait_until(self._greets, "a greeting from Postfix", READY_S)

    def _greets(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(self.address, timeout=5) as sock:
            if sock.recv(512).startswith(b"220"):
                sock.sendall(b"QUIT\r\n")
                return True
        return False

    def close(self) -> None:
        """Stop every process of the instance and delete its directory."""
        if self.pid:
            # On SIGTERM Postfix's master ends its whole process group, which it leads.
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)
            wait_until(lambda: not Path(f"/proc/{self.pid}").exists(), "the end of Postfix", STOP_S)
            self.pid = 0
        shutil.rmtree(self.directory, ignore_errors=True)

    def log(self) -> str:
        """Return what it has logged."""
        file = self.directory / "log"
        return file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""

    def cpu_s(self) -> float:
        """Return the CPU seconds of the instance so far, postlogd left out."""
        return tree_cpu_s(self.pid, without="postlogd")

    def n_queued(self) -> int:
        """Return the number of messages in its queue."""
        spool = self.directory / "spool"
        return sum(len(files) for name in QUEUES for _, _, files in os.walk(spool / name))
