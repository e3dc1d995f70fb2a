"""Reload and upgrade: one generation of workers takes over from another, and nobody outside notices.

Rule: nothing that runs is touched before everything that is new is there. The file is checked, new addresses are bound,
new workers are born and serve; only then the old ones are told to leave, the queue process gets its part, and what has
changed for the others has them started anew. Whatever fails before leaves the running configuration in place.

An upgrade (SIGUSR2) is tried, then the master becomes the new program in place, and a reload follows in which the other
kinds are started anew, too: the queue process first, for it understands workers of one version before, and workers do
not understand an older queue process.

Orders are kept, not heaped: what comes during a reload makes one more after it. Called in each turn of the arbiter's
loop; never blocks.
"""

import os
import signal
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version

import msgspec

from mta.child import LAST_ACCEPT_S, STAY_S, QueuePart
from mta.config import Config, Process, load
from mta.errors import ConfigError, StartError
from mta.master.children import RENEWED_FOR, Kid
from mta.master.family import BOOT_DEATHS, Family
from mta.master.notify import READY, notify, reloading, say, show
from mta.master.rights import check_rights
from mta.master.sockets import Plan, find_user
from mta.master.upgrade import Estate, Trial
from mta.message import cut

__all__ = ["Succession"]

# What only a start can change: the queue's place and size, and who its files belong to.
FIXED = ("data_dir", "queue.map_octets", "process.user")
# How long something new may take to be ready, where `hang_s` is patient for longer.
MOST_READY_S = 60.0
# What a worker gets to tell the queue and leave, beyond its stay and its two drains (`worker.main._make_room`, and the
# end): killed earlier, it would count as one that its messages have killed.
EXTRA_S = 10.0
# So many generations may be leaving; before there are more, the oldest has to end as at a stop.
MOST_LEAVING = 4
# An event has to fit into a row of the queue's file (`store.codec`), with our name beside them. stderr has them whole.
PROBLEMS_OCTETS = 1500
PROBLEM_OCTETS = 500


