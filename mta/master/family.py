"""All children: who is wanted, who is there, what they are told, and what their deaths mean.

Rule: a child that dies is replaced, at once, or after a growing wait while it keeps dying before it is ready; but one
that was told to leave makes room. Of workers there are two generations while one replaces the other, and both are alive
for whoever counts them. Of the other kinds there is one process at a time, for it holds what no two can hold: a
successor is born when it has ended.
"""

import signal
import time
from collections import deque
from collections.abc import Iterable, Sequence

from mta.master.children import Kid, Nursery
from mta.master.notify import say

__all__ = ["BOOT_DEATHS", "LEAVE_S", "Family"]

# A child that came so far as to serve is wanted back soon, for clients wait for it, but not in a tight loop.
YOUNG_S = 10.0
YOUNG_REST_S = 0.2
BACKOFF_FIRST_S = 0.5
BACKOFF_MOST_S = 30.0
BOOT_DEATHS = 5
# What the kinds that write down what they have get for it.
LEAVE_S = 10.0
# News for a queue process that is down: enough for hours of restarts.
N_NEWS = 1000
# These are said anew to a queue process that is born: what it missed of them is out of date.
STATES = ("workers", "config")
IN_ORDER = ("exit 0", f"signal {signal.SIGTERM:d}")
# Who is told to leave over its control channel; the others need no more than SIGTERM.
HEARS_LEAVE = ("queue", "worker")


