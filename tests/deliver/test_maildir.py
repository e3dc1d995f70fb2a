"""Maildir delivery into real folders: once, whole, and with an outcome for whatever stands in the way."""

import errno
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from mta.config import Local
from mta.deliver import Job, MaildirWriter
from mta.deliver.maildir import UNWRITABLE, Copy
from mta.message import IdMaker, Outcome
from mta.policy import Mailboxes
from tests.harness import require_tool

CONTENT = b"Received: by mx.test\r\nSubject: x\r\n\r\n\r\n.dot\r\nlast\r\n"
STORED = b"Return-Path: <from@else.test>\nReceived: by mx.test\nSubject: x\n\n\n.dot\nlast\n"
IDS = IdMaker(1, 1)


def job(*recipients: str, content: bytes = CONTENT, sender: str = "from@else.test", part: bytes = b"") -> Job:
    return Job(
        part or IDS.make() + b"\0\0",
        0,
        sender,
        tuple(enumerate(recipients)),
        len(content),
        False,
        False,
        1,
        lambda _: content,
    )


def mails(mailbox: Path, folder: str = "new") -> list[bytes]:
    return [path.read_bytes() for path in sorted((mailbox / folder).iterdir())]


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[MaildirWriter]:
    (tmp_path / "local.test" / "alice").mkdir(parents=True)
    yield from open_writer(tmp_path, create=False)


@pytest.fixture
def creator(tmp_path: Path) -> Iterator[MaildirWriter]:
    yield from open_writer(tmp_path, create=True)


def open_writer(root: Path, *, create: bool) -> Iterator[MaildirWriter]:
    made = make_writer(root, create=create)
    yield made
    made.close()


def make_writer(root: Path, *, create: bool) -> MaildirWriter:
    local = Local(domains=("local.test",), maildir=f"{root}/{{domain}}/{{local}}", create=create)
    return MaildirWriter(Mailboxes(local), "mx/1:test")


def write_one(writer: MaildirWriter, wanted: Job) -> Outcome:
    (((_, outcome),),) = writer.write([wanted])
    return outcome


@pytest.mark.parametrize(
    ("content", "sender", "stored"),
    [
        (CONTENT, "from@else.test", STORED),
        # The null reverse-path, and one beyond ASCII.
        (b"a: b\r\n\r\n", "", b"Return-Path: <>\na: b\n\n"),
        (b"a: b\r\n\r\n", "jürgen@else.test", "Return-Path: <jürgen@else.test>\na: b\n\n".encode()),
        # Only CRLF is a line end; there may be none at the end.
        (b"a: b\r\n\r\nx\ry\nz\r\r\nlast", "a@b.test", b"Return-Path: <a@b.test>\na: b\n\nx\ry\nz\r\nlast"),
        # More than one write(2) takes.
        (b"a: b\r\n\r\n" + b"x" * 3_000_000, "a@b.test", b"Return-Path: <a@b.test>\na: b\n\n" + b"x" * 3_000_000),
    ],
    ids=["ordinary", "null sender", "utf-8 sender", "stray line ends", "large"],
)
def test_maildir_write_stores_return_path_and_lf_lines(
    writer: MaildirWriter, tmp_path: Path, content: bytes, sender: str, stored: bytes
) -> None:
    outcome = write_one(writer, job("alice@local.test", content=content, sender=sender))
    assert (outcome.status, outcome.code, outcome.enhanced) == ("delivered", 250, "2.0.0")
    mailbox = tmp_path / "local.test" / "alice"
    assert mails(mailbox) == [stored]
    assert mails(mailbox, "tmp") == mails(mailbox, "cur") == []


def test_maildir_write_makes_folders_and_files_for_the_owner_alone(creator: MaildirWriter, tmp_path: Path) -> None:
    assert write_one(creator, job("Bob@LOCAL.test")).status == "delivered"
    mailbox = tmp_path / "local.test" / "bob"
    assert {path.name: path.stat().st_mode & 0o777 for path in mailbox.iterdir()} == dict.fromkeys(
        ("cur", "new", "tmp"), 0o700
    )
    assert mailbox.stat().st_mode & 0o777 == mailbox.parent.stat().st_mode & 0o777 == 0o700
    (mail,) = (mailbox / "new").iterdir()
    assert mail.stat().st_mode & 0o777 == 0o600
    assert "/" not in mail.name
    assert ":" not in mail.name


