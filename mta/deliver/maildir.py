"""Delivering into local Maildirs: tmp, flush, new. https://cr.yp.to/proto/maildir.html

Rule: "delivered" is said only when the file is in new/ and both file and folder are flushed to the disk. Where a folder
lies, and with whose rights we work in it, is `folder`'s business.

The name of a file is made from message id, part and recipient number, so that a repeat after a crash finds the first
copy, in new/ or (if somebody has looked at it) in cur/, and counts as delivered.

A worker has one MaildirWriter, its one thread for all that blocks; each session for local mail is a MaildirCourier,
which hands over what it has in one hop.
"""

import asyncio
import contextlib
import errno
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from mta.address import parse_mailbox
from mta.deliver.contract import Job, Report
from mta.deliver.folder import Maildir, open_maildir
from mta.message import Address, Outcome
from mta.policy import Mailboxes

__all__ = ["MaildirCourier", "MaildirWriter"]

# Files open at once, give or take one job: flushing several in a row lets the file system join its journal commits.
BATCH_COPIES = 64
HOST_OCTETS = 100
# Between two looks whether a session is idle, while its batch takes longer than it may be idle.
LEAST_WAIT_S = 0.05

DELIVERED = Outcome("delivered", 250, "2.0.0", "written to the mailbox", "", "")
NO_MAILBOX = Outcome("bounced", 550, "5.1.1", "no such mailbox here", "", "")
ABORTED = Outcome("deferred", 451, "4.3.2", "the server stopped while writing to the mailbox", "", "")

# RFC 3463 s3.3, s3.4: what is wrong with one mailbox is 4.2.x, with the system 4.3.x. These sentences reach the sender
# when the mail expires; whatever names a path goes into the diagnostic, which has no peer and so stays with us.
UNWRITABLE = "the mailbox cannot be written to now"
FULL = "the mailbox is full"
CODES = {
    errno.EACCES: (451, "4.2.0", UNWRITABLE),
    errno.EPERM: (451, "4.2.0", UNWRITABLE),
    errno.EROFS: (451, "4.2.0", UNWRITABLE),
    errno.EDQUOT: (452, "4.2.2", FULL),
    errno.ENOSPC: (452, "4.3.1", "there is no room for mailboxes now"),
}
OTHERWISE = (451, "4.3.0", UNWRITABLE)

Outcomes = list[tuple[int, Outcome]]


