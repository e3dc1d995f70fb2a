"""Reload and upgrade of the master over real child processes; what the children do is in `kids`."""

import contextlib
import os
import re
import signal
import socket
import time
from pathlib import Path

import pytest

from tests.master.test_master import PATIENCE_S, ROOT, Server, Start

LINES_OF_A_BAD_FILE = (
    r"server0\.toml: hostname: expected .*, got 7\n.*mta: reload failed, the running configuration stays"
)


def hang_up(server: Server, number: int = signal.SIGHUP, /, **changes: object) -> None:
    """Change the configuration and have it read."""
    server.configure(**changes)
    server.process.send_signal(number)


def greets(address: tuple[str, int]) -> bool:
    """Say whether somebody serves an address."""
    try:
        with socket.create_connection(address, PATIENCE_S) as client:
            return client.recv(100) == b"220 hello\r\n"
    except ConnectionRefusedError:
        return False


def ready_port(server: Server) -> int:
    """Return the port of the first listener, once the server is ready."""
    return int(server.read_until(r"mta: ready mx=127\.0\.0\.1:(\d+)")[1])


def n_files(pid: int) -> int:
    """Return how many descriptors a process has."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def queue_heard(server: Server, word: str) -> list[str]:
    """Return what the queue process was told under a word."""
    return [line for line in server.log() if line.startswith("queue ") and f"heard ['{word}'" in line]


def test_reload_new_workers_take_over_and_the_others_stay(start: Start) -> None:
    server = start()
    port = ready_port(server)
    before = server.pids()
    hang_up(server, hostname="other.example.test")
    server.read_until(rf"mta: reloaded mx=127\.0\.0\.1:{port}\n")
    old = [before["worker 1"], before["worker 2"]]
    server.wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in old))
    after = server.pids()
    assert [before[name] == after[name] for name in ("queue", "report", "worker 1", "worker 2")] == [1, 1, 0, 0]
    # The old ones were told only when the new ones were there, and nobody counts as dead.
    log = server.log()
    starts = [at for at, line in enumerate(log) if re.fullmatch(r"worker \d \d+ start", line)]
    stops = [at for at, line in enumerate(log) if re.fullmatch(r"worker \d \d+ stop", line)]
    assert max(starts) < min(stops)
    server.wait_for(lambda: bool(queue_heard(server, "reloaded")))
    (config,) = queue_heard(server, "config")
    assert "'hostname': 'other.example.test'" in config
    assert all(str(pid) in config for pid in old)
    assert queue_heard(server, "died") == []
    both = [[n, pids[f"worker {n}"]] for pids in (before, after) for n in (1, 2)]
    assert any(str(both) in line for line in queue_heard(server, "workers"))
    server.wait_for(lambda: str([[n, after[f"worker {n}"]] for n in (1, 2)]) in queue_heard(server, "workers")[-1])
    assert greets(("127.0.0.1", port))


def test_reload_orders_in_quick_succession_are_not_heaped(start: Start) -> None:
    server = start()
    server.read_until("mta: ready")
    for _ in range(20):
        server.process.send_signal(signal.SIGHUP)
    server.read_until(r"(?s)(mta: reloaded.*){1,2}")
    time.sleep(1.0)
    server.process.terminate()
    assert server.wait() == 0
    assert 1 <= server.text.count("mta: reloaded") <= 3


def test_reload_generations_that_take_their_time_are_not_heaped_either(start: Start) -> None:
    server = start({"worker": "stays"}, workers={"count": 1})
    server.read_until("mta: ready")
    old = [server.pids()["worker 1"]]
    for number in range(1, 7):
        server.process.send_signal(signal.SIGHUP)
        server.read_until(rf"(?s)(mta: reloaded.*){{{number}}}")
        pids = {line.split()[2] for line in server.log() if re.fullmatch(r"worker 1 \d+ start", line)}
        old += [int(pid) for pid in pids if int(pid) not in old]
    # Four may still be leaving; those before them had to end as at a stop, and one serves.
    server.wait_for(lambda: [Path(f"/proc/{pid}").exists() for pid in old] == [False] * 2 + [True] * 5)
    server.process.terminate()
    assert server.wait() == 0
    assert "killing" not in server.text


def test_reload_many_times_leaves_no_descriptors_and_no_processes(start: Start) -> None:
    server = start()
    server.read_until("mta: ready")
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")

    def files() -> tuple[int, dict[str, int]]:
        pids = server.pids() | {"master": server.process.pid}
        with contextlib.suppress(FileNotFoundError):
            return len(children.read_text().split()), {name: n_files(pid) for name, pid in pids.items()}
        return 0, {}

    before = files()
    for number in range(1, 6):
        server.process.send_signal(signal.SIGHUP)
        server.read_until(rf"(?s)(mta: reloaded.*){{{number}}}")
    server.process.send_signal(signal.SIGUSR2)
    server.read_until("mta: upgraded")
    server.wait_for(lambda: len(server.pids()) == 5 and not server.said("leaving"))
    server.wait_for(lambda: files() == before)


def test_reload_bad_file_says_so_as_check_does_and_changes_nothing(start: Start) -> None:
    server = start()
    port = ready_port(server)
    before = server.pids()
    hang_up(server, hostname=7)
    server.read_until(rf"(?s){LINES_OF_A_BAD_FILE}")
    assert server.pids() == before
    server.wait_for(lambda: bool(queue_heard(server, "reload_failed")))
    assert "hostname: expected" in queue_heard(server, "reload_failed")[0]
    assert greets(("127.0.0.1", port))
    hang_up(server, hostname="mx.example.test")
    server.read_until("mta: reloaded")


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"data_dir": "/elsewhere"}, "data_dir"),
        ({"queue": {"map_octets": 2**30}}, "queue.map_octets"),
        ({"process": {"user": "nobody"}}, "process.user"),
    ],
)
def test_reload_what_cannot_change_is_an_error(start: Start, changes: dict[str, object], key: str) -> None:
    server = start()
    server.read_until("mta: ready")
    hang_up(server, **changes)
    server.read_until(rf"server0\.toml: {re.escape(key)}: expected .* until the server is restarted, got .*\n")
    server.read_until("mta: reload failed")


def test_reload_address_in_use_says_so_and_changes_nothing(start: Start) -> None:
    server = start()
    port = ready_port(server)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        hang_up(server, listener=[{"name": "mx", "bind": ["127.0.0.1:0", "127.0.0.2:0", address]}])
        server.read_until(f"mta: cannot listen on mx {address}: Address already in use\nmta: reload failed")
    assert greets(("127.0.0.1", port))
    n_listening = sum(" 0A " in line for line in Path(f"/proc/{server.process.pid}/net/tcp").read_text().splitlines())
    assert n_listening >= 1
    hang_up(server, listener=[{"name": "mx", "bind": ["127.0.0.1:0"]}])
    server.read_until(rf"mta: reloaded mx=127\.0\.0\.1:{port}\n")


@pytest.mark.parametrize("main", ["dies_at_boot_as_bad", "hangs_at_boot_as_bad"])
def test_reload_new_worker_that_does_not_boot_leaves_the_old_ones(start: Start, main: str) -> None:
    server = start({"worker": main}, {"hang_s": 2.0})
    port = ready_port(server)
    before = server.pids()
    hang_up(server, hostname="bad.example.test", workers={"count": 3})
    server.read_until(
        r"mta: the new worker \d (died 5 times while starting|is not ready after 2 s)\nmta: reload failed"
    )
    server.wait_for(lambda: server.pids() == before)
    # Routes that it has heard from the new ones are asked for again.
    server.wait_for(lambda: bool(queue_heard(server, "config")))
    assert "'hostname': 'mx.example.test'" in queue_heard(server, "config")[0]
    assert all(greets(("127.0.0.1", port)) for _ in range(20))
    hang_up(server, hostname="good.example.test")
    server.read_until("mta: reloaded")


def test_reload_address_becomes_wider_while_it_is_served(start: Start) -> None:
    server = start()
    port = ready_port(server)
    for number, host in enumerate(("127.0.0.1", "0.0.0.0", "127.0.0.1"), 1):
        hang_up(server, listener=[{"name": "mx", "bind": [f"{host}:{port}"]}])
        server.read_until(rf"(?s)(mta: reloaded.*){{{number}}}")
        assert greets(("127.0.0.1", port))
    assert f"mta: reloaded mx=0.0.0.0:{port}" in server.text
    server.wait_for(lambda: not greets(("127.0.0.2", port)))
    assert greets(("127.0.0.1", port))


def test_reload_listeners_open_and_close(start: Start) -> None:
    server = start(bind=["127.0.0.1:0", "127.0.0.3:0"])
    found = server.read_until(r"mta: ready mx=127\.0\.0\.1:(\d+) mx=127\.0\.0\.3:(\d+)\n")
    kept, dropped = ("127.0.0.1", int(found[1])), ("127.0.0.3", int(found[2]))
    hang_up(server, listener=[{"name": "mx", "bind": ["127.0.0.1:0"]}, {"name": "in", "bind": ["127.0.0.2:0"]}])
    found = server.read_until(rf"mta: reloaded mx=127\.0\.0\.1:{kept[1]} in=127\.0\.0\.2:(\d+)\n")
    assert greets(kept)
    assert greets(("127.0.0.2", int(found[1])))
    server.wait_for(lambda: not greets(dropped))


@pytest.mark.parametrize("counts", [(3, 1), (1, 3)], ids=str)
def test_reload_fewer_or_more_workers_serve_every_socket(start: Start, counts: tuple[int, int]) -> None:
    server = start()
    port = ready_port(server)
    for number, count in enumerate(counts, 1):
        hang_up(server, workers={"count": count})
        server.read_until(rf"(?s)(mta: reloaded.*){{{number}}}")
        server.wait_for(lambda: sum(name.startswith("worker") for name in server.pids()) == count)  # noqa: B023
        # Dealt out by a hash: a socket that nobody serves would show.
        assert all(greets(("127.0.0.1", port)) for _ in range(12))


def test_reload_changed_section_has_its_process_started_anew(start: Start) -> None:
    server = start()
    server.read_until("mta: ready")
    before = server.pids()
    hang_up(server, events={"keep_s": 5})
    server.read_until("mta: reloaded")
    server.wait_for(lambda: server.pids().get("report", before["report"]) != before["report"])
    assert server.pids()["queue"] == before["queue"]
    server.wait_for(lambda: server.said("stop").count("report") == 1)
    assert "died" not in server.text


def test_reload_during_a_stop_is_ignored(start: Start) -> None:
    server = start({"worker": "ignores_stop"}, {"drain_s": 0.0})
    server.read_until("mta: ready")
    server.process.terminate()
    server.read_until("mta: stopping")
    server.process.send_signal(signal.SIGHUP)
    server.process.send_signal(signal.SIGUSR2)
    time.sleep(0.3)
    for name in ("worker 1", "worker 2"):
        os.kill(server.pids()[name], signal.SIGKILL)
    server.read_until("mta: stopped")
    assert server.wait() == 0
    assert "reload" not in server.text
    assert "upgrade" not in server.text


def test_stop_during_a_reload_ends_everybody(start: Start) -> None:
    server = start({"worker": "hangs_at_boot_as_bad"}, {"drain_s": 0.0})
    server.read_until("mta: ready")
    hang_up(server, hostname="bad.example.test")
    server.wait_for(
        lambda: len(Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()) == 7
    )
    server.process.terminate()
    assert server.wait() == 0


def test_upgrade_master_becomes_the_new_image_and_replaces_all(start: Start) -> None:
    server = start()
    port = ready_port(server)
    before = server.pids()
    master = server.process.pid
    started_at = Path(f"/proc/{master}/stat").read_text().split()[21]
    server.process.send_signal(signal.SIGUSR2)
    server.read_until(rf"mta: upgraded to \S+ mx=127\.0\.0\.1:{port}\n")
    server.wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in before.values()))
    server.wait_for(lambda: set(server.pids()) == before.keys())
    assert Path(f"/proc/{master}/stat").read_text().split()[21] == started_at
    assert Path(f"/proc/{master}/cmdline").read_bytes().rstrip(b"\0 ") == b"mta: master"
    assert greets(("127.0.0.1", port))
    assert queue_heard(server, "died") == []
    # The new image has the lock, hears its children, and ends them.
    second = start(data_dir=server.data_dir, lock_wait_s=0.2)
    assert second.wait() == 1
    os.kill(server.pids()["report"], signal.SIGKILL)
    server.read_until("report is back")
    server.process.terminate()
    assert server.wait() == 0


def test_upgrade_bad_file_is_refused_before_anything_is_given_up(start: Start) -> None:
    server = start()
    server.read_until("mta: ready")
    before = server.pids()
    hang_up(server, signal.SIGUSR2, hostname=7)
    server.read_until(
        r"server0\.toml: hostname: expected .*, got 7\nmta: upgrade failed, the running configuration stays"
    )
    assert server.pids() == before
    server.wait_for(lambda: bool(queue_heard(server, "reload_failed")))


def test_upgrade_code_that_cannot_be_loaded_is_refused(start: Start, tmp_path: Path) -> None:
    # What is found first in PYTHONPATH is the version on the disk; it breaks while the server runs.
    broken = tmp_path / "new"
    broken.mkdir()
    server = start(path=broken)
    server.read_until("mta: ready")
    before = server.pids()
    (broken / "uvloop.py").write_text("raise ImportError('built for another Python')")
    server.process.send_signal(signal.SIGUSR2)
    server.read_until(
        "mta: the new version cannot be loaded: ImportError: built for another Python\nmta: upgrade failed"
    )
    assert server.pids() == before
    server.process.send_signal(signal.SIGHUP)
    server.read_until("mta: reloaded")


@pytest.mark.parametrize("left", ["", "import gone"], ids=["gone", "of another version"])
def test_upgrade_program_that_cannot_be_run_is_refused(start: Start, tmp_path: Path, left: str) -> None:
    # The new image begins with the file that the server was started by, as the command `mta` of an installation is.
    program = tmp_path / "program"
    program.write_text("from tests.master.run import main\nif __name__ == '__main__':\n    raise SystemExit(main())\n")
    server = start(program=[str(program)], path=ROOT)
    server.read_until("mta: ready")
    before = server.pids()
    program.write_text(left) if left else program.unlink()
    server.process.send_signal(signal.SIGUSR2)
    server.read_until(r"mta: the new version cannot be loaded: \w+Error: .*\nmta: upgrade failed")
    assert server.pids() == before


def test_upgrade_signals_that_come_meanwhile_are_not_lost(start: Start) -> None:
    server = start()
    server.read_until("mta: ready")
    server.process.send_signal(signal.SIGUSR2)
    server.read_until("trying the version")
    # Into the trial, the exec, and the start of the new image; one of them would end a process that does not expect it.
    for _ in range(80):
        time.sleep(0.01)
        server.process.send_signal(signal.SIGUSR2)
    server.read_until(r"(?s)trying the version.*trying the version.*mta: upgraded")
    server.process.send_signal(signal.SIGUSR2)
    time.sleep(0.3)
    server.process.terminate()
    assert server.wait() == 0
    assert "mta: stopped\n" in server.text


def test_reload_service_manager_hears_where_it_begins_and_ends(start: Start, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(PATIENCE_S)
        server = start(manager=str(tmp_path / "notify"))

        def states() -> list[str]:
            return [line for line in sock.recv(1000).decode().split("\n") if line in ("READY=1", "RELOADING=1")]

        assert states() == ["READY=1"]
        for changes in ({"hostname": "other.example.test"}, {"hostname": 7}):
            hang_up(server, **changes)
            heard: list[str] = []
            while len(heard) < 2:
                heard += states()
            assert heard == ["RELOADING=1", "READY=1"]
