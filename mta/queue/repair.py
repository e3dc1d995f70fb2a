"""Mends a damaged queue while no server runs on it: `mta queue verify --repair`.

Rule: content is never destroyed. What cannot be read and what belongs to nothing is written into a file below
`data_dir/damaged/`, one for each run, and that file is flushed before a commit takes the rows out of the tables. Rows
that others tell are made again. A message of which content is lost is set aside with what is left of it.

`verify` says what is wrong and what would cure it; here the cures are carried out, and then it is asked again, until
it has nothing to say or nothing that can be cured. The tables are compared in a snapshot that is as old as the round:
so each cure looks whether its row is still what it was then, and leaves the rest to the next round.
"""

import contextlib
import itertools
import os
from base64 import b64encode
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from mta.address import canonical_domain
from mta.message import QueueName, now_ms
from mta.queue.salvage import extent_chunks, salvage, set_aside
from mta.report import Fault, decode
from mta.report import encode as encode_event
from mta.store import (
    Aside,
    Balance,
    Make,
    Move,
    Number,
    Refill,
    Requeue,
    Salvage,
    Writer,
    Wrong,
    balance,
    decode_message,
    decode_part,
    decode_recipient,
    due_row,
    encode,
    message_of,
    number,
    number_key,
    open_queue,
    queue_name_key,
    recipient_key,
    verify,
)

__all__ = ["repair"]

# Each round lays bare what the one before has cut loose; a handful is all that the tables are deep.
MOST_ROUNDS = 12
CURES_A_COMMIT = 500


def repair(data_dir: str, map_octets: int, say: Callable[[str], None]) -> list[Wrong]:
    """Mend what can be mended, and `say` so, a line each; return what is left.

    Only for the holder of the data_dir's lock. Raises StoreError, StorageFull or OSError: what was committed until then
    is in order, and another run goes on from there.
    """
    writer = Writer(data_dir, map_octets, for_repair=True)
    try:
        with contextlib.closing(Damaged(Path(data_dir, "damaged"))) as damaged:
            mender = _Repair(writer, damaged, say)
            for _ in range(MOST_ROUNDS):
                left = mender.round()
                if not mender.n_mended:
                    break
            return left
    finally:
        writer.close()