class Copy(msgspec.Struct):
    """One recipient's copy on its way; `outcome` once that is decided."""

    path: str
    """Of the mailbox, for the operator."""
    name: str
    """Of the file, wherever it is."""
    born_s: int
    """When the message came to be, in seconds since 1970."""
    box: Maildir | None = None
    fd: int = -1
    """Of the file in tmp/, while it is open."""
    is_in_tmp: bool = False
    outcome: Outcome | None = None

    def fail(self, error: OSError) -> None:
        """Decide: not now, and why; the diagnostic names the path."""
        code, enhanced, reason = CODES.get(error.errno or 0, OTHERWISE)
        self.outcome = Outcome("deferred", code, enhanced, reason, "", f"{self.path}: {error.strerror}")

    @contextlib.contextmanager
    def working(self) -> Iterator[Maildir]:
        """Work in the mailbox as its owner; an OSError decides the outcome, and the file goes."""
        assert self.box is not None
        try:
            with self.box.rights:
                yield self.box
        except OSError as error:
            self.fail(error)
            self.discard()

    def close(self) -> None:
        """Close the file. Some network file systems tell only now that there was no room."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def discard(self) -> None:
        """Remove what is in tmp/, if that can be done."""
        with contextlib.suppress(OSError):
            self.close()
        if self.is_in_tmp and self.box is not None:
            self.is_in_tmp = False
            with contextlib.suppress(OSError), self.box.rights:
                self.box.discard(self.name)


class MaildirWriter:
    """Writes jobs into Maildirs, in a thread of its own."""

    def __init__(self, mailboxes: Mailboxes, hostname: str) -> None:
        self._mailboxes = mailboxes
        self._root = "" if mailboxes.root == Path() else str(mailboxes.root)
        # "/" would lead out of the folder, ":" begins the flags in cur/.
        self._host = hostname.replace("/", "\\057").replace(":", "\\072")[:HOST_OCTETS]
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="maildir")

    def start(self, jobs: Sequence[Job], loop: asyncio.AbstractEventLoop) -> asyncio.Future[list[Outcomes]]:
        """Begin `write` in the thread; the future has its result."""
        return loop.run_in_executor(self._thread, self.write, jobs)

    def close(self) -> None:
        """Wait for what is being written, and end the thread."""
        self._thread.shutdown()

    def write(self, jobs: Sequence[Job]) -> list[Outcomes]:
        """Deliver the jobs and return, for each, (recipient number, outcome) for each recipient. Blocks."""
        boxes: dict[str, Maildir] = {}
        copies: list[Copy] = []
        try:
            made = [self._copies(job, boxes, copies) for job in jobs]
            for copy in copies:
                _finish(copy)
            for copy in copies:
                _move(copy)
            # One flush a folder, however many copies it got.
            for box in boxes.values():
                _flush(box, [copy for copy in copies if copy.box is box and copy.outcome is None])
        finally:
            for copy in copies:
                copy.discard()
            for box in boxes.values():
                box.close()
        return [[(number, copy.outcome or DELIVERED) for number, copy in job] for job in made]

    def _copies(self, job: Job, boxes: dict[str, Maildir], copies: list[Copy]) -> list[tuple[int, Copy]]:
        """Write a copy for each recipient into tmp/; `boxes` are the open mailboxes by path, `copies` all there are."""
        pieces = _pieces(job)
        try:
            first = next(pieces)
        except Exception as error:
            return [(number, Copy("", "", 0, outcome=_unreadable(error))) for number, _ in job.recipients]
        made = [(number, self._copy(job.part, number, to, first, boxes)) for number, to in job.recipients]
        copies += [copy for _, copy in made]
        try:
            for piece in pieces:
                _append(made, piece)
        except Exception as error:
            for _, copy in made:
                if copy.outcome is None:
                    copy.discard()
                    copy.outcome = _unreadable(error)
        return made

    def _copy(self, part: bytes, number: int, recipient: str, first: bytes, boxes: dict[str, Maildir]) -> Copy:
        """Begin one recipient's file, or decide without one."""
        address = parse_mailbox(recipient)
        if isinstance(address, str):
            return Copy("", "", 0, outcome=NO_MAILBOX)
        born_s = int.from_bytes(part[:6], "big") // 1000
        name = f"{born_s}.{part[:16].hex()}P{int.from_bytes(part[16:], 'big')}R{number}.{self._host}"
        copy = Copy(str(self._mailboxes.path(address)), name, born_s)
        try:
            copy.box = boxes.get(copy.path) or self._open(address, copy.path)
        except OSError as error:
            copy.fail(error)
            return copy
        if copy.box is None:
            copy.outcome = NO_MAILBOX
            return copy
        boxes[copy.path] = copy.box
        with copy.working() as box:
            if box.has(name, born_s):
                # Whoever moved it there may have died before the flush.
                box.flush_all()
                copy.outcome = DELIVERED
            else:
                copy.fd = box.create(name)
                copy.is_in_tmp = True
                _write(copy.fd, first)
        return copy

    def _open(self, address: Address, path: str) -> Maildir | None:
        """Open a mailbox; None where there is none. Raises OSError when it cannot be opened."""
        may_create = self._mailboxes.may_create(address)
        try:
            return open_maildir(self._root, path, create=may_create)
        except FileNotFoundError:
            # A link that leads nowhere is a mailbox whose disk is not mounted, and so is a folder of all mailboxes that
            # is not there: no reason to send mail back.
            if may_create or os.path.lexists(path):
                raise
            os.stat(self._root or ".")
            return None