class Family:
    """The children, living or due."""

    def __init__(self, kids: Iterable[Kid], nursery: Nursery, news: Iterable[Sequence[object]] = ()) -> None:
        """`kids` are borne in their order; `news` is what the queue process has not heard yet."""
        self.kids = list(kids)
        self.wanted = {kid.kind for kid in self.kids}
        self.was_ready = False
        """Every child was ready at the same time once: the server has started."""
        self._nursery = nursery
        self._news = deque(news, maxlen=N_NEWS)
        self._has_workers_changed = True

    def living(self, kind: str) -> list[Kid]:
        """Return those of a kind that nobody has told to leave."""
        return [kid for kid in self.kids if kid.kind == kind and not kid.is_leaving]

    @property
    def dues(self) -> list[float]:
        """When those are due that are not there, monotonic seconds."""
        return [kid.due_at for kid in self.kids if not kid.pid and kid.kind in self.wanted]

    # Births

    def bear_due(self) -> None:
        """Fork those whose time has come."""
        now = time.monotonic()
        for kid in self.kids:
            if kid.pid or kid.due_at > now or kid.kind not in self.wanted:
                continue
            if kid.kind == "queue":
                self._news = deque((words for words in self._news if words[0] not in STATES), maxlen=N_NEWS)
            try:
                self._nursery.bear(kid, now, self._leave)
            except OSError as error:
                kid.due_at = now + BACKOFF_FIRST_S
                say(f"cannot start {kid.name}: {error.strerror}; trying again")
                continue
            self._has_workers_changed |= kid.kind in ("queue", "worker")

    def _leave(self) -> None:
        """In a new child: close our ends of the others' channels, or their children would never see us die."""
        for kid in self.kids:
            if kid.control is not None:
                kid.control.close()

    # What they are told

    def announce(self, *words: object) -> None:
        """Have the queue process told, now or when there is one."""
        self._news.append(words)

    @property
    def news(self) -> list[list[object]]:
        """What it has not heard yet."""
        return [list(words) for words in self._news]

    def tell(self) -> None:
        """Tell what there is to tell; what does not fit into a channel now is told in the next turn."""
        if self._has_workers_changed:
            self.announce("workers", [[kid.number, kid.pid] for kid in self.kids if kid.kind == "worker" and kid.pid])
            self._has_workers_changed = False
        for kid in self.kids:
            if kid.farewell and kid.pid and kid.tell(kid.farewell):
                kid.farewell = ()
            # One that is about to end would take the news with it.
            while kid.kind == "queue" and kid.pid and not kid.is_renewed and self._news and kid.tell(self._news[0]):
                self._news.popleft()

    def dismiss(self, kid: Kid, stay_s: float, places: Sequence[int] = ()) -> None:
        """Have a child leave for good within `stay_s`; `places` are those of its listeners that nobody else serves."""
        kid.is_leaving = True
        if not kid.pid:
            self.kids.remove(kid)
            return
        self._part(kid, stay_s, places)

    def renew(self, kid: Kid) -> None:
        """Have a child end in order, and another born in its place."""
        if kid.pid and not kid.is_renewed:
            kid.is_renewed, kid.is_ready = True, False
            self._part(kid, LEAVE_S, ())

    def _part(self, kid: Kid, stay_s: float, places: Sequence[int]) -> None:
        kid.ends_by = time.monotonic() + stay_s
        if kid.kind in HEARS_LEAVE:
            kid.farewell = ("leave", list(places))
        else:
            kid.kill(signal.SIGTERM)

    # What they tell

    def hear(self, now: float) -> None:
        """Read what they have sent."""
        for kid in self.kids:
            for words in kid.hear():
                kid.heard_at = now
                match words:
                    case ["ready"] if not kid.is_ready and not kid.is_renewed:
                        kid.is_ready = True
                        if kid.is_missed and self.was_ready:
                            say(f"{kid.name} is back, pid {kid.pid}")
                        kid.is_missed = False
                    case ["kill", int(pid)] if kid.kind == "queue":
                        self._kill_worker(pid)

    def _kill_worker(self, pid: int) -> None:
        for kid in self.kids:
            if kid.kind == "worker" and kid.pid == pid:
                say(f"{kid.name} (pid {pid}) does not answer the queue, killing it")
                kid.kill(signal.SIGKILL)

    # Deaths

    def kill_late(self, now: float, hang_s: float) -> None:
        """Kill who has given no sign of life for `hang_s`, or should have left by now."""
        for kid in self.kids:
            if kid.pid and now - kid.heard_at > hang_s:
                say(f"{kid.name} (pid {kid.pid}) gave no sign of life for {hang_s:g} s, killing it")
                kid.kill(signal.SIGKILL)
                kid.heard_at = now
            elif kid.pid and now > kid.ends_by:
                say(f"{kid.name} (pid {kid.pid}) should have left by now, killing it")
                kid.kill(signal.SIGKILL)
                kid.ends_by = now + LEAVE_S

    def bury(self, pid: int, status: str) -> bool:
        """A process has ended; return False if that means that the server cannot start."""
        # As process 1 of a container we are sent orphans of others, too.
        kid = next((kid for kid in self.kids if kid.pid == pid), None)
        if kid is None:
            return True
        now = time.monotonic()
        kid.pid, kid.farewell = 0, ()
        if kid.control is not None:
            kid.control.close()
            kid.control = None
        self._has_workers_changed |= kid.kind == "worker"
        is_over = kid.is_leaving or kid.kind not in self.wanted
        if is_over or (kid.is_renewed and status in IN_ORDER):
            if status not in IN_ORDER:
                say(f"{kid.name} (pid {pid}) ended with {status}")
                if kid.kind in self.wanted:
                    self.announce("died", kid.name, pid, status)
            kid.is_ready = kid.is_renewed = False
            kid.ends_by, kid.due_at = float("inf"), now
            if kid.is_leaving:
                self.kids.remove(kid)
            return True
        self.announce("died", kid.name, pid, status)
        return self._mourn(kid, pid, status, now)

    def _mourn(self, kid: Kid, pid: int, status: str, now: float) -> bool:
        """Decide when another takes the place of one that nobody wanted to die."""
        was_up = kid.is_ready or kid.is_renewed
        kid.is_ready = kid.is_renewed = False
        kid.is_missed, kid.ends_by = True, float("inf")
        if was_up:
            kid.n_stillborn = 0
            kid.n_young = kid.n_young + 1 if now - kid.born_at < YOUNG_S else 0
            pause_s = YOUNG_REST_S if kid.n_young > 1 else 0
        else:
            kid.n_stillborn += 1
            if kid.n_stillborn >= BOOT_DEATHS and not self.was_ready:
                say(f"{kid.name} (pid {pid}) died with {status}")
                say(f"giving up: {kid.name} died {BOOT_DEATHS} times while starting")
                self.wanted.discard(kid.kind)
                return False
            pause_s = min(BACKOFF_FIRST_S * 2.0 ** (kid.n_stillborn - 2), BACKOFF_MOST_S) if kid.n_stillborn > 1 else 0
        kid.due_at = now + pause_s
        say(f"{kid.name} (pid {pid}) died with {status}, starting another {f'in {pause_s:g} s' if pause_s else 'now'}")
        return True