class Damaged:
    """The file of one run, made with its first row: a JSON object a line, key and value in base64."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._fd = -1
        self._lines: list[bytes] = []
        self.path = folder

    def add(self, table: str, key: bytes, value: bytes, what: str) -> None:
        """Take a row; it is safe after the next flush."""
        row = {"table": table, "key": b64encode(key).decode(), "value": b64encode(value).decode(), "what": what}
        self._lines.append(msgspec.json.encode(row) + b"\n")

    def flush(self) -> None:
        """Write what was taken; it is on the disk on return. Raises OSError."""
        if not self._lines:
            return
        if self._fd < 0:
            self._open()
        data = memoryview(b"".join(self._lines))
        while data:
            data = data[os.write(self._fd, data) :]
        os.fsync(self._fd)
        self._lines.clear()

    def _open(self) -> None:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        for turn in itertools.count(1):
            self.path = self._folder / (f"{stamp}.jsonl" if turn == 1 else f"{stamp}-{turn}.jsonl")
            with contextlib.suppress(FileExistsError):
                self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
                break
        for folder in (self._folder, self._folder.parent):
            fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)

    def close(self) -> None:
        """Close the file, if there is one."""
        if self._fd >= 0:
            os.close(self._fd)


class _Repair:
    """Carries out cures, many of them in one transaction."""

    def __init__(self, writer: Writer, damaged: Damaged, say: Callable[[str], None]) -> None:
        self._writer = writer
        self._damaged = damaged
        self._say = say
        self._said: list[str] = []
        self.n_mended = 0

    def round(self) -> list[Wrong]:
        """Look once and mend; return what was left. `n_mended` says how much was done."""
        self.n_mended = 0
        left: list[Wrong] = []
        # These take new numbers, and the numbers may be among what has to be mended first.
        later: list[Wrong] = []
        writer = self._writer
        with writer.snapshot() as snapshot:
            writer.begin()
            try:
                for wrong in verify(snapshot, decode):
                    if isinstance(wrong.cure, Salvage | Requeue):
                        later.append(wrong)
                    else:
                        self._mend(wrong, left)
                for wrong in later:
                    self._mend(wrong, left)
                self._commit()
            except BaseException:
                writer.abort()
                raise
        return left

    def _mend(self, wrong: Wrong, left: list[Wrong]) -> None:
        done = self._cure(wrong)
        if not done:
            left.append(wrong)
            return
        self._said.append(f"{wrong}; {done}")
        self.n_mended += 1
        if len(self._said) >= CURES_A_COMMIT:
            self._commit()
            self._writer.begin()

    def _commit(self) -> None:
        """Make it last, and only then say that it was done."""
        self._damaged.flush()
        self._writer.commit()
        for line in self._said:
            self._say(line)
        self._said.clear()

    def _cure(self, wrong: Wrong) -> str:
        """Carry out a cure and return what was done, "" if it could not be, or must wait for the next round."""
        match wrong.cure:
            case Move(is_extent):
                return self._move(wrong, is_extent=is_extent)
            case Make(value, old):
                if self._writer.get(wrong.table, wrong.key) != old:
                    return ""
                self._writer.replace(wrong.table, wrong.key, value)
                return "made again" if old is None else "put right"
            case Number(value):
                self._writer.set_number(wrong.key.decode(), value)
                return f"set to {value}"
            case Balance(tenant, n_open):
                return self._balance(tenant, n_open)
            case Requeue():
                return self._requeue(wrong.key)
            case Refill(first, last):
                return self._refill(first, last, str(wrong))
            case Aside():
                return "set aside" if set_aside(self._writer, wrong.key) else ""
            case Salvage():
                return salvage(self._writer, wrong.cure, self._damaged.add)
            case _:
                return ""

    def _move(self, wrong: Wrong, *, is_extent: bool) -> str:
        writer, table = self._writer, wrong.table
        if is_extent:
            rows = extent_chunks(writer, number(wrong.key))
        else:
            value = writer.get(table, wrong.key)
            rows = [] if value is None else [(wrong.key, value)]
        for key, value in rows:
            self._damaged.add(table, key, value, wrong.what)
            writer.remove(table, key)
            if table == "body":
                writer.live_octets -= len(value)
        return "moved into the file of what is damaged" if rows else ""

    def _balance(self, tenant: str, n_open: int) -> str:
        lost = balance(self._writer.counter(tenant), n_open)
        if lost > 0:
            self._writer.count(tenant, "dropped", lost)
            return f"{lost} more counted as dropped"
        self._writer.count(tenant, "received", -lost)
        return f"{-lost} more counted as received"

    def _requeue(self, part: bytes) -> str:
        """Put a part into the queue where its first recipient would wait."""
        writer = self._writer
        value, told = writer.get("part", part), writer.get("message", message_of(part))
        recipients = writer.scan("recipient", recipient_key(part, 0), 1)
        if value is None or told is None or not recipients or not recipients[0][0].startswith(part):
            return ""
        try:
            stood, message = decode_part(value), decode_message(told)
            domain = decode_recipient(recipients[0][1]).address.rpartition("@")[2]
        except (msgspec.MsgspecError, ValueError):
            return ""
        name = QueueName(message.tenant, message.campaign, 0, canonical_domain(domain) or domain.lower(), "")
        named = writer.get("queue_name", queue_name_key(name))
        if named is not None and writer.get("queue", named) is None:
            writer.remove("queue_name", queue_name_key(name))
        moved = msgspec.structs.replace(stood, queue=open_queue(writer, name, stood.due))
        writer.discard("due", due_row(part, stood)[0])
        writer.replace("due", *due_row(part, moved))
        writer.replace("part", part, encode(moved))
        return f"put into the queue for {name.domain}"

    def _refill(self, first: int, last: int, what: str) -> str:
        """Put faults where events are lost: files and readers of events rely on numbers without a gap."""
        for seq in range(first, last + 1):
            value = self._writer.get("event", number_key(seq))
            if value is not None:
                self._damaged.add("event", number_key(seq), value, what)
            # "report" is where an event is told that could not be read; files may have this one already.
            fault = Fault(now_ms(), b"", "", "report", f"event {seq} was lost; the queue was repaired")
            self._writer.replace("event", number_key(seq), encode_event(fault))
        return "a fault event stands there now"
