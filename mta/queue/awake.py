"""What the schedule keeps in RAM: queues that are awake, paths, sessions, known parts.

Plain records without behaviour; only `schedule` changes them.
"""

from collections import deque

from mta.message import Hosts, QueueName

__all__ = ["Known", "Path", "Queue", "Session"]


class Queue:
    """A queue that is awake. `read_from` is the last key of `due` that was read, `next_due` when it is read again, 0
    for never. `n_out` counts the parts that are leased, or settled and not committed yet.
    """

    __slots__ = (
        "asked_at",
        "is_listed",
        "n_out",
        "name",
        "next_due",
        "number",
        "path",
        "read_from",
        "ready",
        "resting_since",
        "unread",
        "until",
    )

    def __init__(self, number: int, name: QueueName) -> None:
        self.number = number
        self.name = name
        self.path: Path | None = None
        self.until = 0
        self.asked_at = 0
        self.ready: deque[bytes] = deque()
        self.n_out = 0
        self.unread = True
        self.read_from = b""
        self.next_due = 0
        self.resting_since = 0
        self.is_listed = False


class Path:
    """The way to one site. `turns` are the queues that have ready parts, `n_queues` all that lead here."""

    __slots__ = ("hosts", "n_queues", "sessions", "site", "turns")

    def __init__(self, site: str) -> None:
        self.site = site
        self.hosts: Hosts = ()
        self.n_queues = 0
        self.sessions: dict[int, Session] = {}
        self.turns: deque[Queue] = deque()


class Session:
    """What a worker was granted on a path: `parts` are leased to it, each since a time in ms.

    `is_open` once its worker was told of it, `is_proven` once a part came back from it; `depth` is how many parts it
    may hold.
    """

    __slots__ = ("depth", "is_open", "is_proven", "number", "parts", "path", "worker")

    def __init__(self, number: int, path: Path, worker: int) -> None:
        self.number = number
        self.path = path
        self.worker = worker
        self.parts: dict[bytes, int] = {}
        self.depth = 1
        self.is_open = False
        self.is_proven = False


class Known:
    """A part in RAM: its queue, and the session it is leased to; None while it is ready, or its settlement waits."""

    __slots__ = ("queue", "session")

    def __init__(self, queue: Queue, session: Session | None = None) -> None:
        self.queue = queue
        self.session = session
