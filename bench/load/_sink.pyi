"""The sink's loop: an SMTP server in one thread that checks what it takes."""

from collections.abc import Callable

from bench.load.model import Rule

class Run:
    """What has come of one run, and was answered 250."""

    messages: int
    doubled: int
    changed: int

    @property
    def deliveries_us(self) -> dict[int, int]:
        """How often there was which latency from when a message was due to its end here, in microseconds."""

    @property
    def lasted_s(self) -> float:
        """Seconds from when the first of them was due to the arrival of the last; what came again does not count."""

    @property
    def numbers(self) -> bytes:
        """Bitmap of the messages that have come, the lowest bit first."""

class Sink:
    """Serves until it is told to end; `runs` is by the name of each, `unknown` counts messages without an id."""

    runs: dict[str, Run]
    unknown: int

    def __init__(self, listener: int, control: int, on_control: Callable[[], bool]) -> None:
        """`on_control` is called when there is something to read at `control`; False ends the loop."""

    @property
    def n_ruled(self) -> int:
        """How often these rules were used."""

    def set_rules(self, rules: list[Rule]) -> None:
        """Replace all rules; whoever waits because of an old one goes on.

        A transaction that began while there was no rule has no addresses that could match.
        """

    def run(self) -> None:
        """Serve."""
