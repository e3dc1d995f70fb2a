"""The source's loop: many SMTP clients in one thread."""

from bench.load.content import Variant

class Source:
    """Sends one load to one server. What came of it stands in the attributes when `run` has returned."""

    offered: int
    accepted: int
    broken: int
    late: int
    lasted_s: float
    cpu_s: float
    error: int
    """The errno of the last connection that broke."""

    def __init__(
        self,
        host: str,
        port: int,
        variants: list[Variant],
        *,
        run: bytes,
        domain: bytes,
        domains: int,
        connections: int,
        pipelining: bool,
        fresh: bool,
    ) -> None: ...
    def run(self, messages: int, seconds: float, rate: float) -> None:
        """Send so many messages, or for so long, at a rate or (0) as fast as is answered; 0 messages is by seconds.

        Raises ConnectionError when there are kept connections, and none of them becomes ready.
        """

    @property
    def reply_us(self) -> dict[int, int]:
        """How often there was which latency from the end of data to the 250, in microseconds."""

    @property
    def whole_us(self) -> dict[int, int]:
        """The same from MAIL, or in an open loop from the scheduled time."""

    @property
    def refused(self) -> dict[str, int]:
        """Messages by the code of what refused them."""

    @property
    def numbers(self) -> bytes:
        """Bitmap of the messages that were accepted, the lowest bit first."""
