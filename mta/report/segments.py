"""The event files: JSON lines in segments, each named after the sequence number of its first line.

    events-00000000000000000001.jsonl
    events-00000000000000213370.jsonl      the newest; only this one is ever written

Rule 1: sequence numbers run without gaps, within a segment and from one to the next.
Rule 2: what `append` returned from is on the disk. A line that is not there whole is cut off before writing goes on.

`mta: report` has the one SegmentWriter of a directory; anybody may read with a SegmentReader, at any time, also while
the server is stopped. Both raise OSError for what the file system refuses.
"""

import errno
import fcntl
import os
import re
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from mta.errors import StartError

__all__ = ["GapError", "SegmentReader", "SegmentWriter", "last_seq"]

READ_OCTETS = 1 << 20
# How long a predecessor may take to end before its directory counts as somebody else's.
LOCK_S = 5.0

_NAME = re.compile(r"events-([0-9]{20})\.jsonl")
_LINE = re.compile(rb'\{"seq":([0-9]+),')


class GapError(Exception):
    """Files and outbox do not fit together; the text is a sentence for the operator."""


def last_seq(directory: str) -> int:
    """Return the sequence number of the last whole line; 0 when there is none, or no such directory."""
    try:
        found = _segments(Path(directory))
        if not found:
            return 0
        first, path = found[-1]
        data = path.read_bytes()
    except FileNotFoundError:
        return 0
    end = data.rfind(b"\n")
    if end < 0:
        return first - 1
    return _seq_at(data, data.rfind(b"\n", 0, end) + 1, path)


class SegmentWriter:
    """Appends lines to the newest segment of a directory, starts new ones, deletes old ones.

    Opening takes a lock on the directory, checks the newest segment line by line and cuts off what a crash left torn.
    """

    last_seq: int
    """Sequence number of the last line that is safe; 0 while there is none."""

    def __init__(self, directory: str, segment_octets: int, keep_s: float) -> None:
        """Open the directory, made if it is missing. Raises StartError when it cannot be written."""
        self.directory = Path(directory)
        self.last_seq = 0
        self._segment_octets = segment_octets
        self._keep_s = keep_s
        self._fd = -1
        self._directory_fd = -1
        self._octets = 0
        self._is_new = True
        self._is_torn = False
        try:
            self._open_directory()
            self._resume()
        except OSError as error:
            self.close()
            raise StartError(f"{error.filename or directory}: events cannot be written: {error.strerror}") from error

    def append(self, first_seq: int, lines: Sequence[bytes]) -> None:
        """Write lines (without line ends), numbered from `first_seq` on, and flush them to the disk.

        After an OSError nothing counts as written: call again with the same lines.

        Raises:
            GapError: `first_seq` does not follow `last_seq`; a directory without segments takes any.
        """
        if not self._is_new and first_seq != self.last_seq + 1:
            raise GapError(
                f"{self.directory}: the last event here is {self.last_seq}, the next one in the queue {first_seq}: "
                f"these files were changed or belong to another queue; move them away"
            )
        # Files may be deleted under our hands; writing on into one without a name would lose events unseen.
        if self._fd < 0 or self._octets >= self._segment_octets or os.fstat(self._fd).st_nlink == 0:
            self._start_segment(first_seq)
        if self._is_torn:
            # Pages that failed to reach the disk may read as if they had: only what was flushed before stays.
            os.ftruncate(self._fd, self._octets)
        data = b"\n".join((*lines, b""))
        self._is_torn = True
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]
        os.fdatasync(self._fd)
        self._is_torn = self._is_new = False
        self._octets += len(data)
        self.last_seq = first_seq + len(lines) - 1

    def expire(self, now: float, pending_seq: int) -> None:
        """Delete segments last written more than `keep_s` before `now` (wall clock, seconds), never the newest.

        Lines numbered `pending_seq` or higher stay whatever their age: the outbox still holds them.
        """
        if self._keep_s <= 0:
            return
        # Oldest first, and none behind one that stays: what is left has no hole.
        for (_, path), (next_first, _) in pairwise(_segments(self.directory)):
            if next_first > pending_seq or path.stat().st_mtime + self._keep_s >= now:
                break
            path.unlink()

    def close(self) -> None:
        """Close the files and release the directory."""
        for fd in (self._fd, self._directory_fd):
            if fd >= 0:
                os.close(fd)
        self._fd = self._directory_fd = -1

    def _open_directory(self) -> None:
        if not self.directory.exists():
            self.directory.mkdir(mode=0o750, parents=True)
            _flush_directory(self.directory.parent)
        self._directory_fd = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        if not os.access(self.directory, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self.directory))
        # Two servers with one directory would tear each other's lines.
        until = time.monotonic() + LOCK_S
        while True:
            try:
                return fcntl.flock(self._directory_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                if time.monotonic() > until:
                    raise BlockingIOError(error.errno, "another server writes there", str(self.directory)) from error
            time.sleep(0.05)

    def _resume(self) -> None:
        found = _segments(self.directory)
        if not found:
            return
        first, path = found[-1]
        self._is_new = False
        self._fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        self.last_seq, self._octets = _whole_lines(path.read_bytes(), first)
        os.ftruncate(self._fd, self._octets)
        # A predecessor that was killed may have written these lines without having flushed them.
        os.fsync(self._fd)
        os.fsync(self._directory_fd)

    def _start_segment(self, first_seq: int) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        path = self.directory / f"events-{first_seq:020d}.jsonl"
        # O_TRUNC: if there is one of this name, an earlier attempt failed behind this line and nothing in it is safe.
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o640)
        try:
            _flush_directory(self.directory)
        except OSError:
            os.close(fd)
            raise
        self._fd, self._octets, self._is_torn = fd, 0, False