def test_maildir_write_every_recipient_has_a_copy_and_an_outcome(writer: MaildirWriter, tmp_path: Path) -> None:
    wanted = job("alice@local.test", "nobody@local.test", "ALICE@local.test", "bro ken@")
    (outcomes,) = writer.write([wanted])
    assert [(number, outcome.status) for number, outcome in outcomes] == [
        (0, "delivered"),
        (1, "bounced"),
        (2, "delivered"),
        (3, "bounced"),
    ]
    assert mails(tmp_path / "local.test" / "alice") == [STORED, STORED]


def test_maildir_write_missing_mailbox_bounces(writer: MaildirWriter, tmp_path: Path) -> None:
    outcome = write_one(writer, job("bob@local.test"))
    assert (outcome.status, outcome.code, outcome.enhanced) == ("bounced", 550, "5.1.1")
    assert not (tmp_path / "local.test" / "bob").exists()


def test_maildir_write_missing_root_defers(tmp_path: Path) -> None:
    writer = make_writer(tmp_path / "not-mounted", create=False)
    outcome = write_one(writer, job("alice@local.test"))
    writer.close()
    assert (outcome.status, outcome.enhanced) == ("deferred", "4.3.0")


def test_maildir_write_postmaster_needs_no_folder(writer: MaildirWriter, tmp_path: Path) -> None:
    assert write_one(writer, job("postmaster@local.test")).status == "delivered"
    assert mails(tmp_path / "local.test" / "postmaster") == [STORED]


def test_maildir_write_quoted_local_part_stays_in_its_folder(creator: MaildirWriter, tmp_path: Path) -> None:
    assert write_one(creator, job('"../../../evil"@local.test')).status == "delivered"
    assert mails(tmp_path / "local.test" / "%2E.%2F..%2F..%2Fevil") == [STORED]


@pytest.mark.parametrize("moved", ["new", "cur", "cur:2,", "cur:2,FRS"])
def test_maildir_write_repeat_finds_itself(writer: MaildirWriter, tmp_path: Path, moved: str) -> None:
    mailbox = tmp_path / "local.test" / "alice"
    wanted = job("alice@local.test")
    assert write_one(writer, wanted).status == "delivered"
    (mail,) = (mailbox / "new").iterdir()
    folder, _, flags = moved.partition(":")
    mail.rename(mailbox / folder / (mail.name + (f":{flags}" if flags else "")))
    assert write_one(writer, wanted).status == "delivered"
    assert mails(mailbox, "new") + mails(mailbox, "cur") == [STORED]
    # Another part, and another recipient of the same message, are no repeats.
    other = job("alice@local.test", "alice@local.test", part=wanted.part[:-1] + b"\1")
    writer.write([other])
    assert len(mails(mailbox, "new") + mails(mailbox, "cur")) == 3


def test_maildir_write_file_left_in_tmp_is_written_anew(writer: MaildirWriter, tmp_path: Path) -> None:
    mailbox = tmp_path / "local.test" / "alice"
    wanted = job("alice@local.test")
    writer.write([wanted])
    (mail,) = (mailbox / "new").iterdir()
    mail.rename(mailbox / "tmp" / mail.name)
    (mailbox / "tmp" / mail.name).write_bytes(b"Return-Path: <fr" + b"x" * 1000)
    assert write_one(writer, wanted).status == "delivered"
    assert mails(mailbox) == [STORED]
    assert mails(mailbox, "tmp") == []


def test_maildir_write_new_folder_was_removed_is_made_again(writer: MaildirWriter, tmp_path: Path) -> None:
    mailbox = tmp_path / "local.test" / "alice"
    for folder in ("cur", "tmp"):
        (mailbox / folder).mkdir()
    assert write_one(writer, job("alice@local.test")).status == "delivered"
    assert mails(mailbox) == [STORED]


