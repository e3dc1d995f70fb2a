"""Delivering into local Maildirs: tmp, flush, new. https://cr.yp.to/proto/maildir.html

Rule: "delivered" is said only when the file is in new/ and both file and folder are flushed to the disk.

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

import msgspec

from mta.address import parse_mailbox
from mta.deliver.contract import Job, Report
from mta.message import Address, Outcome
from mta.policy import Mailboxes

__all__ = ["MaildirCourier", "MaildirWriter"]

# Files open at once, give or take one job: flushing several in a row lets the file system join its journal commits.
BATCH_COPIES = 64
# The file system's clock may lag behind ours by a tick; a folder last changed before this cannot hold our file.
SKEW_S = 5
HOST_OCTETS = 100
# Between two looks whether a session is idle, while its batch takes longer than it may be idle.
LEAST_WAIT_S = 0.05

DELIVERED = Outcome("delivered", 250, "2.0.0", "written to the mailbox", "", "")
NO_MAILBOX = Outcome("bounced", 550, "5.1.1", "no such mailbox here", "", "")
ABORTED = Outcome("deferred", 451, "4.3.2", "the server stopped while writing to the mailbox", "", "")

# RFC 3463 s3.3, s3.4: what is wrong with one mailbox is 4.2.x, with the system 4.3.x.
CODES = {
    errno.EACCES: (451, "4.2.0"),
    errno.EPERM: (451, "4.2.0"),
    errno.EROFS: (451, "4.2.0"),
    errno.EDQUOT: (452, "4.2.2"),
    errno.ENOSPC: (452, "4.3.0"),
}

Outcomes = list[tuple[int, Outcome]]


class Copy(msgspec.Struct):
    """One recipient's copy on its way: `fd` while its file in tmp/ is open, `outcome` once that is decided."""

    mailbox: str
    name: str
    fd: int = -1
    outcome: Outcome | None = None

    def fail(self, error: OSError) -> None:
        """Decide: not now, and why; the sentence names the path."""
        code, enhanced = CODES.get(error.errno or 0, (451, "4.3.0"))
        self.outcome = Outcome("deferred", code, enhanced, f"{self.mailbox}: {error.strerror}", "", "")


class MaildirWriter:
    """Writes jobs into Maildirs, in a thread of its own."""

    def __init__(self, mailboxes: Mailboxes, hostname: str) -> None:
        self._mailboxes = mailboxes
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
        made = [self._copies(job) for job in jobs]
        copies = [copy for job in made for _, copy in job]
        for copy in copies:
            if copy.fd >= 0:
                _flush(copy)
        for copy in copies:
            if copy.outcome is None:
                _move(copy)
        # One flush a folder, however many copies it got.
        for mailbox in {copy.mailbox for copy in copies}:
            moved = [copy for copy in copies if copy.mailbox == mailbox and copy.outcome is None]
            try:
                if moved:
                    _flush_folder(f"{mailbox}/new")
            except OSError as error:
                for copy in moved:
                    copy.fail(error)
        return [[(number, copy.outcome or DELIVERED) for number, copy in job] for job in made]

    def _copies(self, job: Job) -> list[tuple[int, Copy]]:
        """Write a copy for each recipient into tmp/."""
        pieces = _pieces(job)
        try:
            first = next(pieces)
        except Exception as error:
            return [(number, Copy("", "", outcome=_unreadable(error))) for number, _ in job.recipients]
        copies = []
        for number, recipient in job.recipients:
            address = parse_mailbox(recipient)
            if isinstance(address, str):
                copies.append((number, Copy("", "", outcome=NO_MAILBOX)))
                continue
            copy = Copy(str(self._mailboxes.path(address)), self._name(job.part, number))
            copies.append((number, copy))
            try:
                self._begin(copy, address)
            except OSError as error:
                copy.fail(error)
        began = [copy for _, copy in copies if copy.fd >= 0]
        _append(began, first)
        try:
            for piece in pieces:
                _append(began, piece)
        except Exception as error:
            for copy in began:
                if copy.fd >= 0:
                    _discard(copy)
                    copy.outcome = _unreadable(error)
        return copies

    def _name(self, part: bytes, number: int) -> str:
        seconds = int.from_bytes(part[:6], "big") // 1000
        return f"{seconds}.{part[:16].hex()}P{int.from_bytes(part[16:], 'big')}R{number}.{self._host}"

    def _begin(self, copy: Copy, address: Address) -> None:
        """Open one file in tmp/, unless the mailbox has the mail already or is not there."""
        try:
            if _has(copy):
                # Whoever moved it there may have died before the flush.
                _flush_folder(f"{copy.mailbox}/new")
                _flush_folder(f"{copy.mailbox}/cur")
                copy.outcome = DELIVERED
                return
            copy.fd = _create(f"{copy.mailbox}/tmp/{copy.name}")
        except FileNotFoundError:
            if not self._mailboxes.exists(address) and not self._mailboxes.may_create(address):
                # With the folder of all mailboxes gone, its disk is not mounted: no reason to send mail back.
                copy.outcome = NO_MAILBOX
                os.stat(self._mailboxes.root)
                return
            _make_maildir(copy.mailbox)
            copy.fd = _create(f"{copy.mailbox}/tmp/{copy.name}")


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
        fault = Outcome("deferred", 451, "4.3.0", f"writing to the mailbox failed: {error!r}", "", "")
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