class MaildirCourier:
    """One session for local mail: a `Courier`. Has no connection to keep, and ends after `idle_s` without work."""

    def __init__(
        self, session: int, writer: MaildirWriter, report: Report, loop: asyncio.AbstractEventLoop, idle_s: float
    ) -> None:
        self._session = session
        self._writer = writer
        self._report = report
        self._loop = loop
        self._idle_s = idle_s
        self._jobs: deque[Job] = deque()
        self._batch: list[Job] = []
        self._is_reporting = False
        self._is_closing = False
        self._is_closed = False
        self._idle_at = loop.time()
        self._timer = loop.call_later(idle_s, self._check_idle)

    def deliver(self, jobs: Sequence[Job]) -> None:
        """Take more jobs. Once `closed` was reported they are not looked at: they are left over."""
        if not self._is_closed:
            self._jobs.extend(jobs)
            self._go_on()

    def close(self) -> None:
        """Finish the batch in the thread, start no other job, then report closed."""
        self._is_closing = True
        self._go_on()

    def abort(self) -> None:
        """End at once. What the thread is writing counts as deferred; if it still gets there, the repeat finds it."""
        self._is_closing = True
        if self._is_reporting or self._is_closed:
            return
        batch, self._batch = self._batch, []
        self._tell([(job, [(number, ABORTED) for number, _ in job.recipients]) for job in batch])

    def _go_on(self) -> None:
        """Start what comes next, unless something is under way."""
        if self._batch or self._is_reporting or self._is_closed:
            return
        if self._is_closing:
            self._end()
            return
        n_copies = 0
        while self._jobs and n_copies < BATCH_COPIES:
            job = self._jobs.popleft()
            self._batch.append(job)
            n_copies += len(job.recipients)
        if self._batch:
            self._writer.start(self._batch, self._loop).add_done_callback(self._written)

    def _written(self, future: asyncio.Future[list[Outcomes]]) -> None:
        if self._is_closed:
            return
        batch, self._batch = self._batch, []
        error = future.exception()
        if error is None:
            self._tell(list(zip(batch, future.result(), strict=True)))
            return
        fault = Outcome("deferred", 451, "4.3.0", UNWRITABLE, "", f"writing to the mailbox failed: {error!r}")
        self._tell([(job, [(number, fault) for number, _ in job.recipients]) for job in batch])

    def _tell(self, results: Sequence[tuple[Job, Outcomes]]) -> None:
        """Report outcomes, then go on. A report may hand in more jobs, or end the session: that waits till after."""
        self._is_reporting = True
        try:
            for job, outcomes in results:
                self._report.done(job, outcomes)
        finally:
            self._is_reporting = False
        self._idle_at = self._loop.time()
        self._go_on()

    def _check_idle(self) -> None:
        rest_s = self._idle_at + self._idle_s - self._loop.time()
        if self._batch or rest_s > 0:
            self._timer = self._loop.call_later(max(rest_s, LEAST_WAIT_S), self._check_idle)
        else:
            self._end()

    def _end(self) -> None:
        self._is_closed = True
        self._timer.cancel()
        left = tuple(self._jobs)
        self._jobs.clear()
        self._report.closed(self._session, left, None)


def _pieces(job: Job) -> Iterator[bytes]:
    """Yield the content as it stands in a file: LF line ends, and the reverse-path on top. RFC 5321 s4.4."""
    # What the last piece ended with, where it may be half of a line end.
    kept = f"Return-Path: <{job.sender}>\n".encode("utf-8", "replace")
    for number in range(job.n_pieces):
        piece = kept + job.read(number)
        kept = b"\r" if number + 1 < job.n_pieces and piece.endswith(b"\r") else b""
        yield piece[: len(piece) - len(kept)].replace(b"\r\n", b"\n")


def _unreadable(error: Exception) -> Outcome:
    """Return the outcome of a mail that cannot be read: its own trouble, the rest of the batch goes on."""
    return Outcome("deferred", 451, "4.3.0", "the message cannot be read now", "", repr(error))


def _append(copies: Sequence[tuple[int, Copy]], piece: bytes) -> None:
    """Write a piece to each file that is open; what fails is decided."""
    for _, copy in copies:
        if copy.fd >= 0:
            with copy.working():
                _write(copy.fd, piece)


def _write(fd: int, piece: bytes) -> None:
    view = memoryview(piece)
    while view:
        view = view[os.write(fd, view) :]


def _finish(copy: Copy) -> None:
    """Flush and close a file. What is open needs nobody's rights any more."""
    try:
        if copy.fd >= 0:
            os.fsync(copy.fd)
            copy.close()
    except OSError as error:
        copy.fail(error)
        copy.discard()


def _move(copy: Copy) -> None:
    if copy.is_in_tmp:
        with copy.working() as box:
            box.move(copy.name)
            copy.is_in_tmp = False


def _flush(box: Maildir, moved: Sequence[Copy]) -> None:
    try:
        if moved:
            box.flush()
    except OSError as error:
        for copy in moved:
            copy.fail(error)