def test_maildir_write_something_in_the_way_defers_and_names_it(writer: MaildirWriter, tmp_path: Path) -> None:
    mailbox = tmp_path / "local.test" / "alice"
    for folder in ("cur", "tmp"):
        (mailbox / folder).mkdir()
    (mailbox / "new").touch()
    outcome = write_one(writer, job("alice@local.test"))
    assert (outcome.status, outcome.code, outcome.enhanced) == ("deferred", 451, "4.3.0")
    assert outcome.diagnostic == f"{mailbox}: Not a directory"
    # Senders read the reason when the mail expires: where mailboxes lie is not for them.
    assert str(tmp_path) not in outcome.reason


def test_maildir_write_unreadable_message_is_its_own_trouble(writer: MaildirWriter, tmp_path: Path) -> None:
    def fail(_: int) -> bytes:
        raise LookupError("extent 7")

    broken = Job(
        IDS.make() + b"\0\0", 0, "", ((0, "alice@local.test"), (4, "bob@local.test")), 1, False, False, 1, fail
    )
    (first, second, third) = writer.write([job("alice@local.test"), broken, job("alice@local.test")])
    assert [outcome.status for _, outcome in (*first, *third)] == ["delivered", "delivered"]
    assert [(number, outcome.status, outcome.enhanced) for number, outcome in second] == [
        (0, "deferred", "4.3.0"),
        (4, "deferred", "4.3.0"),
    ]
    assert "extent 7" in second[0][1].diagnostic


def test_maildir_write_without_permission_defers(tmp_path: Path) -> None:
    handicap = "os.chmod('tmp', 0o500); os.geteuid() or os.seteuid(65534)"
    outcome = in_child(tmp_path, handicap)
    assert outcome == ["deferred", 451, "4.2.0", UNWRITABLE, f"{tmp_path}/local.test/alice: Permission denied"]


def test_maildir_write_without_room_defers_and_leaves_nothing(tmp_path: Path) -> None:
    outcome = in_child(tmp_path, "resource.setrlimit(resource.RLIMIT_FSIZE, (40, 40))")
    mailbox = tmp_path / "local.test" / "alice"
    assert outcome == ["deferred", 451, "4.3.0", UNWRITABLE, f"{mailbox}: File too large"]
    assert mails(mailbox, "tmp") == mails(mailbox, "new") == []


def in_child(root: Path, handicap: str) -> list[object]:
    """Deliver in a process of its own, under a handicap; return status, codes, reason and diagnostic."""
    mailbox = root / "local.test" / "alice"
    for folder in ("cur", "new", "tmp"):
        (mailbox / folder).mkdir(parents=True)
    script = f"""
import json, os, resource, signal, sys
from pathlib import Path
from tests.deliver.test_maildir import job, make_writer, write_one
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
writer = make_writer(Path(sys.argv[1]), create=False)
os.chdir(sys.argv[2])
{handicap}
outcome = write_one(writer, job("alice@local.test"))
print(json.dumps([outcome.status, outcome.code, outcome.enhanced, outcome.reason, outcome.diagnostic]))
"""
    command = [sys.executable, "-c", script, str(root), str(mailbox)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=30)
    return list(json.loads(done.stdout))


def test_maildir_write_flushes_file_and_folders_before_it_is_over(tmp_path: Path) -> None:
    strace = require_tool("strace", "strace")
    script = """
import os, sys
from pathlib import Path
from tests.deliver.test_maildir import job, make_writer
writer = make_writer(Path(sys.argv[1]), create=True)
job = job("alice@local.test")
os.write(1, b"begin")
(((_, outcome),),) = writer.write([job])
os.write(1, outcome.status.encode())
"""
    calls = "trace=write,mkdirat,mkdir,openat,open,fsync,rename,renameat,renameat2,linkat"
    command = [strace, "-y", "-qq", "-e", calls, "-o", str(tmp_path / "trace"), sys.executable, "-c", script]
    subprocess.run([*command, str(tmp_path / "mail")], check=True, timeout=60, stdout=subprocess.DEVNULL)
    trace = (tmp_path / "trace").read_text()
    trace = trace[trace.index('"begin"') : trace.index('"delivered"')]
    wanted = []
    box = f"{tmp_path}/mail/local.test/alice"
    for made in ("", "/local.test", "/local.test/alice", "/local.test/alice/tmp", "/local.test/alice/new"):
        above = os.path.dirname(f"{tmp_path}/mail{made}")
        wanted += [rf'mkdirat\(\d+<{above}>, "{os.path.basename(made) or "mail"}", 0700\)', rf"fsync\(\d+<{above}>\)"]
    wanted += [
        rf"openat\(\d+<{box}/tmp>, .*O_EXCL.*, 0600\)",
        rf'write\(\d+<{box}/tmp/.*"Return-Path',
        rf"fsync\(\d+<{box}/tmp/.*>\)",
        rf"rename.*\(\d+<{box}/tmp>, .*, \d+<{box}/new>, ",
        rf"fsync\(\d+<{box}/new>\)",
    ]
    # Each behind the one before.
    for pattern in wanted:
        found = re.search(pattern, trace)
        assert found is not None, f"{pattern}\n{trace}"
        trace = trace[found.end() :]


