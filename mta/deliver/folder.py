"""One Maildir, opened by descriptors and, where we are root, worked in as its owner.

Rule: what is done inside a folder is done with the rights of the folder's owner, from the folder that all mailboxes are
in downwards. So what we make belongs to them, their quota counts it, and a symbolic link that they have put into their
folder leads to nothing that they could not reach themselves.

A path may pass from root's folders, or ours, to one user's and from there no further: where alice's Maildir is a link
to bob's, or to root's, there is somebody else's folder within hers, and nothing is delivered. tmp/, new/ and cur/ may
not be links at all.

Not root, we have our own rights everywhere, and what we make is ours.
"""

import contextlib
import errno
import os
import stat

from mta._fast import become

__all__ = ["Maildir", "open_maildir"]

# To look something up in a folder takes the right to search it; to flush it, the right to read it.
SEARCH = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
READ = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
WRITE_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
FOLDER_MODE = 0o700
FILE_MODE = 0o600
ROOT = 0
# The file system's clock may lag behind ours by a tick; a folder last changed before this cannot hold our file.
SKEW_S = 5


class Maildir:
    """An open Maildir; every method may raise OSError. Names are those of files, without a folder."""

    def __init__(self, path: str, fd: int) -> None:
        """Take the descriptor of its folder, and make tmp/ and new/ where they are missing."""
        self.path = path
        self.rights = _rights_of(fd)
        """A context: be the owner, in this thread, as long as it lasts."""
        self._fd = fd
        self._tmp = self._new = -1
        try:
            with self.rights:
                self._tmp = self._open("tmp")
                self._new = self._open("new")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close every descriptor."""
        for fd in (self._fd, self._tmp, self._new):
            if fd >= 0:
                os.close(fd)

    def has(self, name: str, born_s: int) -> bool:
        """Return whether a mail of this name is in new/ or, under any flags, in cur/, which is made if it is missing.

        `born_s` is when its message came to be, in seconds since 1970.
        """
        try:
            os.stat(name, dir_fd=self._new, follow_symlinks=False)
        except FileNotFoundError:
            pass
        else:
            return True
        try:
            found = os.stat("cur", dir_fd=self._fd, follow_symlinks=False)
        except FileNotFoundError:
            _make(self._fd, "cur")
            return False
        if not stat.S_ISDIR(found.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        # Listing a cur/ of 100,000 mails costs more than delivering: look only if something came into it since.
        if found.st_mtime < born_s - SKEW_S:
            return False
        cur = self._open("cur")
        try:
            return any(there.startswith(name) for there in os.listdir(cur))
        finally:
            os.close(cur)

    def create(self, name: str) -> int:
        """Open a new file in tmp/ and return its descriptor."""
        try:
            return os.open(name, WRITE_NEW, FILE_MODE, dir_fd=self._tmp)
        except FileExistsError:
            # Left by a worker that died while writing it.
            self.discard(name)
            return os.open(name, WRITE_NEW, FILE_MODE, dir_fd=self._tmp)

    def discard(self, name: str) -> None:
        """Remove a file from tmp/."""
        os.unlink(name, dir_fd=self._tmp)

    def move(self, name: str) -> None:
        """Move a file from tmp/ into new/. Nobody else makes files of its name, and `has` saw that nothing is there."""
        os.rename(name, name, src_dir_fd=self._tmp, dst_dir_fd=self._new)

    def flush(self) -> None:
        """Have the disk keep what was moved into new/."""
        os.fsync(self._new)

    def flush_all(self) -> None:
        """Have the disk keep what anybody has moved into new/ or cur/."""
        self.flush()
        _flush(self._fd, "cur")

    def _open(self, name: str) -> int:
        """Open one of the three folders, as the owner, and make it if it is not there."""
        try:
            return os.open(name, READ | os.O_NOFOLLOW, dir_fd=self._fd)
        except FileNotFoundError:
            _make(self._fd, name)
            return os.open(name, READ | os.O_NOFOLLOW, dir_fd=self._fd)


def open_maildir(root: str, path: str, *, create: bool) -> Maildir:
    """Open the Maildir at `path`, which begins with `root` or, where that is "", lies in the working directory.

    `create` makes the folders that are missing. Raises OSError; FileNotFoundError where a folder on the way is not
    there, PermissionError for a path that goes on from one user's folder to another's.
    """
    if create and not os.path.isdir(root or "."):
        _make_with_parents(os.path.abspath(root))
    fd = os.open(root or ".", SEARCH)
    try:
        for name in path[len(root) :].strip(os.sep).split(os.sep):
            inner = _step(fd, name, create=create)
            os.close(fd)
            fd = inner
    except BaseException:
        os.close(fd)
        raise
    return Maildir(path, fd)


def _step(above: int, name: str, *, create: bool) -> int:
    """Open a folder within another one, as the owner of that one."""
    with _rights_of(above):
        try:
            fd = os.open(name, SEARCH, dir_fd=above)
        except FileNotFoundError:
            if not create:
                raise
            _make(above, name)
            fd = os.open(name, SEARCH, dir_fd=above)
    outer, inner = os.fstat(above).st_uid, os.fstat(fd).st_uid
    if outer not in (ROOT, os.geteuid(), inner):
        os.close(fd)
        raise PermissionError(errno.EPERM, f"{name} leads from the folder of user {outer} to that of user {inner}")
    return fd


class _Rights:
    """A context in which this thread is somebody else; may be used again, not within itself."""

    def __init__(self, uid: int, gid: int) -> None:
        self._uid, self._gid = uid, gid

    def __enter__(self) -> None:
        try:
            become(self._uid, self._gid)
        except BaseException:
            become(ROOT, ROOT)
            raise

    def __exit__(self, *_: object) -> None:
        become(ROOT, ROOT)


_OURS = contextlib.nullcontext()


def _rights_of(fd: int) -> contextlib.AbstractContextManager[None]:
    """Return the rights of an open folder's owner, where we are root and it is somebody else's; else our own."""
    found = os.fstat(fd)
    return _OURS if os.geteuid() != ROOT or found.st_uid == ROOT else _Rights(found.st_uid, found.st_gid)


def _make(above: int, name: str) -> None:
    """Make a folder for its owner alone, safe on the disk."""
    # If another worker was faster, it may not have flushed yet; a file in the way shows in what comes next.
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, FOLDER_MODE, dir_fd=above)
    _flush(above, ".")


def _make_with_parents(path: str) -> None:
    """Make a folder and those above it that are missing."""
    above, name = os.path.split(path)
    if not os.path.isdir(above):
        _make_with_parents(above)
    fd = os.open(above, SEARCH)
    try:
        _make(fd, name)
    finally:
        os.close(fd)


def _flush(above: int, name: str) -> None:
    fd = os.open(name, READ | os.O_NOFOLLOW, dir_fd=above)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
