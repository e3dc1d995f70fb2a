"""Between the schedule, which decides, and the tables, which remember: reads what it wants, writes out what it orders.

Called by the queue process once a turn, after the commit.
"""

from mta.link import Kind, Lease, Resolve, frame
from mta.queue.apply import Arrived, Off
from mta.queue.awake import Queue
from mta.queue.batch import Batch
from mta.queue.schedule import READ_PARTS, Schedule
from mta.queue.workers import Worker, Workers
from mta.store import Writer, decode_part, decode_queue, due_key, due_of, number, number_key, wake_key

__all__ = ["Plans"]

# Sleeping queues whose time has come are woken in slices: a start with a million of them must not hold up new mail.
WAKE_QUEUES = 200


class Plans:
    """Carries out the schedule."""

    def __init__(self, schedule: Schedule, writer: Writer, workers: Workers) -> None:
        self._schedule = schedule
        self._writer = writer
        self._workers = workers
        self._wake_from = b""
        self._next_wake = 0
        self._asked = 0

    def arrived(self, arrived: list[Arrived]) -> None:
        """Parts were committed and are due."""
        for part in arrived:
            self._schedule.arrived(self._schedule.awake(part.queue, part.name), part.part)

    def off(self, off: list[Off], now: int) -> None:
        """Parts were settled."""
        for part in off:
            self._schedule.settled(part.part, part.due, now)

    def slept(self, wakes: list[int]) -> None:
        """Queues sleep now until these times: look for them again, from the first of them on."""
        for wake in wakes:
            self._next_wake = min(self._next_wake, wake + 1)
            self._wake_from = min(self._wake_from, wake_key(wake, 0))

    def checked_in(
        self, worker: Worker, sessions: tuple[tuple[int, str], ...], held: tuple[tuple[int, bytes], ...], now: int
    ) -> None:
        """A worker that was here before says what it holds."""
        for session, site in sessions:
            self._schedule.session_kept(worker.incarnation, session, site)
        for session, part in held:
            row = self._writer.look_up("part", part)
            if row is not None:
                self._schedule.lease_kept(session, self._awake(decode_part(row).queue), part, now)

    def tick(self, batch: Batch, now: int) -> None:
        """Wake queues whose time has come, read rows, put idle queues to sleep, ask and lease."""
        schedule = self._schedule
        if self._next_wake <= now:
            self._wake(now)
        schedule.due_again(now)
        for queue in schedule.hungry():
            self._read(queue, now)
        for queue in schedule.sleepers(now):
            batch.sleep(queue)
        for question in schedule.questions(now):
            self._ask(frame(Kind.RESOLVE, Resolve(question.domain, question.route)))
        for grant in schedule.grants(now):
            worker = self._workers.find(grant.worker)
            # A worker that just lost its connection is dead or says HELLO again; both give the parts back.
            if worker is not None and "out" in worker.ends:
                lease = Lease(grant.session, grant.opens, grant.site, grant.hosts, grant.parts)
                worker.ends["out"].send(frame(Kind.LEASE, lease))

    def wait_ms(self, now: int) -> int:
        """Return how long nothing will be due, in ms."""
        times = [at for at in (self._next_wake, self._schedule.next_due()) if at]
        return max(0, min(times) - now) if times else 60_000

    def _ask(self, question: bytes) -> None:
        """Put a question to the workers in turn."""
        able = [worker for worker in self._workers.all() if "out" in worker.ends]
        if able:
            self._asked += 1
            able[self._asked % len(able)].ends["out"].send(question)

    def _wake(self, now: int) -> None:
        rows = self._writer.look("wake", self._wake_from, WAKE_QUEUES)
        for key, _ in rows:
            due = number(key)
            if due >= now:
                self._next_wake = due + 1
                return
            # What is put into the table from now on sorts behind `now`.
            self._wake_from = key + b"\0"
            self._awake(number(key[8:]))
        self._next_wake = now if len(rows) == WAKE_QUEUES else 0
        if not self._next_wake:
            # An empty table has nothing to wait for until a queue goes to sleep.
            self._next_wake = now + 1_000

    def _awake(self, queue: int) -> Queue:
        known = self._schedule.find(queue)
        if known is not None:
            return known
        row = decode_queue(self._writer.look_up("queue", number_key(queue)) or b"")
        return self._schedule.awake(queue, row.name)

    def _read(self, queue: Queue, now: int) -> None:
        start = queue.read_from + b"\0" if queue.read_from else due_key(queue.number, 0, b"")
        rows: list[tuple[bytes, int, bytes]] = []
        for key, _ in self._writer.look("due", start, READ_PARTS):
            if number(key) != queue.number:
                break
            due, part = due_of(key)
            rows.append((key, due, part))
            if due >= now:
                break
        self._schedule.read(queue, rows, now)
