"""The machine that is measured on, and how fast it flushes: what every other figure has to be read against."""

import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import lmdb
import msgspec

__all__ = ["Flush", "Machine", "describe", "time_commits", "time_fdatasyncs"]

N_FLUSHES = 1000
# On a disk that takes 20 ms for each it shall not take minutes.
MOST_S = 1.0
BLOCK = 4096
N_BLOCKS = 256
# A message of 4 KB, in rows as large as the queue's may be (mta/store/codec.py).
ROW = bytes(2000)
N_ROWS = 2


class Flush(msgspec.Struct, frozen=True):
    """How long one takes, microseconds."""

    p50_us: float
    p99_us: float


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """What has to be the same for figures to stand in one file."""

    cpu: str
    cores: int
    memory_octets: int
    kernel: str
    file_system: str
    """Of the folder for temporary files, where all queues are (TMPDIR)."""
    python: str


def _file_system_of(path: str) -> str:
    """Return the type of the file system that holds `path`, as in "ext4"."""
    mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines()]
    holding = [(len(Path(point).parts), kind) for point, kind in mounts if Path(path).is_relative_to(point)]
    return max(holding)[1] if holding else ""


def _time(flush: Callable[[int], object]) -> Flush:
    took_us: list[float] = []
    end_at = time.monotonic() + MOST_S
    while len(took_us) < N_FLUSHES and (len(took_us) < 10 or time.monotonic() < end_at):
        began = time.perf_counter()
        flush(len(took_us))
        took_us.append((time.perf_counter() - began) * 1e6)
    took_us.sort()
    return Flush(round(took_us[len(took_us) // 2], 1), round(took_us[len(took_us) * 99 // 100], 1))


def time_fdatasyncs() -> Flush:
    """Time writing 4 KB over what a file holds already, and fdatasync; a second at most."""
    with tempfile.TemporaryFile() as file:
        file.write(bytes(BLOCK * N_BLOCKS))
        file.flush()
        os.fsync(file.fileno())

        def flush(number: int) -> None:
            os.pwrite(file.fileno(), number.to_bytes(8, "big") * (BLOCK // 8), number % N_BLOCKS * BLOCK)
            os.fdatasync(file.fileno())

        return _time(flush)


def time_commits() -> Flush:
    """Time a transaction that puts 4 KB into an LMDB environment, and its commit; a second at most."""
    with tempfile.TemporaryDirectory() as directory, lmdb.open(directory, map_size=1 << 26) as env:

        def flush(number: int) -> None:
            with env.begin(write=True) as txn:
                for row in range(N_ROWS):
                    txn.put((number * N_ROWS + row).to_bytes(8, "big"), ROW)

        return _time(flush)


def describe() -> Machine:
    """Look at this machine."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return Machine(
        cpu=next(models, platform.machine()),
        cores=len(os.sched_getaffinity(0)),
        memory_octets=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        kernel=platform.release(),
        file_system=_file_system_of(tempfile.gettempdir()),
        python=platform.python_version(),
    )