@pytest.mark.parametrize(
    ("number", "code", "enhanced"),
    [
        # The mailbox: not allowed, over its quota.
        (errno.EACCES, 451, "4.2.0"),
        (errno.EROFS, 451, "4.2.0"),
        (errno.EDQUOT, 452, "4.2.2"),
        # The system: full, broken, anything else.
        (errno.ENOSPC, 452, "4.3.1"),
        (errno.EIO, 451, "4.3.0"),
        (errno.EMFILE, 451, "4.3.0"),
    ],
)
def test_maildir_copy_error_becomes_a_deferral_that_names_the_path(number: int, code: int, enhanced: str) -> None:
    copy = Copy("/mail/alice", "x", 0)
    copy.fail(OSError(number, os.strerror(number)))
    assert copy.outcome is not None
    assert (copy.outcome.status, copy.outcome.code, copy.outcome.enhanced) == ("deferred", code, enhanced)
    assert copy.outcome.diagnostic == f"/mail/alice: {os.strerror(number)}"
    assert "/" not in copy.outcome.reason


# A large message comes in pieces.


def job_of(pieces: list[bytes], *recipients: str) -> Job:
    whole = job(*recipients, content=b"".join(pieces))
    return msgspec.structs.replace(whole, n_pieces=len(pieces), read=lambda number: pieces[number])


@pytest.mark.parametrize("at", range(len(CONTENT) + 1))
def test_maildir_write_two_pieces_any_cut_is_the_same(creator: MaildirWriter, tmp_path: Path, at: int) -> None:
    (outcomes,) = creator.write([job_of([CONTENT[:at], CONTENT[at:]], "alice@local.test", "bob@local.test")])
    assert {outcome.status for _, outcome in outcomes} == {"delivered"}
    for name in ("alice", "bob"):
        assert mails(tmp_path / "local.test" / name) == [STORED]


@pytest.mark.parametrize("content", [b"a\r", b"a\r\r\n\n\r", b"\r\n\r", b""])
def test_maildir_write_octet_by_octet_keeps_bare_line_ends(
    writer: MaildirWriter, tmp_path: Path, content: bytes
) -> None:
    octets = [content[at : at + 1] for at in range(len(content))] or [b""]
    writer.write([job_of(octets, "alice@local.test")])
    (mail,) = mails(tmp_path / "local.test" / "alice")
    assert mail == b"Return-Path: <from@else.test>\n" + content.replace(b"\r\n", b"\n")


def test_maildir_write_piece_that_cannot_be_read_defers_and_leaves_no_file(
    creator: MaildirWriter, tmp_path: Path
) -> None:
    broken = msgspec.structs.replace(job("alice@local.test", "bob@local.test"), n_pieces=2, read=[CONTENT].__getitem__)
    first, second = creator.write([broken, job("alice@local.test")])
    assert [(outcome.status, outcome.enhanced) for _, outcome in first] == [("deferred", "4.3.0")] * 2
    assert [outcome.status for _, outcome in second] == ["delivered"]
    assert mails(tmp_path / "local.test" / "alice") == [STORED]
    for name in ("alice", "bob"):
        assert mails(tmp_path / "local.test" / name, "tmp") == []
