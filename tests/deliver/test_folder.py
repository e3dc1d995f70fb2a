"""Whose a mailbox is: what we make in it belongs to its owner, and no link of theirs takes us anywhere else."""

import errno
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mta.config import Local
from mta.deliver import MaildirWriter
from mta.deliver.folder import open_maildir
from mta.message import Outcome
from mta.policy import Mailboxes
from tests.deliver.test_maildir import STORED, job, mails, write_one

ALICE, BOB = (61_001, 61_011), (61_002, 61_012)
as_root = pytest.mark.skipif("os.getuid() != 0", reason="only root writes into mailboxes of others")


def deliver(root: Path, *, create: bool = False, below: str = "") -> Outcome:
    """Deliver a mail for alice, whose mailbox is root/alice, or `below` that."""
    writer = MaildirWriter(
        Mailboxes(Local(domains=("local.test",), maildir=f"{root}/{{local}}{below}", create=create)), "mx"
    )
    try:
        return write_one(writer, job("alice@local.test"))
    finally:
        writer.close()


def own(path: Path, owner: tuple[int, int], mode: int = 0o700) -> Path:
    """Make a folder that is somebody's."""
    path.mkdir()
    os.chown(path, *owner)
    path.chmod(mode)
    return path


def owners(path: Path) -> set[tuple[int, int, int]]:
    """Return (uid, gid, mode) of everything below a folder."""
    return {(s.st_uid, s.st_gid, s.st_mode & 0o7777) for s in (each.lstat() for each in path.rglob("*"))}


@as_root
def test_maildir_of_a_user_holds_nothing_but_the_users(tmp_path: Path) -> None:
    mailbox = own(tmp_path / "alice", ALICE)
    assert deliver(tmp_path).status == "delivered"
    assert mails(mailbox) == [STORED]
    assert owners(mailbox) == {(*ALICE, 0o700), (*ALICE, 0o600)}
    # The worker is root again, and finds what it wrote.
    assert (os.geteuid(), os.getegid()) == (0, 0)


@as_root
def test_maildir_made_below_a_users_folder_is_the_users(tmp_path: Path) -> None:
    home = own(tmp_path / "alice", ALICE)
    assert deliver(tmp_path, create=True, below="/mail/Maildir").status == "delivered"
    assert mails(home / "mail" / "Maildir") == [STORED]
    assert owners(home) == {(*ALICE, 0o700), (*ALICE, 0o600)}


@as_root
def test_maildir_made_where_all_is_one_users_is_that_users(tmp_path: Path) -> None:
    root = own(tmp_path / "vmail", BOB)
    assert deliver(root, create=True).status == "delivered"
    assert owners(root) == {(*BOB, 0o700), (*BOB, 0o600)}


@as_root
def test_maildir_made_below_root_is_roots(tmp_path: Path) -> None:
    assert deliver(tmp_path, create=True).status == "delivered"
    assert owners(tmp_path) == {(0, 0, 0o700), (0, 0, 0o600)}


@as_root
def test_maildir_owner_without_the_right_to_write_defers_though_we_are_root(tmp_path: Path) -> None:
    own(own(tmp_path / "alice", ALICE) / "tmp", BOB)
    outcome = deliver(tmp_path)
    assert (outcome.status, outcome.enhanced) == ("deferred", "4.2.0")
    assert outcome.diagnostic == f"{tmp_path}/alice: Permission denied"


def _linked(path: Path, target: Path, owner: tuple[int, int]) -> None:
    path.symlink_to(target)
    os.chown(path, *owner, follow_symlinks=False)


def _link_to_bob(tmp_path: Path, home: Path) -> Path:
    _linked(home / "Maildir", own(tmp_path / "bob", BOB), ALICE)
    return tmp_path / "bob"


def _link_to_root(tmp_path: Path, home: Path) -> Path:
    (tmp_path / "etc").mkdir()
    _linked(home / "Maildir", tmp_path / "etc", ALICE)
    return tmp_path / "etc"


def _link_new(tmp_path: Path, home: Path) -> Path:
    target = own(tmp_path / "shared", BOB, 0o777)
    _linked(own(home / "Maildir", ALICE) / "new", target, ALICE)
    return target


def _link_cur(tmp_path: Path, home: Path) -> Path:
    target = own(tmp_path / "shared", BOB, 0o777)
    os.utime(target, (0, 0))
    _linked(own(home / "Maildir", ALICE) / "cur", target, ALICE)
    return target


