"""Between the schedule, which decides, and the tables, which remember: reads what it wants, writes out what it orders.

Called by the queue process once a turn, after the commit.
"""

from collections.abc import Callable
from itertools import islice
from typing import TypeVar

import msgspec

from mta.link import Kind, Lease, Report, Resolve, Resolved, frame
from mta.message import LOCAL_SITE, Outcome, QueueName, lost_site
from mta.queue.apply import Arrived, Off
from mta.queue.asleep import Asleep
from mta.queue.awake import Known, Path, Queue
from mta.queue.batch import Batch
from mta.queue.changes import DeathChange, PathChange, PendingChange, WaitChange
from mta.queue.orders import Moved
from mta.queue.paths import remember, row_of
from mta.queue.reports import REFUSED, Task
from mta.queue.schedule import Question, Row, Schedule
from mta.queue.workers import Worker, Workers
from mta.report import Fault, PathPaused, PathResumed
from mta.report import encode as encode_event
from mta.store import (
    EXPIRE,
    NEVER_MS,
    SUSPECT_DEATHS,
    PathRow,
    Writer,
    decode_message,
    decode_part,
    decode_path,
    decode_queue,
    due_key,
    due_of,
    message_of,
    number,
    number_key,
    path_key,
    timer_of,
    turn_of,
)

__all__ = ["Plans"]

# Bound once: see ARCHITECTURE, Choices.
LEASE = Kind.LEASE
# Sleeping queues whose time has come are woken in slices: a start with a million of them must not hold up new mail.
WAKE_QUEUES = 200
RING_TIMERS = 200
POLL_MS = 1_000
REMEMBER_MS = 10_000
# A path that was not heard of for so long begins anew.
REMEMBERED_MS = 86_400_000
SWEEP_PATHS = 200
TOLD_QUEUES = 200
# A worker of an older version does not say why.
NO_ROUTE = Outcome("deferred", 451, "4.4.4", "no route to this domain", "", "")

T = TypeVar("T")


