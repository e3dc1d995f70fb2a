"""A private Exim in a temporary directory that relays everything to one next hop. The system's own is not touched.

    with Exim(via="[127.0.0.1]:2600") as exim:
        host, port = exim.address

`make peers` unpacks the program, beside Postfix; it runs as the user that Debian's package is built for, so starting
it takes root. No DNS, no TLS. Built the same way as `bench.postfix.Postfix`, and exchangeable with it as a peer.
"""

import contextlib
import os
import re
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

__all__ = ["Exim"]

USER = "Debian-exim"
READY_S = 20.0
STOP_S = 20.0
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
smtp_accept_max_per_connection = 0
smtp_enforce_sync = true
bounce_return_body = false
message_size_limit = {message_octets}
acl_smtp_rcpt = rcpt
acl_smtp_data = data

begin acl
# The test says in files what is refused: an address, and the reply; words of a Subject field, and the reply.
rcpt:
  warn set acl_m_said = ${{lookup{{$local_part@$domain}}lsearch{{{directory}/access}}}}
  deny condition = ${{if match{{$acl_m_said}}{{^5}}}}
       message = $acl_m_said
  defer condition = ${{if match{{$acl_m_said}}{{^4}}}}
       message = $acl_m_said
  accept
data:
  deny condition = ${{if match{{$h_subject:}}{{^forbidden}}}}
       message = 550 5.7.1 Nothing that is forbidden
  accept

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
  message_linelength_limit = 1000000

begin retry
* * F,1h,1s
"""


class Exim(Program):
    """One instance and its directory, gone after `close`."""

    def __init__(self, via: str, message_octets: int = 50_000_000) -> None:
        self._program = require_tool("exim4", "exim4-daemon-light (beside Postfix: make peers)")
        host, hop = re.findall(r"\[(.+)\]:(\d+)$", via)[0]
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.address: tuple[str, int] = free.getsockname()[:2]
        self.name = "exim.example.test"
        self.directory = Path(tempfile.mkdtemp(prefix="exim-"))
        self.access({})
        self._config = self.directory / "exim.conf"
        self._config.write_text(
            CONFIG.format(
                program=self._program,
                directory=self.directory,
                port=self.address[1],
                host=host,
                hop=hop,
                message_octets=message_octets,
            ),
            encoding="utf-8",
        )
        shutil.chown(self.directory, USER, USER)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def via(self) -> str:
        """It as the next hop of a route."""
        return f"[{self.address[0]}]:{self.address[1]}"

    def access(self, replies: Mapping[str, str]) -> None:
        """Answer RCPT for these addresses with these replies, from the next connection on."""
        rows = "".join(f"{address}: {reply}\n" for address, reply in replies.items())
        (self.directory / "access").write_text(rows, encoding="utf-8")

    def start(self) -> None:
        """Start and wait until it greets. Raises TimeoutError with what it said."""
        command = [self._program, "-C", str(self._config), "-bdf", "-q1s"]
        with (self.directory / "stderr").open("wb") as stderr:
            self._process = subprocess.Popen(
                command,
                user=USER,
                group=USER,
                extra_groups=[],
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
            )
        try:
            wait_until(self._greets, "a greeting from Exim", READY_S)
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{self.log()}") from error

    def _greets(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(self.address, timeout=5) as sock:
            if sock.recv(512).startswith(b"220"):
                sock.sendall(b"QUIT\r\n")
                return True
        return False

    def close(self) -> None:
        """Stop every process of the instance and delete its directory."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGTERM)
            self._process.wait(STOP_S)
            self._process = None
        shutil.rmtree(self.directory, ignore_errors=True)

    def log(self) -> str:
        """Return what it has said and logged."""
        files = [self.directory / name for name in ("stderr", "mainlog")]
        return "".join(file.read_text(encoding="utf-8", errors="replace") for file in files if file.exists())

    def n_queued(self) -> int:
        """Return the number of messages in its queue."""
        names = [name for _, _, files in os.walk(self.directory / "spool" / "input") for name in files]
        return sum(name.endswith("-H") for name in names)
