"""A private OpenSMTPD, of Debian's opensmtpd, which `make peers` unpacks beside Postfix. As root.

Where its queue, its socket and its empty root are is compiled in: so it runs among mounts of its own, in which those
places, and who answers for names, are its folder's. The system's own are neither needed nor seen.

No TLS. Tuned: as many messages a connection, connections to the next hop and messages in work as a load needs, none of
its pauses between connections. Its backlog of five connections is compiled in; it is raised from outside, because what
a load opens at once would wait for retransmitted SYNs otherwise.
Not to be tuned: a small message goes out in several writes without TCP_NODELAY, so each costs a connection 40 ms where
the next hop delays its ACKs; with many connections that hides.
"""

import ctypes
import os
import re
import socket
import subprocess
from pathlib import Path

from bench.peers.peer import Peer, PeerMissing, find_program
from bench.server import StartFailed

__all__ = ["OpenSMTPD"]

INSTALL = "sh bench/peers/beside.sh smtpd"
LISTENING = "0A"
BACKLOG = 1024
# Of every architecture; Python has no name for it.
PIDFD_GETFD = 438
# What stands where, for this server only. No name server at all: names come from /etc/hosts.
MOUNTS = """\
set -e
if [ -e /etc/resolv.conf ]; then mount --bind "$0/resolv.conf" /etc/resolv.conf; fi
mount --bind "$0/spool" /var/spool
mount --bind "$0/lib" /var/lib
mount --bind "$0/run" /run
exec "$@"
"""
CONFIG = """\
smtp max-message-size 134217728
smtp limit max-mails 100000000
scheduler limit max-inflight 20000
mta limit max-conn-per-host 100
mta limit max-conn-per-route 100
mta limit max-conn-per-source 100
mta limit max-conn-per-connector 100
mta limit max-conn-per-relay 100
mta limit max-conn-per-domain 100
mta limit conn-delay-host 0
mta limit conn-delay-route 0
mta limit conn-delay-source 0
mta limit conn-delay-connector 0
mta limit conn-delay-relay 0
mta limit conn-delay-domain 0
mta limit reconn-delay-route 0
mta limit session-transaction-delay 0
mta limit task-hiwat 2000
mta limit task-lowat 1000
mta limit task-release 1000
mta limit session-mail-max 100000000
listen on 127.0.0.1 port {port} hostname opensmtpd.example.test
action "onward" relay host "smtp+notls://{hop}"
match from any for any action "onward"
"""


def _listen_again(pid: int, descriptor: int) -> None:
    """Give a listening socket of another process a longer queue. Raises OSError."""
    process = os.pidfd_open(pid)
    try:
        ours = ctypes.CDLL(None, use_errno=True).syscall(PIDFD_GETFD, process, descriptor, 0)
        if ours < 0:
            raise OSError(ctypes.get_errno(), "pidfd_getfd")
        with socket.socket(fileno=ours) as listening:
            listening.listen(BACKLOG)
    finally:
        os.close(process)


class OpenSMTPD(Peer):
    """One instance."""

    name = "opensmtpd"
    label = "nothing: mail that got its 250 may be lost with the power"
    # Once it has been idle it may look for a way to its next hop only after ten seconds; it forgets that in as many.
    rest_s = 11.0

    def __init__(self, via: str, *, cores: frozenset[int] | None = None, directory: str | None = None) -> None:
        """See `Peer`."""
        super().__init__(via, cores=cores, directory=directory)
        for folder in ("spool/smtpd", "lib/opensmtpd/empty", "run"):
            (self.directory / folder).mkdir(parents=True)
        (self.directory / "spool" / "smtpd").chmod(0o711)
        (self.directory / "resolv.conf").write_text("lookup file\n", encoding="ascii")
        self._config = self.directory / "smtpd.conf"
        hop = re.sub(r"[\[\]]", "", via)
        self._config.write_text(CONFIG.format(port=self.address[1], hop=hop), encoding="ascii")

    @classmethod
    def require(cls) -> str:
        """Return the version that is installed. Raises PeerMissing."""
        program = find_program("smtpd", INSTALL)
        if os.geteuid() != 0:
            raise PeerMissing("OpenSMTPD can only be started by root")
        unshare = find_program("unshare", "apt-get install util-linux")
        if subprocess.run([unshare, "--mount", "true"], capture_output=True, check=False).returncode:
            raise PeerMissing("OpenSMTPD needs mounts of its own, and this machine does not let root make any")
        said = subprocess.run([program, "-h"], capture_output=True, text=True, check=False).stderr
        return said.split()[2]

    def _launch(self) -> None:
        apart = ["unshare", "--mount", "/bin/sh", "-c", MOUNTS, str(self.directory)]
        self._spawn([*apart, find_program("smtpd", INSTALL), "-d", "-f", self._config])

    def start(self) -> None:
        """Start it and wait until it greets; then let more than five connections wait to be accepted."""
        super().start()
        listening = (
            fields[9]
            for fields in map(str.split, Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:])
            if fields[3] == LISTENING and int(fields[1].rpartition(":")[2], 16) == self.address[1]
        )
        inode = next(listening, "")
        if not inode:
            raise StartFailed(f"{self.name} does not listen on port {self.address[1]} any more")
        for pid in self.pids():
            for name in os.listdir(f"/proc/{pid}/fd"):
                if os.readlink(f"/proc/{pid}/fd/{name}") == f"socket:[{inode}]":
                    _listen_again(pid, int(name))
                    return
        raise StartFailed("opensmtpd: nobody holds its listening socket")

    def n_queued(self) -> int:
        """Return the number of messages in its queue: a folder each, with the content and an envelope a recipient."""
        queue = self.directory / "spool" / "smtpd" / "queue"
        if not queue.exists():
            return 0
        return sum(len(os.listdir(bucket)) for bucket in queue.iterdir())
