"""What deploy/posthaste.service and a container allow is enough: the server works under the same restrictions.

systemd itself does not run here. The kernel enforces what it can without it (no root, one capability, a read-only file
system, no memory that is writable and executable, process 1); which system calls are made is read from a trace.
"""

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from bench.cpu import children_of
from bench.server import Server
from bench.sink import Sink
from bench.wait import wait_until
from tests.deploy.conftest import DEPLOY, Launch, low_port, send
from tests.harness import as_first_process, read_by_all, relaying, require_root, require_tool, without_writing

# PR_SET_MDWE and PR_MDWE_REFUSE_EXEC_GAIN of prctl(2), which newer versions of systemd use for the same setting.
MDWE = (
    "import ctypes, os, sys; assert ctypes.CDLL(None).prctl(65, 1, 0, 0, 0) == 0; os.execvp(sys.argv[1], sys.argv[1:])"
)
WRITE_EXECUTE = "import mmap; mmap.mmap(-1, 4096, prot=mmap.PROT_WRITE | mmap.PROT_EXEC)"
SET = re.compile(r"^ +(@?[\w-]+)$", re.MULTILINE)


@pytest.fixture
def hold(tmp_path: Path) -> Path:
    """An empty directory."""
    path = tmp_path / "hold"
    path.mkdir()
    return path


def settings(name: str) -> list[str]:
    """Return the values of a setting of the unit, in order."""
    return re.findall(rf"^{name}=(.*)$", (DEPLOY / "posthaste.service").read_text(), re.MULTILINE)


def both_ways(sink: Sink, directory: Path) -> dict[str, object]:
    """Return a configuration with a mailbox and a next hop."""
    local = {"domains": ["here.test"], "create": True, "maildir": f"{directory}/mail/{{domain}}/{{local}}"}
    return {**relaying(sink.via), "local": local}


def deliver_both_ways(server: Server, sink: Sink) -> None:
    """Send a mail to the mailbox and one to the next hop, and see both arrive."""
    send(server.address, "you@here.test")
    send(server.address, "you@sink.test")
    sink.wait_count(1)
    server.wait_events(2, "delivered")
    assert len(list((server.directory / "mail/here.test/you/new").iterdir())) == 1


def test_unit_rights_are_enough_to_serve_a_low_port_and_deliver(sink: Sink, launch: Launch, hold: Path) -> None:
    require_root()
    assert settings("CapabilityBoundingSet") == settings("AmbientCapabilities") == ["CAP_NET_BIND_SERVICE"]
    assert settings("ProtectSystem") == ["strict"]
    assert settings("MemoryDenyWriteExecute") == settings("NoNewPrivileges") == ["yes"]
    port = low_port()
    server = launch({})
    server.configure({**both_ways(sink, server.directory), "listener": [{"bind": [f"127.0.0.1:{port}"]}]})
    os.chown(server.directory, 65534, 65534)
    cap = "-all,+net_bind_service"
    server.before = [
        *read_by_all(hold),
        *without_writing(server.directory),
        *("setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups", "--no-new-privs"),
        *("--inh-caps", cap, "--ambient-caps", cap, "--bounding-set", cap),
        *(sys.executable, "-c", MDWE),
    ]
    # It is as tight as it says.
    for forbidden in (["touch", str(hold / "file")], [sys.executable, "-c", WRITE_EXECUTE]):
        assert subprocess.run([*server.before, *forbidden], capture_output=True, check=False).returncode == 1
    server.start()
    deliver_both_ways(server, sink)
    assert server.stop() == 0


def test_unit_allows_the_system_calls_and_address_families_that_are_used(sink: Sink, launch: Launch) -> None:
    strace = require_tool("strace", "strace")
    analyze = require_tool("systemd-analyze", "systemd")
    sets: dict[str, set[str]] = {}
    for block in subprocess.check_output([analyze, "syscall-filter", "--no-pager"], text=True).split("\n\n"):
        sets[block.strip().partition("\n")[0]] = set(SET.findall(block))
    allowed: set[str] = set()
    for value in settings("SystemCallFilter"):
        names = {name for word in value.lstrip("~").split() for name in flat(word, sets)}
        allowed = allowed - names if value.startswith("~") else allowed | names
    server = launch({})
    server.configure(both_ways(sink, server.directory))
    trace = server.directory / "trace"
    server.before = [strace, "-f", "-qq", "-e", "signal=none", "-s", "0", "-o", str(trace)]
    server.start()
    deliver_both_ways(server, sink)
    os.kill(children_of(server.pid)[0], signal.SIGTERM)
    assert server.wait() == 0
    text = trace.read_text()
    called = set(re.findall(r"^\d+ +(\w+)\(", text, re.MULTILINE))
    assert {"epoll_wait", "fdatasync", "sendto"} & called
    assert called - allowed == set()
    families = set(re.findall(r"\bsocket(?:pair)?\((AF_\w+)", text))
    (restricted,) = settings("RestrictAddressFamilies")
    assert {"AF_UNIX", "AF_INET"} <= families
    # The C library asks for interfaces over AF_NETLINK, and goes on without.
    assert families - {"AF_NETLINK"} <= set(restricted.split())
    assert not re.search(r"PROT_WRITE\|PROT_EXEC", text)


def flat(word: str, sets: dict[str, set[str]]) -> set[str]:
    """Return the system calls that a word of a filter stands for."""
    return {name for each in sets[word] for name in flat(each, sets)} if word.startswith("@") else {word}


def test_server_as_process_1_reaps_orphans_and_ends_in_order_on_sigterm(sink: Sink, launch: Launch) -> None:
    require_root()
    server = launch(relaying(sink.via), as_first_process())
    server.start()
    (master,) = children_of(server.pid)
    inside = re.search(r"^NSpid:.*\t(\d+)$", Path(f"/proc/{master}/status").read_text(), re.MULTILINE)
    assert inside
    assert inside[1] == "1"
    send(server.address, "you@sink.test")
    sink.wait_count(1)
    family = children_of(master)
    # A process whose parent dies becomes a child of process 1 of its namespace. This one ends when we let it.
    words = ["nsenter", "--target", str(master), "--pid", "sh", "-c", "exec 3<&0; (read line <&3) & exit"]
    with subprocess.Popen(words, stdin=subprocess.PIPE) as parent:
        assert parent.wait(20) == 0
        wait_until(lambda: len(children_of(master)) == len(family) + 1, "the orphan to be handed on")
    wait_until(lambda: children_of(master) == family, "the orphan to be reaped")
    with socket.create_connection(server.address, 20) as client:
        assert client.recv(512).startswith(b"220 ")
        os.kill(master, signal.SIGTERM)
        assert server.wait() == 0
        assert client.recv(512).startswith(b"421 4.3.2 ")
    assert "mta: stopped\n" in server.stderr()
