"""Carries events from the outbox into segments: renders them, and keeps their numbers without gap or repeat.

Rule: the number of an event is that of its line. What cannot be rendered becomes a `fault` line of the same number.
Called by `mta: report`, again and again with what the outbox holds behind `last_seq`.
"""

from collections.abc import Sequence

import msgspec

from mta.message import now_ms
from mta.report.events import Fault, decode, to_json
from mta.report.segments import GapError, SegmentReader, SegmentWriter

__all__ = ["Consumer"]

Row = tuple[int, bytes]
"""(sequence number, encoded event)"""


class Consumer:
    """The way of events into the files of one directory."""

    def __init__(self, writer: SegmentWriter) -> None:
        self._writer = writer
        self._known_seq = 0

    @property
    def last_seq(self) -> int:
        """The sequence number up to which events are safe in files, 0 for none."""
        return self._writer.last_seq

    def take(self, rows: Sequence[Row]) -> None:
        """Write rows, in ascending order, and flush them; those up to `last_seq` are there already and are skipped.

        After an OSError none of them counts as written: call again with the same rows.

        Raises:
            GapError: a number is missing, between the files and the rows or within the rows.
        """
        new = [row for row in rows if row[0] > self.last_seq] if rows and rows[0][0] <= self.last_seq else rows
        if not new:
            return
        first, last = new[0][0], new[-1][0]
        if last - first + 1 != len(new):
            raise GapError(f"{len(new)} events came for the numbers {first} to {last}: the outbox has lost some")
        self._writer.append(first, [_render(seq, data) for seq, data in new])

    def compare(self, row: Row) -> None:
        """Make sure that `row`, numbered `last_seq` or lower, is what stands in the files under its number.

        A queue that was made anew counts from 1 again; without this its events would be taken for old ones, and lost.

        Raises:
            GapError: it is not.
        """
        seq, data = row
        if seq == self._known_seq:
            return
        if _identity(self._written(seq)) != _identity(_render(seq, data)):
            raise GapError(
                f"{self._writer.directory}: event {seq} here is not event {seq} of the queue: "
                f"these files belong to another queue; move them away"
            )
        self._known_seq = seq

    def _written(self, seq: int) -> bytes:
        reader = SegmentReader(str(self._writer.directory), seq)
        try:
            return reader.read().partition(b"\n")[0]
        except ValueError as error:
            raise GapError(str(error)) from error
        finally:
            reader.close()


def _render(seq: int, data: bytes) -> bytes:
    try:
        return to_json(seq, decode(data))
    except (msgspec.DecodeError, ValueError, OverflowError, OSError) as error:
        detail = f"event {seq} cannot be read ({error}): {data.hex()}"
        return to_json(seq, Fault(now_ms(), b"", "", "report", detail))


def _identity(line: bytes) -> tuple[object, ...]:
    """Return what every version renders alike, and at any time: a fault of ours carries the time of rendering."""
    try:
        row = msgspec.json.decode(line, type=dict[str, object])
    except msgspec.DecodeError:
        return ()
    is_ours = row.get("where") == "report"
    return (row.get("seq"), row.get("event"), row.get("id"), "" if is_ours else row.get("at"))