class Plans:
    """Carries out the schedule."""

    def __init__(self, schedule: Schedule, writer: Writer, workers: Workers, batch: Batch) -> None:
        self._schedule = schedule
        self._writer = writer
        self._workers = workers
        self._batch = batch
        self._asleep = Asleep(writer)
        self._timer_from = b""
        self._next_timer = 0
        self._remember_at = 0
        self._remembered_in = -1
        self._swept = b""
        self._asked = 0

    # What was committed

    def arrived(self, arrived: list[Arrived] | tuple[Arrived, ...]) -> None:
        """Parts were committed and are due."""
        for part in arrived:
            queue = self._schedule.find(part.queue)
            if queue is None:
                if self._schedule.is_overfull:
                    self._asleep.until(part.due)
                    continue
                queue = self._wake(part.queue, part.name)
            self._schedule.arrived(queue, part.part, part.cost)

    def off(self, off: Off, now: int) -> None:
        """A part was settled."""
        self._schedule.settled(off.part, off.due, now)
        if not off.due and off.queue and self._schedule.find(off.queue) is None:
            # It was reported on while its queue slept: if that is empty now, it goes.
            self._awake(off.queue, now)
        self.arrived(off.arrived)

    def moved(self, moved: Moved, now: int) -> None:
        """An operator changed a part, or a client took it back."""
        if moved.is_up:
            self._timer_from = b""
            self._next_timer = 0
        elif not self._schedule.is_leased(moved.part):
            queue = self._schedule.find(moved.queue)
            if queue is None and moved.due and moved.due < NEVER_MS:
                if self._schedule.n_free:
                    queue = self._awake(moved.queue, now)
                else:
                    self._asleep.hurry(moved.queue, moved.due)
            self._schedule.moved(moved.part, queue, moved.due, now)

    def slept(self, wakes: list[int]) -> None:
        """Queues sleep now until these times: look for them again, from the first of them on."""
        for wake in wakes:
            self._asleep.until(wake)

    # What workers said

    def checked_in(
        self,
        worker: Worker,
        sessions: tuple[tuple[int, str, bool], ...],
        held: tuple[tuple[int, bytes], ...],
        now: int,
    ) -> None:
        """A worker that was here before says what it holds."""
        self._schedule.worker_gone(worker.incarnation, now)
        for kept in sessions:
            path = self._path_row(kept[1], now)
            self._schedule.session_kept(worker.incarnation, kept, path, now)
        for session, part in held:
            row = self._look_up(decode_part, "part", part, now)
            queue = self._awake(row.queue, now) if row is not None else None
            if row is not None and queue is not None:
                known = Known(queue, row.cost, is_suspect=row.deaths >= SUSPECT_DEATHS)
                self._schedule.lease_kept(session, queue, part, known, now)

    def died(self, worker: Worker, now: int) -> None:
        """A worker is dead: what it held is ready again, and who it died with is remembered."""
        held = self._schedule.worker_gone(worker.incarnation, now)
        if not worker.has_died:
            return
        for part in held:
            row = self._look_up(decode_part, "part", part, now)
            message = self._look_up(decode_message, "message", message_of(part), now)
            if row is None or message is None:
                continue
            if row.deaths >= SUSPECT_DEATHS:
                # The commit sets it aside; until then nobody else shall die of it, nor of the report on it.
                self._schedule.moved(part, None, NEVER_MS, now)
                self._schedule.reports.done(part)
            elif row.deaths + 1 >= SUSPECT_DEATHS:
                self._schedule.suspect(part)
            self._batch.add(DeathChange(part, message.tenant))

    def greeted(self, session: int, now: int) -> None:
        """A host greeted a session."""
        path = self._schedule.greeted(session, now)
        if path is not None:
            self._batch.note(encode_event(PathResumed(now, b"", "", path.source, path.site)))

    def closed(self, session: int, failure: Outcome | None, now: int) -> None:
        """A session is over."""
        path = self._schedule.closed(session, failure, now)
        if path is not None:
            self._rests(path, now)

    def _rests(self, path: Path, now: int) -> None:
        self._batch.note(encode_event(_paused(path, now)))
        self._batch.add(PathChange(path.source, path.site, row_of(path, now)))
        # The others' rows say it when they go to sleep.
        self._batch.add(WaitChange(tuple(islice(path.queues, TOLD_QUEUES)), path.site))

    def resolved(self, answer: Resolved, now: int) -> None:
        """A worker said where a domain goes."""
        routing = self._schedule.routing
        until = now + round(answer.ttl_s * 1000)
        question = Question(answer.domain, answer.route)
        lost = lost_site(answer.domain, answer.route)
        failure = answer.failure
        if failure is None and not answer.hosts and answer.site != LOCAL_SITE:
            failure = NO_ROUTE
        if failure is not None and failure.status != "bounced":
            path = routing.lost(question, failure, self._path_row(lost, now), now)
            if path is not None:
                self._rests(path, now)
            return
        if failure is not None:
            routing.refused(question, failure, until)
        else:
            site = (answer.site, answer.hosts, answer.ranks)
            routing.resolved(question, site, until, self._path_row(answer.site, now), now)
        if routing.found(question) or self._writer.look_up("path", path_key("", lost)) is not None:
            self._batch.note(encode_event(PathResumed(now, b"", "", "", lost)))
            self._batch.add(PathChange("", lost, None))

    # Turns

    def tick(self, now: int, *, may_lease: bool = True) -> None:
        """Wake queues and parts whose time has come, read rows, put idle queues to sleep, ask; lease, if it may be."""
        schedule, batch = self._schedule, self._batch
        if self._asleep.next_at <= now and schedule.n_free:
            for queue in self._asleep.due(min(WAKE_QUEUES, schedule.n_free), now):
                self._awake(queue, now)
        if self._next_timer <= now and not schedule.reports.is_full:
            self._ring(now)
        self._carry_out_pending(now)
        schedule.due_again(now)
        for hungry in schedule.hungry():
            self._read(hungry, now)
        schedule.routing.refuse(now)
        for sleeper in schedule.sleepers(now):
            batch.sleep(sleeper)
        self._ask(now)
        if (self._remember_at <= now or schedule.has_much_to_remember) and batch.n_commits != self._remembered_in:
            self._remember_at = now + REMEMBER_MS
            self._remember(now)
        if not may_lease:
            return
        for task in schedule.reports.tasks([w.incarnation for w in self._workers.all() if w.may_lease]):
            self._tell(task.worker, frame(Kind.REPORT, _report(task)))
        for grant in schedule.grants(now):
            lease = Lease(grant.session, grant.opens, grant.site, grant.hosts, grant.parts, grant.ranks, grant.new)
            self._tell(grant.worker, frame(LEASE, lease))

    def wait_ms(self, now: int) -> int:
        """Return how long nothing will be due, in ms."""
        schedule = self._schedule
        times = [at for at in (schedule.next_due(), self._remember_at) if at]
        # A line that is full is looked at again when something leaves it.
        if self._asleep.next_at and schedule.n_free:
            times.append(self._asleep.next_at)
        if self._next_timer and not schedule.reports.is_full:
            times.append(self._next_timer)
        return max(0, min(times) - now) if times else 60_000

    def _carry_out_pending(self, now: int) -> None:
        """Have orders carried out that waited for parts which came back without being tried."""
        for part in self._schedule.given_back():
            row = self._look_up(decode_part, "part", part, now)
            if row is not None and row.order in ("hold", "remove") and not self._schedule.is_leased(part):
                # The commit changes its row; until then it must not go out again.
                self._schedule.moved(part, None, NEVER_MS, now)
                self._batch.add(PendingChange(part))

    def _tell(self, incarnation: int, wire: bytes) -> None:
        worker = self._workers.find(incarnation)
        # A worker that just lost its connection is dead or says HELLO again; both give the parts back.
        if worker is not None and "out" in worker.ends:
            worker.ends["out"].send(wire)

    def _ask(self, now: int) -> None:
        """Put the questions to the workers in turn."""
        able = [worker for worker in self._workers.all() if "out" in worker.ends and not worker.is_leaving]
        for question in self._schedule.resolving.questions(now) if able else ():
            self._asked += 1
            asked = frame(Kind.RESOLVE, Resolve(question.domain, question.route))
            able[self._asked % len(able)].ends["out"].send(asked)

    def _ring(self, now: int) -> None:
        """Hear the timers that are due."""
        rows = self._writer.look("timer", self._timer_from, RING_TIMERS)
        for key, _ in rows:
            when, part, kind = timer_of(key)
            if when >= now:
                # An earlier one may come behind this: a notice lives shorter than the mail before it.
                self._next_timer = min(when + 1, now + POLL_MS)
                return
            self._timer_from = key + b"\0"
            if part not in self._schedule.reports:
                self._schedule.up(part, kind, self._maybe_failure(part, now) if kind == EXPIRE else None, now)
        self._next_timer = now if len(rows) == RING_TIMERS else now + POLL_MS

    def _maybe_failure(self, part: bytes, now: int) -> Outcome | None:
        """Return what was in the way of a part, if it was not the part itself."""
        row = self._look_up(decode_part, "part", part, now)
        queue = self._look_up(decode_queue, "queue", number_key(row.queue), now) if row is not None else None
        if row is None or queue is None:
            return None
        awake = self._schedule.find(row.queue)
        if awake is not None and awake.path is not None:
            return awake.path.failure
        site = queue.site or lost_site(queue.name.domain, queue.name.route)
        path = self._look_up(decode_path, "path", path_key("", site), now)
        return path.failure if path is not None else None

    def _awake(self, queue: int, now: int) -> Queue | None:
        """Return the queue, awake; None if its row cannot be read."""
        known = self._schedule.find(queue)
        if known is not None:
            return known
        row = self._look_up(decode_queue, "queue", number_key(queue), now)
        return None if row is None else self._wake(queue, row.name)

    def _wake(self, number_: int, name: QueueName) -> Queue:
        queue: Queue = self._schedule.awake(number_, name)
        queue.is_urgent |= self._asleep.is_hurried(number_)
        return queue

    def _look_up(self, decode: Callable[[bytes], T], table: str, key: bytes, now: int) -> T | None:
        """Return a row; None if it is not there, or cannot be decoded: then `queue verify` has something to say."""
        value = self._writer.look_up(table, key)
        if value is None:
            return None
        try:
            return decode(value)
        except (msgspec.MsgspecError, UnicodeDecodeError) as problem:
            self._batch.note(encode_event(Fault(now, b"", "", "queue", f"{table} {key.hex()}: {problem}")))
            return None

    def _read(self, queue: Queue, now: int) -> None:
        start = queue.read_from + b"\0" if queue.read_from else due_key(queue.number, 0, b"")
        most = self._schedule.piece()
        rows: list[Row] = []
        for key, value in self._writer.look("due", start, most):
            if number(key) != queue.number:
                break
            due, part = due_of(key)
            rows.append((key, due, part, *turn_of(value)))
            if due >= now:
                break
        self._schedule.read(queue, rows, most, now)

    # What is remembered of paths

    def _path_row(self, site: str, now: int) -> PathRow | None:
        return None if self._schedule.has_path(site) else self._look_up(decode_path, "path", path_key("", site), now)

    def _remember(self, now: int) -> None:
        """Write down what was learned, and forget some of what is old."""
        learned = self._schedule.to_remember(now)
        self._remembered_in = self._batch.n_commits if learned else -1
        for row in learned:
            self._batch.add(PathChange(row.source, row.site, row))
        kept = {row.site for row in learned}
        rows = self._writer.look("path", self._swept, SWEEP_PATHS)
        for key, _ in rows:
            old = self._look_up(decode_path, "path", key, now)
            if old is None or old.site in kept or self._schedule.has_path(old.site):
                continue
            if not remember(old, REMEMBERED_MS, now):
                self._batch.add(PathChange(old.source, old.site, None))
        self._swept = rows[-1][0] + b"\0" if len(rows) == SWEEP_PATHS else b""


def _report(task: Task) -> Report:
    if task.kind == EXPIRE:
        return Report("expired", task.failure, task.parts)
    # Where an operator sends mail back, it does not matter what else is in its way.
    return Report("bounced", task.failure if task.kind == REFUSED else None, task.parts)


def _paused(path: Path, now: int) -> PathPaused:
    failure = path.failure
    if failure is None:
        raise ValueError(f"path {path.site} is paused without a failure")
    return PathPaused(
        now,
        b"",
        "",
        path.source,
        path.site,
        failure.code,
        failure.enhanced,
        failure.reason,
        failure.remote_mta,
        failure.diagnostic,
        path.paused_until,
    )
