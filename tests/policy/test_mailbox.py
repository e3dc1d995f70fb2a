"""Where mailboxes lie: no address leaves its folder, no two mailboxes share one."""

from pathlib import Path
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.config import Local
from mta.message import Address
from mta.policy import Mailboxes

MAILBOXES = Mailboxes(Local(domains=("local.test",), maildir="/mail/{domain}/{local}"))


def folder(local: str) -> str:
    """Return the last name in the path of a local part."""
    path = MAILBOXES.path(Address(local, "local.test", ""))
    assert path.parts[:3] == ("/", "mail", "local.test")
    assert len(path.parts) == 4
    return path.name


@pytest.mark.parametrize(
    ("local", "name"),
    [
        # Ordinary local parts stand as they are, in lowercase.
        ("alice", "alice"),
        ("Alice.B+tag", "alice.b+tag"),
        ("o'neil", "o'neil"),
        ("x=y_z-1{2}~", "x=y_z-1{2}~"),
        # Signs that mean something in a path, or to Maildir++.
        ("/", "%2F"),
        ("../../etc/passwd", "%2E.%2F..%2Fetc%2Fpasswd"),
        (".", "%2E"),
        ("..", "%2E."),
        (".hidden", "%2Ehidden"),
        ("a\0b", "a%00b"),
        ("a\nb", "a%0Ab"),
        ("a b", "a%20b"),
        ('a"b\\c', "a%22b%5Cc"),
        # Nothing at all, and the escape sign itself.
        ("", "%"),
        ("%", "%25"),
        ("%2F", "%252f"),
        # UTF-8, and what cannot be UTF-8.
        ("jürgen", "j%C3%BCrgen"),
        ("\ud800", "%ED%A0%80"),
    ],
)
def test_mailboxes_path_of_a_local_part(local: str, name: str) -> None:
    assert folder(local) == name


@pytest.mark.parametrize("n", [64, 255, 256, 5000])
def test_mailboxes_path_name_fits_a_file_system(n: int) -> None:
    plain, wide = folder("a" * n), folder("ü" * n)
    assert plain == "a" * n if n <= 255 else len(plain) <= 255
    assert len(wide.encode()) <= 255
    assert wide != folder("ü" * (n + 1))


@given(st.text(max_size=300), st.text(max_size=300))
def test_mailboxes_path_differs_for_different_mailboxes(one: str, other: str) -> None:
    names = folder(one), folder(other)
    assert (names[0] == names[1]) == (one.lower() == other.lower())


@given(st.text(max_size=40))
def test_mailboxes_path_can_be_read_back(local: str) -> None:
    name = folder(local)
    if "%h" not in name:
        assert (unquote(name) if name != "%" else "") == local.lower()


@given(st.text(), st.text())
def test_mailboxes_path_never_leaves_its_folder(local: str, domain: str) -> None:
    path = Mailboxes(Local(maildir="/mail/{domain}/{local}/Maildir")).path(Address(local, domain, ""))
    assert path.parts[:2] == ("/", "mail")
    assert len(path.parts) == 5
    assert path.name == "Maildir"
    assert ".." not in path.parts


@pytest.mark.parametrize(
    ("maildir", "path"),
    [
        ("/home/{local}/Maildir", "/home/alice/Maildir"),
        ("/mail/{domain}/{local}/Maildir", "/mail/local.test/alice/Maildir"),
        ("/mail/{local}/{domain}", "/mail/alice/local.test"),
        # A directory with braces in its name, as `config.load` writes it.
        ("/{{local}}/{local}", "/{local}/alice"),
    ],
)
def test_mailboxes_path_fills_in_anywhere(maildir: str, path: str) -> None:
    assert Mailboxes(Local(maildir=maildir)).path(Address("alice", "local.test", "")) == Path(path)


def test_mailboxes_path_does_not_fill_in_twice() -> None:
    address = Address("{domain}", "local.test", "")
    assert Mailboxes(Local(maildir="/mail/{local}")).path(address) == Path("/mail/{domain}")


def test_mailboxes_exists_only_as_a_folder(tmp_path: Path) -> None:
    mailboxes = Mailboxes(Local(maildir=f"{tmp_path}/{{local}}/Maildir"))
    (tmp_path / "alice" / "Maildir").mkdir(parents=True)
    (tmp_path / "bob").mkdir()
    (tmp_path / "bob" / "Maildir").touch()
    (tmp_path / "carol").touch()
    there = {local: mailboxes.exists(Address(local, "local.test", "")) for local in ("alice", "bob", "carol", "dave")}
    assert there == {"alice": True, "bob": False, "carol": False, "dave": False}


def test_mailboxes_may_create_is_the_postmasters_right() -> None:
    mailboxes = Mailboxes(Local(domains=("local.test",)))
    assert mailboxes.may_create(Address("postmaster", "local.test", ""))
    assert not mailboxes.may_create(Address("alice", "local.test", ""))
    assert Mailboxes(Local(create=True)).may_create(Address("alice", "local.test", ""))
