"""The process `mta: report` with a real outbox: what is confirmed is in files, nothing is lost, whatever is killed."""

import contextlib
import os
import random
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from mta.report import last_seq
from mta.store import Writer
from tests.report.samples import read_all, sample

WAIT_S = 10.0


class Stage:
    """The master's end, the queue's end, and an outbox; reports come and go."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.events = data_dir / "events"
        self.inbox, self.outbox = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.inbox.setblocking(False)
        self.n_events = 0
        self._writer: Writer | None = None
        self._running: list[tuple[subprocess.Popen[bytes], socket.socket]] = []

    @property
    def writer(self) -> Writer:
        """The queue, made when it is first needed."""
        if self._writer is None:
            self._writer = Writer(str(self.data_dir), 1 << 24)
        return self._writer

    def start(self, file_octets: int = resource.RLIM_INFINITY) -> tuple[subprocess.Popen[bytes], socket.socket]:
        """Start a report; return it and the master's end of its control channel."""
        control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        control.setblocking(False)
        fds = (theirs.fileno(), self.outbox.fileno())
        arguments = ("report", self.data_dir, *fds, file_octets)
        command = [sys.executable, "-m", "tests.report.samples", *map(str, arguments)]
        process = subprocess.Popen(command, pass_fds=fds, stderr=subprocess.PIPE)
        theirs.close()
        self._running.append((process, control))
        return process, control

    def add(self, n_events: int) -> None:
        """Commit events to the outbox."""
        self.writer.begin()
        for _ in range(n_events):
            self.n_events += 1
            self.writer.add_event(sample(self.n_events))
        self.writer.commit()

    def confirmed(self) -> int:
        """Return the highest number that a report said is safe; what is confirmed must be in the files."""
        seq = 0
        while True:
            try:
                seq = int.from_bytes(self.inbox.recv(9), "big")
            except BlockingIOError:
                assert seq <= last_seq(str(self.events))
                return seq

    def remove(self, seq: int) -> None:
        """Delete from the outbox what is confirmed."""
        self.writer.begin()
        while self.writer.remove_events(seq, 1000):
            pass
        self.writer.commit()

    def close(self) -> None:
        """End everything."""
        for process, control in self._running:
            process.kill()
            process.wait()
            control.close()
            if process.stderr is not None:
                process.stderr.close()
        self.inbox.close()
        self.outbox.close()
        if self._writer is not None:
            self._writer.close()


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end, "this should have happened by now"
        time.sleep(0.01)


def words(control: socket.socket) -> list[str]:
    """Return the words that a child has told."""
    heard: list[str] = []
    while True:
        try:
            packet = control.recv(4096)
        except BlockingIOError:
            return heard
        heard.append(msgspec.msgpack.decode(packet)[0])


def ready(control: socket.socket) -> None:
    """Wait until a child has checked in."""
    until(lambda: "ready" in words(control))


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    made = Stage(tmp_path)
    yield made
    made.close()


def test_report_is_ready_before_there_is_a_queue_and_beats(stage: Stage) -> None:
    _, control = stage.start()
    heard: list[str] = []

    def has_beaten_twice() -> bool:
        heard.extend(words(control))
        return heard.count("beat") >= 2

    until(has_beaten_twice)
    assert heard[0] == "ready"
    stage.add(3)
    until(lambda: stage.confirmed() == 3)
    assert read_all(stage.events) == [1, 2, 3]


def test_report_term_drains_the_outbox_and_exits_0(stage: Stage) -> None:
    stage.add(12_000)
    process, control = stage.start()
    ready(control)
    process.terminate()
    assert process.wait(WAIT_S) == 0
    assert read_all(stage.events) == list(range(1, 12_001))
    assert stage.confirmed() == 12_000


def test_report_term_without_a_queue_exits_0(stage: Stage) -> None:
    process, control = stage.start()
    ready(control)
    process.terminate()
    assert process.wait(WAIT_S) == 0


