"""Events to write, and the children that write them until they are killed."""

import json
import os
import resource
import signal
import socket
import sys
import time
from pathlib import Path

from mta.child import Child
from mta.config import Config, Events, Listener
from mta.message import now_ms
from mta.report import Delivered, SegmentWriter, encode
from mta.report.consumer import Consumer
from mta.report.main import main

SEGMENT_OCTETS = 20_000


def sample(number: int) -> bytes:
    """Return an encoded event that can be told from all others."""
    recipient = f"user{number}@example.test"
    return encode(Delivered(now_ms(), b"\x01" * 16, "default", recipient, 0, 1, 250, "2.0.0", "", "", "ü\nx", 0.25, 0))


def rows(first: int, n_rows: int) -> list[tuple[int, bytes]]:
    """Return rows of the outbox, numbered from `first` on."""
    return [(seq, sample(seq)) for seq in range(first, first + n_rows)]


def read_all(directory: Path) -> list[int]:
    """Return the numbers of all lines in all segments, in order; every line must be whole JSON of its number."""
    seqs: list[int] = []
    for path in sorted(directory.glob("events-*.jsonl")):
        lines = path.read_bytes().splitlines(keepends=True)
        for number, line in enumerate(lines):
            row = json.loads(line)
            assert line.endswith(b"}\n")
            assert row["recipient"] == f"user{row['seq']}@example.test"
            if number == 0:
                assert path.name == f"events-{row['seq']:020d}.jsonl"
            seqs.append(row["seq"])
    return seqs


def config_of(data_dir: Path) -> Config:
    """Return a configuration whose events are in small segments."""
    events = Events(directory=str(data_dir / "events"), segment_octets=SEGMENT_OCTETS)
    return Config(hostname="mx.test", data_dir=str(data_dir), listener=(Listener(),), events=events)


def write_for_ever(directory: str) -> None:
    """Append batches, and print the number of the last safe line after each."""
    consumer = Consumer(SegmentWriter(directory, SEGMENT_OCTETS, 0))
    while True:
        # As the outbox does: some of what is told was there already.
        first = max(consumer.last_seq - 3, 1)
        consumer.take(rows(first, 50))
        os.write(1, b"%d\n" % consumer.last_seq)
        time.sleep(0.001)


def report(data_dir: str, control: str, outbox: str, file_octets: str) -> int:
    """Be the process `mta: report`, with the master's and the queue's ends elsewhere; no file may get past a size."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(file_octets), resource.RLIM_INFINITY))
    ours = socket.socket(fileno=int(control))
    ours.setblocking(False)
    return main(Child("report", 0, config_of(Path(data_dir)), ours, outbox=socket.socket(fileno=int(outbox))))


if __name__ == "__main__":
    if sys.argv[1] == "write":
        write_for_ever(sys.argv[2])
    sys.exit(report(*sys.argv[2:]))
