"""A private Exim. `make peers` unpacks the program beside Postfix; it runs as the user that Debian builds it for, so
starting it takes root.

No TLS, no checks of DKIM. Tuned: no limit on connections and on what is delivered at once, its spool in 62 folders, no
log file of its own for each message, and deliveries with the rights that it has anyway: then the process that delivers
is a fork of the one that received, not a fresh start of the program (7.9 ms of CPU a message instead of 4.7).
Each message is delivered as soon as it is there, which is how Exim is run; queue runners look after what is left.
"""

import os
import re
import shutil
import subprocess

from bench.peers.peer import Peer, PeerMissing, find_program

__all__ = ["Exim"]

INSTALL = "sh bench/peers/beside.sh exim4"
USER = "Debian-exim"
CONFIG = r"""
exim_path = {program}
primary_hostname = exim.example.test
spool_directory = {directory}/spool
log_file_path = {directory}/%slog
pid_file_path = {directory}/pid
local_interfaces = 127.0.0.1
daemon_smtp_ports = {port}
keep_environment =
tls_advertise_hosts =
host_lookup =
rfc1413_query_timeout = 0s
smtp_accept_max = 0
smtp_accept_max_per_connection = 0
smtp_accept_queue_per_connection = 0
smtp_connect_backlog = 1024
queue_run_max = 20
remote_max_parallel = 50
split_spool_directory = true
message_logs = false
deliver_drop_privilege = true
acl_smtp_connect = connect
acl_smtp_rcpt = rcpt
{main}
begin acl
connect:
  accept control = dkim_disable_verify
{acl}
begin routers
onward:
  driver = manualroute
  route_list = * {host}::{hop} byname
  transport = smtp
  self = send

begin transports
smtp:
  driver = smtp
  allow_localhost
  hosts_try_fastopen =
  hosts_try_dane =
  dnssec_request_domains =
  message_linelength_limit = 1000000

begin retry
* * F,1h,1s
"""
ACCEPT = "rcpt:\n  accept\n"


class Exim(Peer):
    """One instance."""

    name = "exim"
    label = "three fsyncs a message: content, envelope, folder; a fourth behind its delivery"

    def __init__(
        self,
        via: str,
        *,
        cores: frozenset[int] | None = None,
        directory: str | None = None,
        main: str = "",
        acl: str = ACCEPT,
    ) -> None:
        """`main` are more lines for the main part, `acl` the lists that say who is accepted, `rcpt` among them.

        In `acl` {directory} is the instance's own.
        """
        super().__init__(via, cores=cores, directory=directory)
        host, hop = re.findall(r"\[(.+)\]:(\d+)$", via)[0]
        self._config = self.directory / "exim.conf"
        program = find_program("exim4", INSTALL)
        names = {"program": program, "directory": self.directory, "port": self.address[1], "host": host, "hop": hop}
        rules = acl.format(directory=self.directory)
        self._config.write_text(CONFIG.format(main=main, acl=rules, **names), encoding="utf-8")
        shutil.chown(self.directory, USER, USER)

    @classmethod
    def require(cls) -> str:
        """Return the version that is installed. Raises PeerMissing."""
        program = find_program("exim4", INSTALL)
        if os.geteuid() != 0:
            raise PeerMissing("Exim can only be started by root")
        said = subprocess.run([program, "-bV"], capture_output=True, text=True, check=False).stdout
        return said.split()[2]

    def _launch(self) -> None:
        become = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups"]
        self._spawn([*become, find_program("exim4", INSTALL), "-C", self._config, "-bdf", "-q1s"])

    def n_queued(self) -> int:
        """Return the number of messages in its queue."""
        names = [name for _, _, files in os.walk(self.directory / "spool" / "input") for name in files]
        return sum(name.endswith("-H") for name in names)
