"""A private Postfix. The system's own is not touched; its programs are used (`apt-get install postfix`), as root.

No chroot, no TLS. Tuned: without its pause of a second when mail comes in faster than it leaves, 100 deliveries at once
instead of 20, as many processes and connections as a load needs. Keeping connections to the next hop that it does not
keep by itself (smtp_connection_cache_destinations) gains nothing here: 0.98 of the rate, four runs of each in turn.

Its CPU time is without that of postlogd, which writes its log: where it stands other servers have syslog, which would
not be counted, either. What its daemons spend on handing their lines to postlogd is counted.
"""

import contextlib
import os
import shutil
import signal
import subprocess
from pathlib import Path

from bench.cpu import sum_cpu_s, title_of
from bench.peers.peer import READY_S, STOP_S, Peer, PeerMissing, find_program
from bench.wait import wait_until

__all__ = ["Postfix"]

INSTALL = "apt-get install postfix"
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
in_flow_delay = 0
default_process_limit = {processes}
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


class Postfix(Peer):
    """One instance."""

    name = "postfix"
    label = "one fsync a message"

    def __init__(
        self,
        via: str,
        *,
        cores: frozenset[int] | None = None,
        directory: str | None = None,
        processes: int = 1100,
        main: str = "",
    ) -> None:
        """`processes` is the most of one kind; `main` are more lines for main.cf, with {directory} for its folder."""
        super().__init__(via, cores=cores, directory=directory)
        self._config = self.directory / "etc"
        for folder in ("etc", "spool", "lib"):
            (self.directory / folder).mkdir()
        shutil.chown(self.directory / "lib", "postfix")
        lines = (MAIN + main).format(directory=self.directory, via=via, processes=processes)
        (self._config / "main.cf").write_text(lines, encoding="utf-8")
        (self._config / "master.cf").write_text(MASTER.format(port=self.address[1]), encoding="utf-8")

    @classmethod
    def require(cls) -> str:
        """Return the version that is installed. Raises PeerMissing."""
        find_program("postfix", INSTALL)
        if os.geteuid() != 0:
            raise PeerMissing("Postfix can only be started by root")
        command = [find_program("postconf", INSTALL), "-dh", "mail_version"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    def _launch(self) -> None:
        # `start` ends when the master is there; there is no other way to have the master in our hands than its file.
        starting = self._spawn([find_program("postfix", INSTALL), "-c", self._config, "start"])
        if starting.wait(READY_S):
            raise OSError(f"postfix start ended with {starting.returncode}")
        pid_file = self.directory / "spool" / "pid" / "master.pid"
        wait_until(lambda: pid_file.exists() and bool(pid_file.read_text().strip()), "Postfix's master", READY_S)
        self.pid = int(pid_file.read_text())

    def _is_over(self) -> bool:
        return not Path(f"/proc/{self.pid}").exists()

    def _stop(self) -> None:
        # On SIGTERM Postfix's master ends its whole process group, which it leads.
        with contextlib.suppress(ProcessLookupError, TimeoutError):
            os.kill(self.pid, signal.SIGTERM)
            wait_until(self._is_over, "the end of Postfix", STOP_S)

    def cpu_s(self) -> float:
        """Return the CPU seconds of the instance so far, postlogd left out."""
        loggers = [pid for pid in self.pids() if title_of(pid).startswith("postlogd")]
        return super().cpu_s() - sum_cpu_s(loggers)

    def n_queued(self) -> int:
        """Return the number of messages in its queue."""
        spool = self.directory / "spool"
        return sum(len(files) for queue in QUEUES for _, _, files in os.walk(spool / queue))
