"""How many files a process may have open: raised to what is allowed, and a word where that is too few."""

import re
from pathlib import Path

from mta.config import Config, Listener, Workers
from mta.master.openfiles import needed_files
from tests.deploy.conftest import Launch
from tests.harness import require_tool


def limited(soft: int, hard: int) -> list[str]:
    """Return the words in front of a command that give it these limits."""
    return [require_tool("prlimit", "util-linux"), f"--nofile={soft}:{hard}"]


def test_limit_too_low_for_the_settings_is_said_with_numbers_and_a_remedy(launch: Launch) -> None:
    config = {"workers": {"count": 2}, "limits": {"connections": 400}, "deliver": {"sessions": 101}}
    server = launch(config, limited(100, 300))
    server.start()
    # 200 connections, 51 sessions, one address, and 100 others.
    assert (
        "mta: a process may have 300 files open, but limits.connections = 400 and deliver.sessions = 101 need 352 in "
        "each of 2 workers: raise the limit (LimitNOFILE= for systemd, minfds for supervisord, ulimit -n in a shell), "
        "or lower these settings\n"
    ) in server.stderr()
    for pid in (server.pid, *server.children().values()):
        found = re.search(r"^Max open files +(\d+) +(\d+)", Path(f"/proc/{pid}/limits").read_text(), re.MULTILINE)
        assert found
        assert found.groups() == ("300", "300")
    assert server.stop() == 0


def test_limit_that_is_enough_is_not_mentioned(launch: Launch) -> None:
    config = {"workers": {"count": 2}, "limits": {"connections": 400}, "deliver": {"sessions": 101}}
    server = launch(config, limited(100, 352))
    server.start()
    assert "files open" not in server.stderr()
    assert server.stop() == 0


def test_defaults_need_what_the_advice_says() -> None:
    config = Config(hostname="x", data_dir="x", listener=(Listener(),), workers=Workers(count=1))
    text = (Path(__file__).parents[2] / "deploy/limits.conf").read_text()
    assert f"one worker that is {needed_files(config):,};" in text
