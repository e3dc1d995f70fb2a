"""`process.user`, by a real server as root: who the children are, whose files they make, what is said if it fails."""

import os
import pwd
import re
import shlex
import signal
import subprocess
from pathlib import Path

import pytest

import mta
from bench.server import MTA, Server, StartFailed
from bench.wait import wait_until
from tests.deploy.conftest import DEPLOY, Launch, low_port, send
from tests.harness import read_by_all, read_by_root, require_root
from tests.store.damage import raw

# Exists on every Debian.
USER = pwd.getpwnam("mail")
CAPS = ("setuid", "setgid", "chown", "kill", "dac_override", "net_bind_service")


@pytest.fixture(autouse=True)
def as_root() -> None:
    """Nobody else can become another user."""
    require_root()


@pytest.fixture
def hold(tmp_path: Path) -> Path:
    """An empty directory."""
    path = tmp_path / "hold"
    path.mkdir()
    return path


def status_of(pid: int) -> dict[str, list[str]]:
    """Return the fields of /proc/PID/status, in words."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: words.split() for name, _, words in (line.partition(":") for line in lines)}


def refusal(server: Server) -> str:
    """Start a server that will not start; return the one line that it leaves."""
    with pytest.raises(StartFailed, match="ended with 1"):
        server.start()
    (line,) = server.stderr().splitlines()
    return line


def test_user_set_children_are_that_user_and_no_more(launch: Launch, hold: Path) -> None:
    text = (DEPLOY / "posthaste.service").read_text()
    assert all(f"CAP_{cap.upper()}" in text for cap in CAPS)
    # What the unit leaves a master that stays root.
    limited = ["setpriv", "--bounding-set", ",".join(["-all", *(f"+{cap}" for cap in CAPS)])]
    port = low_port()
    server = launch({}, [*read_by_all(hold), *limited])
    mail_dir = server.directory / "mail"
    local = {"domains": ["here.test"], "create": True, "maildir": f"{mail_dir}/{{domain}}/{{local}}"}
    config = {
        "process": {"user": USER.pw_name},
        "workers": {"count": 2},
        "listener": [{"bind": [f"127.0.0.1:{port}"]}],
        "local": local,
    }
    server.configure(config)
    mail_dir.mkdir()
    os.chown(mail_dir, USER.pw_uid, USER.pw_gid)
    server.start()
    groups = sorted(os.getgrouplist(USER.pw_name, USER.pw_gid))
    children = server.children()
    assert len(children) == 5
    for pid in children.values():
        status = status_of(pid)
        assert status["Uid"] == [str(USER.pw_uid)] * 4
        assert status["Gid"] == [str(USER.pw_gid)] * 4
        assert sorted(map(int, status["Groups"])) == groups
        assert {int(status[name][0], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {0}
    assert status_of(server.pid)["Uid"] == ["0"] * 4
    send(server.address, "you@here.test")
    server.wait_empty()
    server.wait_events(1, "delivered")
    (mail,) = (mail_dir / "here.test/you/new").iterdir()
    made = [mail, *mail.parents[:4], server.data_dir, *server.data_dir.rglob("*")]
    assert {path.name: path.stat().st_uid for path in made if path.stat().st_uid != USER.pw_uid} == {}
    assert server.data_dir / "queue" in made
    # A child that dies is replaced with the same rights: the master has kept its own.
    pid = server.wait_replaced("worker 1", server.kill_child("worker 1"))
    assert status_of(pid)["Uid"] == [str(USER.pw_uid)] * 4
    assert server.stop() == 0


def test_files_that_root_left_are_named_with_what_to_do_and_that_helps(launch: Launch, hold: Path) -> None:
    server = launch({"workers": {"count": 1}}, read_by_all(hold))
    server.start()
    assert server.stop() == 0
    server.configure({"workers": {"count": 1}, "process": {"user": USER.pw_name}})
    line = refusal(server)
    found = re.fullmatch(r"mta: process\.user: mail cannot write (\S+), which belongs to root: (.+)", line)
    assert found, line
    assert Path(found[1]).parent == server.data_dir
    assert found[2] == f"chown -R mail: {server.data_dir}"
    subprocess.run(shlex.split(found[2]), check=True)
    server.start()
    assert server.stop() == 0


@pytest.mark.parametrize("way", ["symbolic link", "hard link", "fifo"])
def test_lock_that_the_user_has_put_there_gives_no_file_away(launch: Launch, hold: Path, way: str) -> None:
    server = launch({"workers": {"count": 1}, "process": {"user": USER.pw_name}}, read_by_all(hold))
    roots = server.directory / "only-for-root"
    roots.write_text("secret")
    roots.chmod(0o600)
    lock = server.data_dir / "lock"
    server.data_dir.mkdir()
    if way == "symbolic link":
        lock.symlink_to(roots)
    elif way == "hard link":
        lock.hardlink_to(roots)
    else:
        os.mkfifo(lock)
    line = refusal(server)
    assert line.startswith(f"mta: cannot use data_dir {server.data_dir}: ")
    assert (roots.stat().st_uid, lock.lstat().st_uid) == (0, 0)


def test_queue_of_another_user_says_who_may_read_it(launch: Launch, tmp_path: Path) -> None:
    server = launch({})
    server.start()
    assert server.stop() == 0
    # Whoever may enter the directory sees the files, which are the server's own.
    command: list[str] = [str(MTA), "queue", "count", "-c", str(server.config_file)]
    acting = ["setpriv", "--reuid", USER.pw_name, "--regid", str(USER.pw_gid), "--clear-groups"]
    queue = server.directory / "data" / "queue"
    queue.chmod(0o755)
    for parent in (server.directory / "data", *queue.parents):
        if parent.stat().st_mode & 0o055 != 0o055:
            parent.chmod(0o755)
    (tmp_path / "hold").mkdir(exist_ok=True)
    done = subprocess.run(
        [*read_by_all(tmp_path / "hold"), *acting, *command], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 1
    wanted = f"mta: {queue}/lock.mdb: permission denied: run this as root or the user that the server runs as\n"
    assert done.stderr == wanted


def test_lock_that_a_copy_by_hard_links_shares_is_still_the_users_own(launch: Launch, hold: Path) -> None:
    server = launch({"workers": {"count": 1}, "process": {"user": USER.pw_name}}, read_by_all(hold))
    server.start()
    assert server.stop() == 0
    (server.directory / "copy").hardlink_to(server.data_dir / "lock")
    server.start()
    assert server.stop() == 0


def test_repair_and_compact_by_root_leave_the_user_everything(launch: Launch, hold: Path) -> None:
    before = read_by_all(hold)
    server = launch({"workers": {"count": 1}, "process": {"user": USER.pw_name}}, before)
    server.start()
    send(server.address, "you@nowhere.test")
    assert server.stop() == 0
    with raw(server.data_dir) as tables:
        tables.put("message", b"unreadable", b"")
    (server.data_dir / "queue/lock.mdb").unlink()
    for words in (("queue", "verify", "--repair"), ("queue", "compact")):
        done = subprocess.run([*before, MTA, *words, "-c", server.config_file], capture_output=True, check=False)
        assert done.returncode == 0, done
    assert {path.stat().st_uid for path in server.data_dir.rglob("*")} == {USER.pw_uid}
    assert list((server.data_dir / "damaged").iterdir())
    server.start()
    assert server.stop() == 0


def test_events_directory_that_the_user_cannot_make_is_named(launch: Launch, hold: Path) -> None:
    server = launch({}, read_by_all(hold))
    events = server.directory / "log/events"
    server.configure({"process": {"user": USER.pw_name}, "events": {"directory": str(events)}})
    assert refusal(server) == (
        f"mta: process.user: mail cannot write {server.directory}, which belongs to root: "
        f"install -d -m 750 -o mail {events}"
    )


def test_reload_to_an_events_directory_that_the_user_cannot_make_fails(launch: Launch, hold: Path) -> None:
    server = launch({}, read_by_all(hold))
    config: dict[str, object] = {"process": {"user": USER.pw_name}}
    server.configure(config)
    server.start()
    report = server.children()["report"]
    server.configure({**config, "events": {"directory": str(server.directory / "log")}})
    server.send_signal(signal.SIGHUP)
    wait_until(lambda: "reload failed" in server.stderr(), "the end of the reload")
    assert f"mta: process.user: mail cannot write {server.directory}, which belongs to root" in server.stderr()
    assert server.children()["report"] == report
    assert server.stop() == 0


def test_directory_that_the_user_cannot_enter_is_named(launch: Launch, hold: Path) -> None:
    server = launch({"process": {"user": USER.pw_name}}, read_by_all(hold))
    server.directory.chmod(0o700)
    assert refusal(server) == (
        f"mta: process.user: mail cannot enter {server.directory}, and so not use {server.data_dir}: "
        f"chmod o+x {server.directory}"
    )


def test_program_that_the_user_cannot_read_is_named(launch: Launch, hold: Path) -> None:
    server = launch({"process": {"user": USER.pw_name}}, read_by_root(hold, Path(mta.__file__).parents[1]))
    assert re.fullmatch(
        r"mta: process\.user: mail cannot read \S+, which holds the program: "
        "install Python and this package where every user can read them",
        refusal(server),
    )


def test_user_of_somebody_who_is_not_root_is_refused(launch: Launch, hold: Path) -> None:
    nobody = ["setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups"]
    server = launch({"process": {"user": USER.pw_name}}, [*read_by_all(hold), *nobody])
    assert refusal(server) == "mta: process.user: only root can become mail"