class Succession:
    """What the family lives by, and how that changes."""

    def __init__(self, file: str, plan: Plan, family: Family, estate: Estate, *, is_upgraded: bool = False) -> None:
        """`file` is the configuration, `is_upgraded` if the family was born of the version before this one."""
        self.plan = plan
        """The one that is in force."""
        self._file = file
        self._family = family
        self._estate = estate
        self._sockets = estate.sockets
        # Until a reload after it has succeeded, there are children of the version before.
        self._is_upgraded = is_upgraded
        self._wants_reload = is_upgraded
        self._wants_upgrade = False
        self._trial: Trial | None = None
        self._next: Plan | None = None
        self._new: list[Kid] = []
        self._deadline = 0.0
        self._do = self._start

    @property
    def process(self) -> Process:
        """How long to be patient."""
        return self.plan.config.process

    def want(self, number: int) -> None:
        """SIGHUP or SIGUSR2 has come."""
        if number == signal.SIGHUP:
            self._wants_reload = True
        else:
            self._wants_upgrade = True

    def step(self) -> None:
        """Go on as far as that is possible now."""
        self._do()

    # One function a phase; each says by `_do` which comes next.

    def _start(self) -> None:
        if not (self._wants_upgrade or self._wants_reload):
            return
        notify(self._estate.manager, reloading())
        if self._wants_upgrade:
            self._wants_upgrade = False
            self._try()
        else:
            self._wants_reload = False
            self._begin()

    def _try(self) -> None:
        say("upgrade: trying the version that is on the disk")
        try:
            self._trial = Trial(self._file, self._estate.record(self.plan, self._family, []))
        except OSError as error:
            self._fail([f"mta: cannot run {sys.executable}: {error.strerror}"], "upgrade")
            return
        self._deadline = self._patience_ends_at()
        self._do = self._tried

    def buried(self, pid: int, status: int) -> bool:
        """A process has ended: return whether it was ours."""
        if self._trial is None or self._trial.pid != pid:
            return False
        self._trial.status = status
        return True

    def _tried(self) -> None:
        trial = self._trial
        if trial is None:
            return
        if trial.status < 0:
            if time.monotonic() > self._deadline:
                os.kill(trial.pid, signal.SIGKILL)
            return
        self._trial, self._do = None, self._start
        problems = trial.close()
        if trial.status:
            self._fail(problems or ["mta: trying the new version came to no end"], "upgrade")
            return
        try:
            self._estate.hand_over(self.plan, self._family, [signal.SIGUSR2] if self._wants_upgrade else [])
        except OSError as error:
            self._fail([f"mta: cannot run {sys.executable}: {error.strerror}"], "upgrade")

    def _begin(self) -> None:
        """Check, bind, and bear the new workers; after an upgrade let a new queue process come first."""
        try:
            config = load(self._file)
            problems = [f"{self._file}: {problem}" for problem in _unchangeable(self.plan.config, config)]
            if problems:
                raise ConfigError(problems)
            check_rights(config, find_user(config.process.user))
            self._next = self._sockets.plan(config)
        except ConfigError as error:
            self._fail(error.problems)
            return
        except StartError as error:
            self._fail([f"mta: {error}"])
            return
        self._deadline = self._patience_ends_at()
        if not self._is_upgraded:
            self._bear()
            return
        say("upgrade: this is the new master; its children follow")
        for kid in self._family.living("queue"):
            self._family.renew(kid)
        self._do = self._await_queue

    def _await_queue(self) -> None:
        if all(kid.is_ready for kid in self._family.living("queue")):
            self._bear()
        elif time.monotonic() > self._deadline:
            self._fail(["mta: the new queue process is not ready"])

    def _bear(self) -> None:
        plan = self._next
        if plan is None:
            return
        self._new = [Kid("worker", number, plan) for number in range(1, len(plan.bounds) + 1)]
        self._family.kids += self._new
        self._deadline = self._patience_ends_at()
        self._do = self._await_workers

    def _await_workers(self) -> None:
        late = [kid for kid in self._new if not kid.is_ready]
        dying = [kid for kid in late if kid.n_stillborn >= BOOT_DEATHS]
        if not late:
            self._take_over()
        elif dying:
            self._fail([f"mta: the new {dying[0].name} died {BOOT_DEATHS} times while starting"])
        elif time.monotonic() > self._deadline:
            self._fail([f"mta: the new {late[0].name} is not ready after {self._patience_s:g} s"])

    def _take_over(self) -> None:
        """Everything is there: let the old ones leave."""
        plan, before = self._next, self.plan.config
        if plan is None:
            return
        family, kind = self._family, self._kind
        old = [kid for kid in family.living("worker") if kid not in self._new]
        self._part(old, plan)
        self.plan = plan
        family.announce("reloaded", kind)
        for kid in family.kids:
            if kid.kind == "worker":
                continue
            kid.plan = plan
            is_changed = any(_get(before, key) != _get(plan.config, key) for key in RENEWED_FOR.get(kid.kind, ()))
            if kid.kind != "queue" and (is_changed or self._is_upgraded):
                family.renew(kid)
        addresses = " ".join(plan.addresses())
        say(f"upgraded to {version('posthaste-mta')} {addresses}" if self._is_upgraded else f"reloaded {addresses}")
        self._is_upgraded = False
        self._end()

    def _part(self, kids: Sequence[Kid], plan: Plan) -> None:
        """Dismiss workers, for `plan` holds; what none of its own listens on is closed by the last of them.

        The queue process hears it with that: some of what these have told it of routes is not so.
        """
        part = msgspec.to_builtins(QueuePart.of(plan.config))
        self._family.announce("config", part, [kid.pid for kid in kids if kid.pid])
        wanted = plan.socks
        last = [
            [at for at, bound in enumerate(kid.plan.bounds_of(kid.number)) if bound.sock not in wanted] for kid in kids
        ]
        self._sockets.keep(plan)
        drain_s = self.process.drain_s
        for kid, places in zip(kids, last, strict=True):
            self._family.dismiss(kid, STAY_S + 2 * kid.plan.config.process.drain_s + EXTRA_S, places)
        leaving = [kid for kid in self._family.kids if kid.kind == "worker" and kid.is_leaving]
        for kid in leaving[: -MOST_LEAVING * len(plan.bounds)]:
            kid.kill(signal.SIGTERM)
            kid.ends_by = min(kid.ends_by, time.monotonic() + drain_s + LAST_ACCEPT_S + EXTRA_S)

    @property
    def _patience_s(self) -> float:
        return min(self.process.hang_s, MOST_READY_S)

    def _patience_ends_at(self) -> float:
        return time.monotonic() + self._patience_s

    # Ends

    @property
    def _kind(self) -> str:
        return "upgrade" if self._is_upgraded else "reload"

    def _fail(self, problems: Sequence[str], kind: str = "") -> None:
        """Say what is wrong, a line each as at a start, and that nothing has changed."""
        kind = kind or self._kind
        show(problems)
        say(f"{kind} failed, the running configuration stays")
        if self._next is not None:
            self._part(self._new, self.plan)
        self._family.announce("reload_failed", kind, _brief(problems))
        self._end()

    def _end(self) -> None:
        self._next, self._new, self._do = None, [], self._start
        notify(self._estate.manager, READY)


def _brief(problems: Sequence[str]) -> list[str]:
    """Return as many problems as fit into an event, and how many more there are."""
    told: list[str] = []
    n_octets = 0
    for number, problem in enumerate(problems):
        # The file's name is whatever the operator's file system has.
        text = problem.removeprefix("mta: ").encode("utf-8", "replace").decode()
        told.append(cut(text, PROBLEM_OCTETS))
        n_octets += len(told[-1].encode())
        if n_octets > PROBLEMS_OCTETS:
            told[-1] = f"and {len(problems) - number} more"
            break
    return told


def _get(config: Config, key: str) -> object:
    value: object = config
    for name in key.split("."):
        value = getattr(value, name)
    return value


def _unchangeable(before: Config, after: Config) -> list[str]:
    """Return a problem for each setting that a running server cannot change."""
    changes = [(key, _get(before, key), _get(after, key)) for key in FIXED]
    return [
        f"{key}: expected {_show(old)} until the server is restarted, got {_show(new)}"
        for key, old, new in changes
        if old != new
    ]


def _show(value: object) -> str:
    return msgspec.json.encode(value).decode()
