"""Whether `process.user` can work with what is there, asked before the first child is born.

Rule: the kernel answers, asked as that user, so that groups, ACLs and read-only mounts count. Without this, files that
an earlier start as root has left would show as children that die again and again.
"""

import os
import pwd
from collections.abc import Iterator
from pathlib import Path

import mta
from mta.config import Config
from mta.errors import StartError
from mta.linkpath import LINK_NAME, STATE_NAME
from mta.master.sockets import User

__all__ = ["check_rights"]

# What the master opens or makes itself, and hands to the children.
NOT_OPENED = frozenset({LINK_NAME, STATE_NAME, "lock"})


def check_rights(config: Config, user: User) -> None:
    """Return if the children will be able to work as `user`; for whoever does not change the user, at once.

    Raises:
        StartError: with the first path that the user cannot use, whose it is, and what to do.
    """
    if not user.name or os.geteuid() != 0 or user.uid == 0:
        return
    with user.acting():
        for path in (os.path.dirname(os.__file__), os.path.dirname(mta.__file__)):
            if not _may(path, os.R_OK | os.X_OK):
                raise StartError(
                    f"process.user: {user.name} cannot read {path}, which holds the program: "
                    "install Python and this package where every user can read them"
                )
        for path in _used(config):
            if not _may(path, os.R_OK | os.W_OK | (os.X_OK if os.path.isdir(path) else 0)):
                raise StartError(_refused(path, config, user))


def _used(config: Config) -> Iterator[str]:
    """Yield what the children open for writing, each directory before what is in it."""
    yield from _tree(config.data_dir)
    events = config.events.directory
    if not _is_in(events, config.data_dir):
        if os.path.isdir(events):
            yield from _tree(events)
        else:
            yield _there(events)


def _tree(top: str) -> Iterator[str]:
    """Yield a directory and everything below it that is opened by the children."""
    yield top
    for place, directories, files in os.walk(top):
        yield from (os.path.join(place, name) for name in (*directories, *files) if name not in NOT_OPENED)


def _there(path: str) -> str:
    """Return what exists of a path, and so where the rest of it will be made."""
    while not os.path.lexists(path) and path != os.path.dirname(path):
        path = os.path.dirname(path)
    return path


def _may(path: str, how: int) -> bool:
    return os.access(path, how, effective_ids=True)


def _refused(path: str, config: Config, user: User) -> str:
    """Return what is wrong with a path, whose it is, and what to do."""
    for parent in reversed(Path(path).parents):
        if not _may(str(parent), os.X_OK):
            return f"process.user: {user.name} cannot enter {parent}, and so not use {path}: chmod o+x {parent}"
    top = config.data_dir if _is_in(path, config.data_dir) else config.events.directory
    wanted = f"chown -R {user.name}: {top}" if os.path.exists(top) else f"install -d -m 750 -o {user.name} {top}"
    owner = _name(os.stat(path).st_uid)
    return f"process.user: {user.name} cannot write {path}, which belongs to {owner}: {wanted}"


def _is_in(path: str, directory: str) -> bool:
    return os.path.commonpath([path, directory]) == directory


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
