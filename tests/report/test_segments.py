"""Segments: what is written is there, whole and once, whatever happens to the writer."""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mta.errors import StartError
from mta.report import GapError, SegmentReader, SegmentWriter, last_seq
from tests.report.samples import SEGMENT_OCTETS, read_all


def line(seq: int) -> bytes:
    return b'{"seq":%d,"event":"x"}' % seq


def lines(first: int, last: int) -> list[bytes]:
    return [line(seq) for seq in range(first, last + 1)]


def text(first: int, last: int) -> bytes:
    return b"".join(row + b"\n" for row in lines(first, last))


def write(directory: Path, *batches: tuple[int, int], segment_octets: int = 1000) -> None:
    writer = SegmentWriter(str(directory), segment_octets, 0)
    for first, last in batches:
        writer.append(first, lines(first, last))
    writer.close()


def read(directory: Path, since: int) -> bytes:
    reader = SegmentReader(str(directory), since)
    blocks = b"".join(iter(reader.read, b""))
    reader.close()
    return blocks


def names(directory: Path) -> list[int]:
    return sorted(int(path.name[7:27]) for path in directory.iterdir())


def test_writer_rotates_past_the_size_and_names_after_the_first_line(tmp_path: Path) -> None:
    write(tmp_path / "new" / "events", (1, 10), (11, 50), (51, 60), (61, 61), segment_octets=500)
    directory = tmp_path / "new" / "events"
    assert names(directory) == [1, 51]
    assert read(directory, 0) == text(1, 61)
    assert last_seq(str(directory)) == 61


def test_writer_new_directory_takes_any_number_then_the_next_only(tmp_path: Path) -> None:
    writer = SegmentWriter(str(tmp_path), 1000, 0)
    assert writer.last_seq == 0
    writer.append(700, lines(700, 701))
    assert writer.last_seq == 701
    for wrong in (701, 703, 1):
        with pytest.raises(GapError, match=str(tmp_path)):
            writer.append(wrong, lines(wrong, wrong))
    writer.append(702, lines(702, 702))
    writer.close()
    assert read(tmp_path, 0) == text(700, 702)


@pytest.mark.parametrize(
    ("tail", "kept"),
    [
        # A line that was cut anywhere.
        (b"{", 3),
        (b'{"seq":4', 3),
        (line(4), 3),
        # Blocks that never reached the disk read as NULs, with whole lines behind them.
        (b"\0" * 100, 3),
        (b"\0" * 30 + b"\n" + text(5, 6), 3),
        (b'{"seq":4,\0\0\0}\n' + text(5, 6), 3),
        # Numbers that do not go on.
        (text(5, 5), 3),
        (text(3, 3), 3),
        # Nothing wrong.
        (b"", 3),
        (text(4, 4), 4),
        (text(4, 4) + b"x", 4),
    ],
)
def test_writer_torn_tail_is_cut_and_writing_goes_on(tmp_path: Path, tail: bytes, kept: int) -> None:
    write(tmp_path, (1, 3))
    with next(tmp_path.iterdir()).open("ab") as segment:
        segment.write(tail)
    writer = SegmentWriter(str(tmp_path), 1000, 0)
    assert writer.last_seq == kept
    writer.append(kept + 1, lines(kept + 1, kept + 2))
    writer.close()
    assert read(tmp_path, 0) == text(1, kept + 2)


@pytest.mark.parametrize("content", [b"", b'{"seq":21', b"\0\0"])
def test_writer_newest_segment_without_a_whole_line_is_used_again(tmp_path: Path, content: bytes) -> None:
    write(tmp_path, (1, 20))
    (tmp_path / f"events-{21:020d}.jsonl").write_bytes(content)
    assert last_seq(str(tmp_path)) == 20
    write(tmp_path, (21, 22))
    assert read(tmp_path, 19) == text(19, 22)


