"""Real mail servers as peers: a Postfix told, as `harness.exim.EximPeer` is, what to refuse; and a chain of both.

    client ─> near ─> Posthaste ─> far ─> sink          near and far are two instances of one kind

Mail for far.test goes the whole way; here.test has its mailboxes at Posthaste; all else goes from there to the sink,
notices to senders among it.
"""

import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from bench.cpu import children_of, title_of
from bench.peers import Postfix
from bench.server import Server
from bench.sink import Sink
from bench.wait import wait_until
from tests.harness.exim import EximPeer
from tests.harness.setup import relaying, require_tool

__all__ = ["Chain", "PostfixPeer"]

# More than the near one is sent, less than the far one takes.
HERE_OCTETS = 2_000_000
FAR_OCTETS = 1_500_000
DONE_S = 60.0
MAIN = """\
message_size_limit = {octets}
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_recipient_restrictions = check_recipient_access regexp:{{directory}}/access, permit_mynetworks, reject
header_checks = regexp:{{directory}}/headers
# As it does for clients that are not its own: no fields are added, and none is changed.
local_header_rewrite_clients =
# It would fold lines that Posthaste lets pass.
smtp_line_length_limit = 0
# A process reads the table of what is refused once, when it starts.
max_use = 1
max_idle = 1s
minimal_backoff_time = 1s
maximal_backoff_time = 2s
queue_run_delay = 1s
transport_retry_time = 1s
"""


class PostfixPeer(Postfix):
    """A Postfix with the face of `EximPeer`."""

    hostname = "postfix.example.test"

    def __init__(self, via: str, message_octets: int = 50_000_000) -> None:
        require_tool("postfix", "postfix")
        super().__init__(via, main=MAIN.format(octets=message_octets))
        self.access({})
        (self.directory / "headers").write_text("/^Subject: forbidden/ REJECT Nothing that is forbidden\n")

    def access(self, replies: Mapping[str, str]) -> None:
        """Answer RCPT for these addresses with these replies, from the next connection on."""
        rows = "".join(f"/^{address}$/ {reply}\n" for address, reply in replies.items())
        (self.directory / "access").write_text(rows, encoding="utf-8")
        # Who is connected still has a process that has read what was there before.
        pids = children_of(self.pid) if self.pid else []
        wait_until(
            lambda: not any(title_of(pid).startswith("smtpd") for pid in pids), "the end of sessions with Postfix"
        )


Peer = PostfixPeer | EximPeer


class Chain:
    """Everything between the client and the sink, started from the end; gone after `close`."""

    def __init__(self, kind: type[PostfixPeer] | type[EximPeer]) -> None:
        with ExitStack() as stack:
            self.directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chain-")))
            (self.directory / "ann").mkdir()
            self.sink = stack.enter_context(Sink())
            self.far: Peer = kind(self.sink.via, FAR_OCTETS)
            stack.enter_context(self.far)
            config = relaying(
                self.sink.via,
                route=[{"match": "far.test", "via": self.far.via}, {"match": "*", "via": self.sink.via}],
                local={"domains": ["here.test"], "maildir": f"{self.directory}/{{local}}"},
                limits={"message_octets": HERE_OCTETS},
                path={"pause_s": 1, "idle_s": 0.5},
            )
            self.server = stack.enter_context(Server(config))
            host, port = self.server.address
            self.near: Peer = kind(f"[{host}]:{port}")
            stack.enter_context(self.near)
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def wait_empty(self) -> None:
        """Wait until nothing is queued anywhere. Raises TimeoutError with what the peers logged."""
        try:
            wait_until(lambda: self.near.n_queued() == 0, "an empty queue at the near one", DONE_S)
            self.server.wait_empty(DONE_S)
            wait_until(lambda: self.far.n_queued() == 0, "an empty queue at the far one", DONE_S)
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{self.near.log()}\n{self.far.log()}") from error