def test_report_master_gone_drains_and_exits_0(stage: Stage) -> None:
    stage.add(10)
    process, control = stage.start()
    ready(control)
    control.close()
    assert process.wait(WAIT_S) == 0
    assert read_all(stage.events) == list(range(1, 11))


def test_report_confirms_again_while_the_outbox_still_holds_what_is_safe(stage: Stage) -> None:
    stage.add(5)
    process, _ = stage.start()
    until(lambda: stage.confirmed() == 5)
    until(lambda: stage.confirmed() == 5)
    process.kill()
    stage.start()
    until(lambda: stage.confirmed() == 5)
    stage.remove(5)
    stage.add(2)
    until(lambda: stage.confirmed() == 7)
    assert read_all(stage.events) == list(range(1, 8))


def test_report_full_confirmation_channel_holds_nothing_up(stage: Stage) -> None:
    stage.outbox.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            stage.outbox.send(bytes(8))
    stage.add(5)
    stage.start()
    until(lambda: stage.events.is_dir() and last_seq(str(stage.events)) == 5)
    until(lambda: stage.confirmed() == 5)


def test_report_killed_at_random_loses_and_repeats_nothing(stage: Stage) -> None:
    chance = random.Random(5)
    safe = 0
    stage.add(1)
    for _ in range(4):
        process, control = stage.start()
        ready(control)
        end = time.monotonic() + 0.1 + chance.random() * 0.3
        while time.monotonic() < end:
            stage.add(chance.randrange(1, 60))
            safe = max(safe, stage.confirmed())
            stage.remove(safe)
            time.sleep(0.005)
        process.kill()
        process.wait()
    process, control = stage.start()
    ready(control)
    process.terminate()
    assert process.wait(WAIT_S) == 0
    assert read_all(stage.events) == list(range(1, stage.n_events + 1))


def test_report_disk_full_says_so_once_and_goes_on_when_there_is_room(stage: Stage) -> None:
    stage.add(100)
    process, control = stage.start(file_octets=5000)
    until(lambda: words(control).count("beat") >= 1)
    time.sleep(1.2)
    assert stage.confirmed() == 0
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    until(lambda: stage.confirmed() == 100)
    process.terminate()
    assert process.wait(WAIT_S) == 0
    assert process.stderr is not None
    said = process.stderr.read().decode().splitlines()
    assert said == [
        f"mta: {stage.events}: events cannot be written, they wait in the queue: File too large",
        f"mta: {stage.events}: events are written again",
    ]
    assert read_all(stage.events) == list(range(1, 101))


def test_report_directory_that_cannot_be_written_exits_1_with_a_sentence(stage: Stage) -> None:
    stage.events.touch()
    process, _ = stage.start()
    assert process.wait(WAIT_S) == 1
    assert process.stderr is not None
    assert process.stderr.read() == f"mta: {stage.events}: events cannot be written: Not a directory\n".encode()


def test_report_files_of_another_queue_exit_1_and_confirm_nothing(stage: Stage) -> None:
    stage.events.mkdir()
    (stage.events / f"events-{1:020d}.jsonl").write_bytes(
        b"".join(b'{"seq":%d,"at":"","event":"started","id":""}\n' % seq for seq in range(1, 50))
    )
    process, _ = stage.start()
    time.sleep(0.3)
    stage.add(1)
    assert process.wait(WAIT_S) == 1
    assert process.stderr is not None
    assert b"belong to another queue; move them away" in process.stderr.read()
    assert stage.confirmed() == 0
    assert len(stage.writer.look("event", b"", 10)) == 1


def test_report_does_not_wait_for_the_clock_to_end(stage: Stage) -> None:
    process, control = stage.start()
    ready(control)
    # Past ten empty rounds, so that a pause is half a second.
    time.sleep(1.3)
    began = time.monotonic()
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(WAIT_S) == 0
    assert time.monotonic() - began < 0.4
