"""The courier for local mail: every job ends once, in order, and the session after all of them."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest
import uvloop

from mta.deliver import Job, MaildirCourier
from mta.message import Outcome
from tests.deliver.test_maildir import job, mails, make_writer

IDLE_S = 0.1


class Record:
    """A report that remembers; `on_done` is called within the first `done`."""

    def __init__(self) -> None:
        self.outcomes: list[tuple[Job, str]] = []
        self.left: list[Sequence[Job]] = []
        self.ended = asyncio.Event()
        self.on_done: Callable[[], None] | None = None

    def done(self, job: Job, outcomes: Sequence[tuple[int, Outcome]]) -> None:
        assert not self.ended.is_set()
        self.outcomes.extend((job, outcome.status) for _, outcome in outcomes)
        if self.on_done is not None:
            call, self.on_done = self.on_done, None
            call()

    def greeted(self, session: int) -> None:
        raise AssertionError("nobody greets us in a directory")

    def closed(self, session: int, left: Sequence[Job], failure: Outcome | None) -> None:
        assert session == 42
        assert failure is None
        self.left.append(left)
        self.ended.set()


def play(root: Path, scene: Callable[[MaildirCourier, Record], Awaitable[None]], idle_s: float = IDLE_S) -> Record:
    """Run a scene on uvloop until the session is over; every job must have ended once."""

    async def run() -> Record:
        record = Record()
        writer = make_writer(root, create=True)
        try:
            courier = MaildirCourier(42, writer, record, asyncio.get_running_loop(), idle_s)
            await scene(courier, record)
            await asyncio.wait_for(record.ended.wait(), 10)
        finally:
            writer.close()
        # Nothing comes after the end.
        await asyncio.sleep(0.01)
        assert len(record.left) == 1
        return record

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run())


def batch(n_jobs: int) -> list[Job]:
    return [job(f"user{number % 3}@local.test") for number in range(n_jobs)]


def n_stored(root: Path) -> int:
    return sum(len(mails(mailbox)) for mailbox in (root / "local.test").iterdir())


def test_courier_delivers_in_order_and_ends_when_idle(tmp_path: Path) -> None:
    jobs = batch(150)

    async def scene(courier: MaildirCourier, record: Record) -> None:
        courier.deliver(jobs[:100])
        courier.deliver(jobs[100:])

    record = play(tmp_path, scene)
    assert record.outcomes == [(wanted, "delivered") for wanted in jobs]
    assert record.left == [()]
    assert n_stored(tmp_path) == 150


def test_courier_without_any_work_ends_when_idle(tmp_path: Path) -> None:
    async def scene(courier: MaildirCourier, record: Record) -> None:
        began = asyncio.get_running_loop().time()
        await record.ended.wait()
        assert asyncio.get_running_loop().time() - began >= IDLE_S * 0.9

    assert play(tmp_path, scene).left == [()]


def test_courier_work_keeps_the_session_open(tmp_path: Path) -> None:
    jobs = batch(10)

    async def scene(courier: MaildirCourier, record: Record) -> None:
        for wanted in jobs:
            courier.deliver([wanted])
            await asyncio.sleep(IDLE_S / 2)
            assert not record.ended.is_set()

    assert len(play(tmp_path, scene).outcomes) == 10


def test_courier_close_finishes_what_is_under_way_and_leaves_the_rest(tmp_path: Path) -> None:
    jobs = batch(200)

    async def scene(courier: MaildirCourier, record: Record) -> None:
        courier.deliver(jobs)
        courier.close()
        assert not record.outcomes

    record = play(tmp_path, scene, idle_s=60)
    (left,) = record.left
    assert [wanted for wanted, _ in record.outcomes] + list(left) == jobs
    assert {status for _, status in record.outcomes} == {"delivered"}
    assert n_stored(tmp_path) == len(record.outcomes) > 0
    assert left


def test_courier_close_when_idle_ends_at_once(tmp_path: Path) -> None:
    async def scene(courier: MaildirCourier, record: Record) -> None:
        courier.close()
        assert record.ended.is_set()
        courier.close()
        courier.abort()
        courier.deliver(batch(1))

    assert play(tmp_path, scene, idle_s=60).outcomes == []


def test_courier_abort_defers_what_is_under_way_and_a_repeat_is_no_second_copy(tmp_path: Path) -> None:
    jobs = batch(100)

    async def scene(courier: MaildirCourier, record: Record) -> None:
        courier.deliver(jobs)
        courier.abort()
        assert record.ended.is_set()

    record = play(tmp_path, scene, idle_s=60)
    (left,) = record.left
    assert [wanted for wanted, _ in record.outcomes] + list(left) == jobs
    assert {status for _, status in record.outcomes} == {"deferred"}

    async def again(courier: MaildirCourier, record: Record) -> None:
        courier.deliver(jobs)

    assert len(play(tmp_path, again).outcomes) == 100
    assert n_stored(tmp_path) == 100


@pytest.mark.parametrize("verb", ["deliver", "close", "abort"])
def test_courier_called_from_within_a_report_waits_till_after(tmp_path: Path, verb: str) -> None:
    jobs = batch(10)
    more = batch(3)

    async def scene(courier: MaildirCourier, record: Record) -> None:
        record.on_done = {"deliver": lambda: courier.deliver(more), "close": courier.close, "abort": courier.abort}[
            verb
        ]
        courier.deliver(jobs)

    record = play(tmp_path, scene)
    assert record.outcomes == [(wanted, "delivered") for wanted in (jobs + more if verb == "deliver" else jobs)]
    assert record.left == [()]
