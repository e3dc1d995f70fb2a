"""What the schedule keeps in RAM: queues that are awake, paths, sessions, known parts.

Plain records without behaviour; only `schedule` and what it is made of change them.
"""

from collections import OrderedDict

from mta.message import LOST_SITE, Hosts, Outcome, QueueName

__all__ = ["Kept", "Known", "Path", "Queue", "Row", "Session", "Site", "Worker"]

Row = tuple[bytes, int, bytes, int, bool]
"""What is read of `due`: (key, due ms, part, cost, is_suspect)."""

Site = tuple[str, Hosts, tuple[int, ...]]
"""Where mail goes: (name, hosts in order, their ranks)."""

Kept = tuple[int, str, bool]
"""A session that a worker has: (number, site, whether it was greeted)."""


class Queue:
    """A queue that is awake. `read_from` is the last key of `due` that was read, `next_due` when it is read again, 0
    for never. `n_out` counts the parts that are leased, wait for quarantine, or are settled and not committed yet.
    `deficit` is what is left of its turn. It sleeps until `sleeps_until` at least when its path, the one to the site
    `sleeps_for`, is paused; `is_urgent` when an operator wants it tried at once all the same. `until` is when the
    answer to where it leads grows old: to a `path`, or to the `refusal` of all its mail.
    """

    def __init__(self, number: int, name: QueueName) -> None:
        self.number = number
        self.name = name
        self.path: Path | None = None
        self.refusal: Outcome | None = None
        self.until = 0
        # Short, and mostly empty: a deque's first block alone is as large as all the rest of this.
        self.ready: list[bytes] = []
        self.n_out = 0
        self.unread = True
        self.read_from = b""
        self.next_due = 0
        self.resting_since = 0
        self.sleeps_until = 0
        self.sleeps_for = ""
        self.deficit = 0
        self.is_listed = False
        self.is_urgent = False


class Path:
    """The way from one egress source to one site.

    `queues` are those that lead here; of them `turn` is being served, `fresh` and `turns` have ready parts and wait
    (see `turns`). What `paths` learned is in `window` to `greeted_at`; `is_changed` since it was last written down.
    One that `is_lost` leads nowhere: its queues wait until the name service knows their domain, which failed `n_lost`
    times in a row.
    """

    def __init__(self, source: str, site: str, window: int) -> None:
        self.source = source
        self.site = site
        self.hosts: Hosts = ()
        self.ranks: tuple[int, ...] = ()
        self.queues: dict[int, Queue] = {}
        self.sessions: dict[int, Session] = {}
        self.turn: Queue | None = None
        self.fresh: OrderedDict[int, Queue] = OrderedDict()
        self.turns: OrderedDict[int, Queue] = OrderedDict()
        self.was_fresh = False
        self.may_yield = True
        self.window = window
        self.n_succeeded = 0.0
        self.n_failed = 0.0
        self.n_cohorts = 0.0
        self.ceiling = 0
        self.ceiling_until = 0
        self.paused_until = 0
        self.failure: Outcome | None = None
        self.greeted_at = 0
        self.is_changed = False
        self.is_lost = site.startswith(LOST_SITE)
        self.n_lost = 0


class Worker:
    """A worker that may be given sessions: how many it has, and how many parts it holds of those it has `credit` for.

    `is_reserved` while it is kept for a suspect, and gets nothing else.
    """

    def __init__(self, incarnation: int, credit: int) -> None:
        self.incarnation = incarnation
        self.credit = credit
        self.n_sessions = 0
        self.n_parts = 0
        self.is_reserved = False


class Session:
    """What a worker was granted on a path: `parts` are leased to it, each since a time in ms.

    `is_open` once its worker was told of it, `is_greeted` once a host greeted it; `depth` is how many parts it may
    hold. `is_unproven` while it counts among the sessions of paths that nobody knows to be alive.
    """

    def __init__(self, number: int, path: Path, worker: int) -> None:
        self.number = number
        self.path = path
        self.worker = worker
        self.parts: dict[bytes, int] = {}
        self.depth = 1
        self.is_open = False
        self.is_greeted = False
        self.is_unproven = False


class Known:
    """A part in RAM: its queue, and the session it is leased to; None while it waits, or while it `is_settling`.

    `cost` is what it takes of its queue's turn; a suspect is leased alone, because workers died with it. `is_new` is a
    part that was put while its queue was awake, and never leased.
    """

    def __init__(self, queue: Queue, cost: int, *, is_suspect: bool = False) -> None:
        self.queue = queue
        self.cost = cost
        self.is_new = False
        self.is_suspect = is_suspect
        self.is_settling = False
        self.session: Session | None = None

    @property
    def is_out(self) -> bool:
        """A worker has it, or has said what became of it."""
        return self.session is not None or self.is_settling