def _link_tmp(tmp_path: Path, home: Path) -> Path:
    (tmp_path / "etc").mkdir()
    _linked(own(home / "Maildir", ALICE) / "tmp", tmp_path / "etc", ALICE)
    return tmp_path / "etc"


@pytest.fixture
def public_path() -> Iterator[Path]:
    """A folder that everybody can reach: pytest's own are behind one that is root's alone."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory)
        path.chmod(0o755)
        yield path


@as_root
@pytest.mark.parametrize(
    ("trap", "what"),
    [
        (_link_to_bob, f"Maildir leads from the folder of user {ALICE[0]} to that of user {BOB[0]}"),
        (_link_to_root, f"Maildir leads from the folder of user {ALICE[0]} to that of user 0"),
        (_link_new, os.strerror(errno.ENOTDIR)),
        (_link_cur, os.strerror(errno.ENOTDIR)),
        (_link_tmp, os.strerror(errno.ENOTDIR)),
    ],
)
def test_maildir_link_of_a_user_leads_nowhere(public_path: Path, trap: Callable[[Path, Path], Path], what: str) -> None:
    target = trap(public_path, own(public_path / "alice", ALICE))
    target.chmod(0o777)
    outcome = deliver(public_path, create=True, below="/Maildir")
    assert (outcome.status, outcome.diagnostic) == ("deferred", f"{public_path}/alice/Maildir: {what}")
    assert list(target.rglob("*")) == []


@as_root
def test_maildir_link_of_a_user_to_another_of_their_folders_is_followed(public_path: Path) -> None:
    home = own(public_path / "alice", ALICE)
    _linked(home / "Maildir", own(home / "mail", ALICE), ALICE)
    assert deliver(public_path, below="/Maildir").status == "delivered"
    assert mails(home / "mail") == [STORED]


@as_root
def test_maildir_file_put_where_ours_shall_be_is_not_written_through(tmp_path: Path) -> None:
    mailbox = own(tmp_path / "alice", ALICE)
    secret = tmp_path / "secret"
    secret.write_bytes(b"root's")
    wanted = job("alice@local.test")
    for folder in ("tmp", "new", "cur"):
        own(mailbox / folder, ALICE)
    writer = MaildirWriter(Mailboxes(Local(domains=("local.test",), maildir=f"{tmp_path}/{{local}}")), "mx")
    name = f"{int.from_bytes(wanted.part[:6], 'big') // 1000}.{wanted.part[:16].hex()}P0R0.mx"
    _linked(mailbox / "tmp" / name, secret, ALICE)
    assert write_one(writer, wanted).status == "delivered"
    writer.close()
    assert secret.read_bytes() == b"root's"
    assert mails(mailbox) == [STORED]


def test_maildir_link_of_the_operator_is_followed(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    (disk / "alice").mkdir(parents=True)
    (tmp_path / "mail").mkdir()
    (tmp_path / "mail" / "alice").symlink_to(disk / "alice")
    assert deliver(tmp_path / "mail").status == "delivered"
    assert mails(disk / "alice") == [STORED]


def test_maildir_link_to_a_disk_that_is_away_defers(tmp_path: Path) -> None:
    (tmp_path / "alice").symlink_to(tmp_path / "disk" / "alice")
    outcome = deliver(tmp_path)
    assert (outcome.status, outcome.diagnostic) == ("deferred", f"{tmp_path}/alice: {os.strerror(errno.ENOENT)}")


def test_maildir_path_too_long_defers(tmp_path: Path) -> None:
    outcome = deliver(tmp_path, create=True, below="/" + "x" * 300)
    assert (outcome.status, outcome.code) == ("deferred", 451)
    assert outcome.diagnostic.endswith(f": {os.strerror(errno.ENAMETOOLONG)}")


def test_maildir_opened_leaves_no_descriptor_behind(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    (tmp_path / "alice").mkdir()
    (tmp_path / "alice" / "new").touch()
    with pytest.raises(NotADirectoryError):
        open_maildir(str(tmp_path), str(tmp_path / "alice"), create=False)
    with pytest.raises(FileNotFoundError):
        open_maildir(str(tmp_path), str(tmp_path / "bob" / "Maildir"), create=False)
    open_maildir(str(tmp_path), str(tmp_path / "bob" / "Maildir"), create=True).close()
    assert len(os.listdir("/proc/self/fd")) == before