def _append(copies: Sequence[Copy], piece: bytes) -> None:
    """Write a piece to each file that is open; what fails is decided."""
    for copy in copies:
        view = memoryview(piece)
        try:
            while view and copy.fd >= 0:
                view = view[os.write(copy.fd, view) :]
        except OSError as error:
            copy.fail(error)
            with contextlib.suppress(OSError):
                _discard(copy)


def _unreadable(error: Exception) -> Outcome:
    """Return the outcome of a mail that cannot be read: its own trouble, the rest of the batch goes on."""
    return Outcome("deferred", 451, "4.3.0", f"the message cannot be read: {error!r}", "", "")


def _has(copy: Copy) -> bool:
    """Return whether the mailbox has this copy already. Raises FileNotFoundError where it lacks cur/."""
    if os.path.lexists(f"{copy.mailbox}/new/{copy.name}"):
        return True
    born_s, _, _ = copy.name.partition(".")
    # Listing a cur/ of 100,000 mails costs more than delivering: look only if something came into it since the mail.
    if os.stat(f"{copy.mailbox}/cur").st_mtime < int(born_s) - SKEW_S:
        return False
    return any(name.startswith(copy.name) for name in os.listdir(f"{copy.mailbox}/cur"))


def _create(path: str) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        return os.open(path, flags, 0o600)
    except FileExistsError:
        # Left by a worker that died while writing it.
        os.unlink(path)
        return os.open(path, flags, 0o600)


def _discard(copy: Copy) -> None:
    os.close(copy.fd)
    copy.fd = -1
    os.unlink(f"{copy.mailbox}/tmp/{copy.name}")


def _flush(copy: Copy) -> None:
    try:
        # Some network file systems tell only at close(2) that there was no room.
        try:
            os.fsync(copy.fd)
        finally:
            os.close(copy.fd)
    except OSError as error:
        copy.fail(error)
        with contextlib.suppress(OSError):
            os.unlink(f"{copy.mailbox}/tmp/{copy.name}")


def _move(copy: Copy) -> None:
    """Move a flushed file into new/; `_has` saw that nothing is there, and nobody else makes files of this name."""
    source, target = (f"{copy.mailbox}/{folder}/{copy.name}" for folder in ("tmp", "new"))
    try:
        try:
            os.rename(source, target)
        except FileNotFoundError:
            _make_maildir(copy.mailbox)
            os.rename(source, target)
    except OSError as error:
        copy.fail(error)


def _make_maildir(mailbox: str) -> None:
    for folder in ("tmp", "new", "cur"):
        _make_folder(os.path.join(os.path.abspath(mailbox), folder))


def _make_folder(path: str) -> None:
    """Make a folder and those above it that are missing, each for its owner alone and safe on the disk."""
    if os.path.isdir(path):
        return
    above = os.path.dirname(path)
    _make_folder(above)
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        # Another worker was faster; a file in the way shows in what comes next.
        return
    _flush_folder(above)


def _flush_folder(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