class SegmentReader:
    """Reads lines from a sequence number on, across segments, up to what is there now; then `read` again for more."""

    def __init__(self, directory: str, since: int) -> None:
        """Read lines numbered `since` or higher; what was deleted already is passed over. Opens nothing yet."""
        self._directory = Path(directory)
        self._next_seq = since
        self._fd = -1
        self._path = self._directory
        self._first = -1
        self._offset = 0

    def read(self) -> bytes:
        """Return the next whole lines with their line ends, 1 MiB or a little more; b"" when there are none now.

        Raises FileNotFoundError while there is no such directory, ValueError for a file that does not hold event lines.
        """
        while True:
            # Looked up before reading: once there is a newer segment, the one that is open does not grow any more.
            onward = self._onward()
            if self._fd >= 0 and (block := self._read_block()):
                return block
            if onward is None:
                return b""
            self._open(*onward)

    def close(self) -> None:
        """Close the segment that is open."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _onward(self) -> tuple[int, Path] | None:
        """Return the newer segment that holds the wanted number, else the oldest newer one, None without any."""
        newer = [row for row in _segments(self._directory) if row[0] > self._first]
        holding = [row for row in newer if row[0] <= self._next_seq]
        return holding[-1] if holding else newer[0] if newer else None

    def _open(self, first: int, path: Path) -> None:
        self.close()
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            # Deleted for its age since we looked; the next look finds what is left.
            return
        self._first, self._path, self._offset = first, path, 0

    def _read_block(self) -> bytes:
        """Return whole lines from the open segment, those below the wanted number left out."""
        octets = READ_OCTETS
        while data := os.pread(self._fd, octets, self._offset):
            end = data.rfind(b"\n") + 1
            if end == 0 and len(data) < octets:
                return b""
            if end == 0:
                octets *= 2
                continue
            self._offset += end
            first, n_lines = _seq_at(data, 0, self._path), data.count(b"\n", 0, end)
            n_below = max(self._next_seq - first, 0)
            self._next_seq = max(self._next_seq, first + n_lines)
            if n_below < n_lines:
                start = 0
                for _ in range(n_below):
                    start = data.index(b"\n", start) + 1
                return data[start:end]
        return b""


def _segments(directory: Path) -> list[tuple[int, Path]]:
    """Return (sequence number of the first line, path) of each segment, oldest first."""
    named = [(found, name) for name in os.listdir(directory) if (found := _NAME.fullmatch(name))]
    return sorted((int(found[1]), directory / name) for found, name in named)


def _flush_directory(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _seq_at(data: bytes, start: int, path: Path) -> int:
    line = _LINE.match(data, start)
    if line is None:
        raise ValueError(f"{path}: there is a line that is no event")
    return int(line[1])


def _whole_lines(data: bytes, first: int) -> tuple[int, int]:
    """Return (sequence number of the last good line, octets up to its end) of a segment that begins with `first`.

    After a power cut blocks may be missing in the middle, read as NULs, with later lines intact: the first line that is
    not as it must be ends what counts, and the outbox still has all that follows.
    """
    n_octets = data.find(b"\0")
    n_octets = len(data) if n_octets < 0 else n_octets
    whole = _all_lines(data, data.rfind(b"\n", 0, n_octets) + 1, first)
    if whole is not None:
        return whole
    seq, start = first - 1, 0
    while (end := data.find(b"\n", start, n_octets)) > start:
        line = _LINE.match(data, start)
        if line is None or int(line[1]) != seq + 1 or data[end - 1] != ord("}"):
            break
        seq, start = seq + 1, end + 1
    return seq, start


def _all_lines(data: bytes, end: int, first: int) -> tuple[int, int] | None:
    """Return what `_whole_lines` does if every line up to `end` is as it must be; None if that has to be looked into.

    A server with a full segment must not be slow to start: this counts, and reads two numbers.
    """
    n_lines = data.count(b"\n", 0, end)
    if not n_lines or data.count(b'}\n{"seq":', 0, end) != n_lines - 1 or data[end - 2] != ord("}"):
        return None
    line = _LINE.match(data, data.rfind(b"\n", 0, end - 1) + 1)
    head = _LINE.match(data, 0)
    if line is None or head is None or int(head[1]) != first or int(line[1]) != first + n_lines - 1:
        return None
    return first + n_lines - 1, end
