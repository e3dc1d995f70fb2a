"""`mta events`: what is in the segments, as it stands there."""

import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mta.report import SegmentWriter
from mta.report.consumer import Consumer
from tests.report.samples import SEGMENT_OCTETS, rows

MTA = str(Path(sys.executable).parent / "mta")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "mta.toml"
    path.write_text('hostname = "mx.test"\ndata_dir = "data"\n[[listener]]\n')
    return path


@pytest.fixture
def consumer(tmp_path: Path) -> Iterator[Consumer]:
    writer = SegmentWriter(str(tmp_path / "data" / "events"), SEGMENT_OCTETS, 0)
    made = Consumer(writer)
    for first in range(1, 301, 50):
        made.take(rows(first, 50))
    yield made
    writer.close()


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([MTA, "events", *arguments], check=False, capture_output=True, text=True, timeout=30)


def seqs(lines: str) -> list[int]:
    return [json.loads(line)["seq"] for line in lines.splitlines()]


@pytest.mark.parametrize(
    ("arguments", "first"), [((), 1), (("--since", "0"), 1), (("--since", "120"), 120), (("--since", "301"), 301)]
)
@pytest.mark.usefixtures("consumer")
def test_events_prints_from_a_number_on(config: Path, arguments: tuple[str, ...], first: int) -> None:
    done = run("-c", config, *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert seqs(done.stdout) == list(range(first, 301))


@pytest.mark.parametrize(("arguments", "firsts"), [((), range(301, 1000)), (("--since", "290"), range(290, 291))])
def test_events_follow_goes_on_until_interrupted(
    config: Path, consumer: Consumer, arguments: tuple[str, ...], firsts: range
) -> None:
    # What a shell starts in the background ignores SIGINT, and so would all that the tests start.
    command = ["env", "--default-signal=INT", MTA, "events", "-c", str(config), "--follow", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        late = threading.Timer(30, process.kill)
        late.start()
        try:
            # From now on: its first line tells when that is.
            last = 300
            while not select.select([process.stdout], [], [], 0.1)[0]:
                last += 1
                consumer.take(rows(last, 1))
            first = json.loads(process.stdout.readline())["seq"]
            assert first in firsts
            for n_rows in (60, 5):
                consumer.take(rows(last + 1, n_rows))
                last += n_rows
            wanted = list(range(first + 1, last + 1))
            assert [json.loads(process.stdout.readline())["seq"] for _ in wanted] == wanted
            process.send_signal(signal.SIGINT)
            assert process.wait(10) == 0
            assert process.stdout.read() + process.stderr.read() == ""
        finally:
            late.cancel()
            process.kill()


@pytest.mark.usefixtures("consumer")
def test_events_closed_pipe_ends_quietly(config: Path) -> None:
    read_fd, write_fd = os.pipe()
    os.close(read_fd)
    with os.fdopen(write_fd, "w") as closed:
        done = subprocess.run(
            [MTA, "events", "-c", str(config)],
            check=False,
            stdout=closed,
            stderr=subprocess.PIPE,
            text=True,
            timeout=30,
        )
    assert (done.returncode, done.stderr) == (0, "")


def test_events_directory_missing_is_one_sentence(config: Path, tmp_path: Path) -> None:
    done = run("-c", config)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"mta: {tmp_path}/data/events: events cannot be read: No such file or directory\n"


def test_events_bad_configuration_and_usage_exit_2(config: Path) -> None:
    assert run("-c", config, "--since", "x").returncode == 2
    assert run("-c", config.with_name("none.toml")).returncode == 2
    assert run().returncode == 2
