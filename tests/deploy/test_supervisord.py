"""The program of deploy/posthaste.supervisord.conf under a real supervisord."""

import os
import pwd
import signal
import smtplib
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.cpu import children_of, title_of
from bench.server import MTA
from bench.tomltext import to_toml
from bench.wait import wait_until
from tests.deploy.conftest import DEPLOY, PATIENCE_S, free_port, send
from tests.harness import require_tool

FRAME = """
[supervisord]
nodaemon = true
logfile = {here}/supervisord.log
pidfile = {here}/supervisord.pid
childlogdir = {here}

[unix_http_server]
file = {here}/control

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface

[supervisorctl]
serverurl = unix://{here}/control

[include]
files = {here}/posthaste.conf
"""


class Supervised:
    """A supervisord with our program in it."""

    def __init__(self, here: Path) -> None:
        self.log = here / "posthaste.log"
        self._control = [require_tool("supervisorctl", "supervisor"), "-c", str(here / "supervisord.conf")]
        self.port = free_port()
        config = {
            "hostname": "mx.example.test",
            "data_dir": str(here / "data"),
            "listener": [{"bind": [f"127.0.0.1:{self.port}"]}],
            "local": {"domains": ["here.test"], "create": True, "maildir": str(here / "mail/{domain}/{local}")},
            "workers": {"count": 1},
        }
        (here / "posthaste.toml").write_text(to_toml(config))
        program = (DEPLOY / "posthaste.supervisord.conf").read_text()
        for theirs, ours in (
            ("/opt/posthaste/bin/mta", str(MTA)),
            ("/etc/posthaste/posthaste.toml", str(here / "posthaste.toml")),
            ("/var/log/posthaste.log", str(self.log)),
            # Only root may give a program a user, even its own.
            ("user = root", f"user = {pwd.getpwuid(os.getuid()).pw_name}"),
        ):
            assert theirs in program
            program = program.replace(theirs, ours)
        (here / "posthaste.conf").write_text(program)
        (here / "supervisord.conf").write_text(FRAME.format(here=here))
        command = [require_tool("supervisord", "supervisor"), "-c", str(here / "supervisord.conf")]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=here)

    def control(self, *words: str) -> str:
        """Return what supervisorctl says."""
        done = subprocess.run(
            [*self._control, *words], capture_output=True, text=True, timeout=PATIENCE_S * 2, check=False
        )
        return done.stdout.strip()

    def state(self) -> str:
        """Return "RUNNING" and the like; "" while supervisord is not there yet."""
        words = self.control("status", "posthaste").split()
        return words[1] if words[:1] == ["posthaste"] else ""

    def n_ready(self) -> int:
        """Return how often our program has become ready."""
        return self.log.read_text().count("mta: ready ") if self.log.exists() else 0

    def pid(self) -> int:
        """Return the master's pid, 0 for none."""
        return int(self.control("pid", "posthaste") or 0)


@pytest.fixture
def supervised(tmp_path: Path) -> Iterator[Supervised]:
    """A running supervisord that ends with the test, and what it started with it."""
    made = Supervised(tmp_path)
    yield made
    print(made.log.read_text() if made.log.exists() else "no log")
    made.process.terminate()
    made.process.wait(PATIENCE_S * 2)


def test_supervisord_starts_restarts_and_stops_the_server_in_order(supervised: Supervised) -> None:
    wait_until(lambda: supervised.n_ready() == 1, "the first start", PATIENCE_S, 0.1)
    wait_until(lambda: supervised.state() == "RUNNING", "RUNNING", PATIENCE_S, 0.3)
    first = supervised.pid()
    family = children_of(first)
    assert len(family) == 4
    client = smtplib.SMTP("127.0.0.1", supervised.port, timeout=PATIENCE_S)
    words = ["EHLO x", "MAIL FROM:<me@source.test>", "RCPT TO:<you@here.test>", "DATA"]
    assert [client.docmd(line)[0] for line in words] == [250, 250, 250, 354]
    os.kill(first, signal.SIGKILL)
    # The next one finds the lock taken by the children that the first has left, and waits.
    wait_until(lambda: "waiting up to 10 s for it" in supervised.log.read_text(), "a word about waiting", PATIENCE_S)
    client.putcmd("hello")
    assert client.docmd(".")[0] == 250
    client.close()
    wait_until(lambda: supervised.n_ready() == 2, "the second start", PATIENCE_S, 0.1)
    assert not [pid for pid in family if title_of(pid).startswith("mta: ")]
    assert supervised.state() in ("STARTING", "RUNNING")
    second = supervised.pid()
    assert second != first
    send(("127.0.0.1", supervised.port), "you@here.test")
    with socket.create_connection(("127.0.0.1", supervised.port), PATIENCE_S) as idle:
        assert idle.recv(512).startswith(b"220 ")
        family = children_of(second)
        assert supervised.control("stop", "posthaste") == "posthaste: stopped"
        # It was told, not cut off.
        assert idle.recv(512).startswith(b"421 4.3.2 ")
    assert supervised.state() == "STOPPED"
    assert not [pid for pid in family if title_of(pid)]
    said = supervised.log.read_text()
    assert said.index("mta: stopping\n") < said.index("mta: stopped\n")
    assert "killing" not in said
    assert "giving up" not in said
