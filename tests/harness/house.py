"""A server with everything that a client may run into: a way out, a mailbox, a limit, and a door for strangers."""

import shutil
import tempfile
from pathlib import Path
from typing import Self

from bench.server import Server
from bench.sink import Message, Sink
from bench.wait import wait_until
from tests.harness.setup import relaying

__all__ = ["House"]

MESSAGE_OCTETS = 300_000


class House:
    """The server and the sink that it relays to; in here.test there are ann and the postmaster. Gone after `close`.

    Who connects to `inside` may relay; who comes to `outside`, or from another address than 127.0.0.1, reaches local
    mailboxes only. Messages of more than MESSAGE_OCTETS are refused.
    """

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="house-"))
        (self.directory / "ann").mkdir()
        self.sink = Sink()
        self.server = Server(
            relaying(
                self.sink.via,
                listener=[
                    {"name": "inside", "bind": ["127.0.0.1:0"]},
                    {"name": "outside", "bind": ["[::1]:0"]},
                ],
                relay={"networks": ["127.0.0.1/32"]},
                limits={"message_octets": MESSAGE_OCTETS},
                local={"domains": ["here.test"], "maildir": f"{self.directory}/{{local}}"},
            )
        )

    def __enter__(self) -> Self:
        self.server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.close()
        self.sink.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def inside(self) -> tuple[str, int]:
        """Where relaying is allowed."""
        return self.server.addresses["inside"]

    @property
    def outside(self) -> tuple[str, int]:
        """Where it is not."""
        return self.server.addresses["outside"]

    def sunk(self, *recipients: str) -> list[Message]:
        """Wait until each recipient has one message at the sink; return them in this order."""
        found: dict[str, Message] = {}

        def are_there() -> bool:
            for message in self.sink.messages():
                found.update(dict.fromkeys(message.recipients, message))
            return found.keys() >= set(recipients)

        wait_until(are_there, f"mail for {', '.join(recipients)}")
        return [found[recipient] for recipient in recipients]