def test_writer_failed_write_leaves_nothing_and_can_be_repeated(tmp_path: Path) -> None:
    # A real full device: a limit on the size of files this process makes.
    script = f"""
import resource, signal
from mta.report import SegmentWriter
from tests.report.test_segments import lines
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
writer = SegmentWriter({str(tmp_path)!r}, 1 << 20, 0)
writer.append(1, lines(1, 10))
resource.setrlimit(resource.RLIMIT_FSIZE, (500, resource.RLIM_INFINITY))
for _ in range(3):
    try:
        writer.append(11, lines(11, 60))
    except OSError:
        assert writer.last_seq == 10
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
writer.append(11, lines(11, 60))
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=30)
    assert read(tmp_path, 0) == text(1, 60)


def test_writer_deleted_segment_is_not_written_on(tmp_path: Path) -> None:
    writer = SegmentWriter(str(tmp_path), 1000, 0)
    writer.append(1, lines(1, 2))
    next(tmp_path.iterdir()).unlink()
    writer.append(3, lines(3, 4))
    writer.close()
    assert read(tmp_path, 0) == text(3, 4)


def test_writer_expire_deletes_what_is_old_and_not_pending_and_never_the_newest(tmp_path: Path) -> None:
    write(tmp_path, (1, 50), (51, 100), (101, 150), (151, 160))
    now = time.time()
    for path in tmp_path.iterdir():
        os.utime(path, (now - 1000, now - 1000))
    writer = SegmentWriter(str(tmp_path), 1000, 100)
    writer.expire(now - 950, 161)
    assert names(tmp_path) == [1, 51, 101, 151]
    writer.expire(now, 75)
    assert names(tmp_path) == [51, 101, 151]
    writer.expire(now, 161)
    assert names(tmp_path) == [151]
    writer.close()
    forever = SegmentWriter(str(tmp_path), 1, 0)
    forever.append(161, lines(161, 161))
    forever.expire(now + 1e9, 162)
    forever.close()
    assert names(tmp_path) == [151, 161]


def test_writer_directory_that_is_a_file_is_a_start_error(tmp_path: Path) -> None:
    (tmp_path / "events").touch()
    with pytest.raises(StartError, match=f"{tmp_path}/events: events cannot be written"):
        SegmentWriter(str(tmp_path / "events"), 1000, 0)


def test_writer_directory_in_use_is_a_start_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mta.report.segments.LOCK_S", 0.1)
    writer = SegmentWriter(str(tmp_path), 1000, 0)
    with pytest.raises(StartError, match="another server writes there"):
        SegmentWriter(str(tmp_path), 1000, 0)
    writer.close()
    SegmentWriter(str(tmp_path), 1000, 0).close()


@pytest.mark.parametrize("since", [0, 1, 2, 49, 50, 51, 52, 100, 101, 159, 160, 161, 1000])
def test_reader_since_any_number_gives_the_rest(tmp_path: Path, since: int) -> None:
    write(tmp_path, (1, 50), (51, 100), (101, 150), (151, 160))
    assert read(tmp_path, since) == text(max(since, 1), 160)


@pytest.mark.parametrize("octets", [1, 10, 30, 4096])
def test_reader_any_size_of_reads_gives_the_same(tmp_path: Path, octets: int, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, (1, 50), (51, 100), (101, 120))
    monkeypatch.setattr("mta.report.segments.READ_OCTETS", octets)
    assert read(tmp_path, 7) == text(7, 120)


def test_reader_deleted_segments_are_passed_over(tmp_path: Path) -> None:
    write(tmp_path, (1, 50), (51, 100), (101, 120))
    (tmp_path / f"events-{1:020d}.jsonl").unlink()
    assert read(tmp_path, 7) == text(51, 120)


def test_reader_follows_across_segments_and_torn_lines(tmp_path: Path) -> None:
    reader = SegmentReader(str(tmp_path / "events"), 3)
    with pytest.raises(FileNotFoundError):
        reader.read()
    writer = SegmentWriter(str(tmp_path / "events"), 1000, 0)
    assert reader.read() == b""
    writer.append(1, lines(1, 2))
    assert reader.read() == b""
    writer.append(3, lines(3, 5))
    assert reader.read() == text(3, 5)
    assert reader.read() == b""
    # Appended and rotated between two looks.
    writer.append(6, lines(6, 60))
    writer.append(61, lines(61, 62))
    assert reader.read() == text(6, 60)
    assert reader.read() == text(61, 62)
    with sorted((tmp_path / "events").iterdir())[-1].open("ab") as segment:
        segment.write(line(63)[:5])
        segment.flush()
        assert reader.read() == b""
        segment.write(line(63)[5:] + b"\n")
    assert reader.read() == text(63, 63)
    writer.close()
    reader.close()


def test_reader_file_without_events_is_a_value_error(tmp_path: Path) -> None:
    (tmp_path / f"events-{1:020d}.jsonl").write_bytes(b"something else\n")
    reader = SegmentReader(str(tmp_path), 0)
    with pytest.raises(ValueError, match=str(tmp_path)):
        reader.read()
    reader.close()


def test_last_seq_of_nothing_is_0(tmp_path: Path) -> None:
    assert last_seq(str(tmp_path / "none")) == last_seq(str(tmp_path)) == 0


def test_writer_killed_at_random_leaves_no_gap_and_no_repeat(tmp_path: Path) -> None:
    chance = random.Random(7)
    confirmed = 0
    for _ in range(8):
        command = [sys.executable, "-m", "tests.report.samples", "write", str(tmp_path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            first = process.stdout.readline()
            time.sleep(chance.random() * 0.1)
            process.kill()
            said = (first + process.stdout.read()).split()
        confirmed = int(said[-1])
        # One batch may have been written and not yet confirmed.
        assert confirmed <= last_seq(str(tmp_path)) <= confirmed + 50
    write(tmp_path, segment_octets=SEGMENT_OCTETS)
    seqs = read_all(tmp_path)
    assert seqs == list(range(1, len(seqs) + 1))
    assert len(seqs) >= confirmed > 400
