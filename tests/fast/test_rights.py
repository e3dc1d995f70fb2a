"""One thread is somebody else, and nobody but that thread notices."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mta._fast import become

USER, GROUP = 61_001, 61_002


@pytest.mark.skipif("os.getuid() != 0", reason="only root can become another user")
def test_become_changes_one_thread_until_it_is_root_again(tmp_path: Path) -> None:
    seen: list[object] = []
    tmp_path.chmod(0o755)
    (tmp_path / "theirs").mkdir()
    os.chown(tmp_path / "theirs", USER, GROUP)
    there, here = threading.Event(), threading.Event()

    def other() -> None:
        fd = os.open(tmp_path / "theirs", os.O_PATH)
        become(USER, GROUP)
        seen.append((os.geteuid(), os.getegid(), os.getgroups()))
        os.mkdir("made", dir_fd=fd)
        there.set()
        here.wait(10)
        become(0, 0)
        seen.append((os.geteuid(), os.getegid()))
        os.close(fd)

    thread = threading.Thread(target=other)
    thread.start()
    assert there.wait(10)
    assert (os.geteuid(), os.getegid()) == (0, os.getgid())
    here.set()
    thread.join()
    assert seen == [(USER, GROUP, []), (0, 0)]
    made = (tmp_path / "theirs" / "made").stat()
    assert (made.st_uid, made.st_gid) == (USER, GROUP)


@pytest.mark.skipif("os.getuid() != 0", reason="only root can become another user")
def test_become_leaves_no_capability_in_force() -> None:
    script = f"""
from mta._fast import become
def effective():
    (line,) = [line for line in open("/proc/thread-self/status") if line.startswith("CapEff")]
    return int(line.split()[1], 16)
before = effective()
become({USER}, {GROUP})
dropped = effective()
become(0, 0)
print(before > 0, dropped, effective() == before)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.split() == ["True", "0", "True"]


def test_become_without_the_right_raises() -> None:
    script = """
import os
from mta._fast import become
os.getuid() or os.setresuid(61001, 61001, 61001)
try:
    become(61002, 61002)
except PermissionError as error:
    print(error.errno, os.geteuid() == os.getuid())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.split() == ["1", "True"]
