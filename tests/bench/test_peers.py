"""The mail servers that Posthaste is measured against: each does its work, is counted, and leaves nothing behind."""

import asyncio
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from bench.cpu import title_of
from bench.peers import PEERS, Haraka, Peak, Peer, PeerMissing, busy_s, find_program
from bench.peers.account import Account
from bench.peers.flush import FLUSHES, OPENS, count_flushes, send_some
from bench.peers.trace import Call, Traced, parse
from bench.sink import Sink
from bench.wait import wait_until
from tests.harness import require_tool

N_MESSAGES = 10
# What each flushes for a message, at least and less than; what else it may flush now and then is much less.
FLUSHED = {
    "posthaste": (0.1, 10.0),
    "postfix": (1.0, 1.1),
    "exim": (4.0, 4.5),
    "opensmtpd": (0.0, 0.1),
    "haraka": (1.0, 1.1),
    "aiosmtpd": (0.0, 0.1),
}
BURN = "import time; end = time.process_time() + 0.1\nwhile time.process_time() < end: pass\ntime.sleep(60)"
needs_root = pytest.mark.skipif("os.geteuid() != 0", reason="only root starts Postfix, Exim and OpenSMTPD")


def kinds() -> list[type[Peer]]:
    """Return what is to be tested. Haraka, where `make peers` has found Node.js to install it with."""
    try:
        Haraka.require()
    except PeerMissing:
        return [kind for kind in PEERS.values() if kind is not Haraka]
    return list(PEERS.values())


@needs_root
@pytest.mark.parametrize("kind", kinds(), ids=lambda kind: kind.name)
def test_peer_relays_flushes_as_labelled_and_leaves_nothing(kind: type[Peer]) -> None:
    try:
        kind.require()
    except PeerMissing as error:
        if os.environ.get("CI"):
            pytest.fail(str(error))
        pytest.skip(str(error))
    require_tool("strace", "strace")
    core = min(os.sched_getaffinity(0))
    traced_calls = ["connect", "sendto", *FLUSHES, *OPENS, "write", "pwrite64"]
    with tempfile.TemporaryDirectory() as directory, Sink() as sink:
        # Not below pytest's own, where other users cannot look.
        os.chmod(directory, 0o755)
        peer = kind(sink.via, cores=frozenset({core}), directory=directory)
        with Traced(peer, traced_calls) as traced, Peak(peer) as peak:
            cpu_before_s, began_at = peer.cpu_s(), time.time()
            asyncio.run(send_some(peer.address, N_MESSAGES, 2, 4096))
            if kind.is_relaying:
                sink.wait_count(N_MESSAGES, 60)
                recipients = sorted(to for message in sink.take() for to in message.recipients)
                assert recipients == sorted(f"r{number}@sink.test" for number in range(N_MESSAGES))
            wait_until(lambda: peer.n_queued() == 0, "an empty queue", 60)
            ended_at = time.time()
            assert peer.cpu_s() > cpu_before_s
            pids = peer.pids()
            assert peer.pid in pids
            assert all(os.sched_getaffinity(pid) == {core} for pid in pids)
        assert peak.octets > 100_000
        assert not os.listdir(directory)
    # Whose parent is gone may be a zombie until init comes by: it has no command line any more.
    assert not [pid for pid in pids if title_of(pid)]
    calls = traced.calls
    assert not [call for call in calls if re.search(r'inet_addr\("(?!127\.)|AF_INET6, "(?!::1")', call.arguments)]
    counts = count_flushes(calls, began_at, ended_at)
    least, most = FLUSHED[kind.name]
    assert least <= sum(counts.values()) / N_MESSAGES < most, counts


@pytest.mark.parametrize("is_grouped", [True, False])
def test_account_counts_and_ends_whom_nobody_waits_for(is_grouped: bool) -> None:
    account = Account("test", is_grouped=is_grouped)
    if is_grouped and account.how == "process times":
        pytest.skip("no control group can be made here")
    # The shell's child outlives it: an orphan in its session.
    command = [*account.words, "/bin/sh", "-c", f'"{sys.executable}" -c "$0" & exec sleep 0.1', BURN]
    with subprocess.Popen(command, start_new_session=True) as shell:
        wait_until(lambda: len(account.pids(shell.pid)) == 2, "both processes")
    orphans = account.pids(shell.pid)
    assert len(orphans) == 1
    wait_until(lambda: account.cpu_s(shell.pid) >= 0.09, "the CPU time of the orphan")
    group = [Path(word).parent for word in account.words if word.endswith("cgroup.procs")]
    account.close(shell.pid)
    assert not title_of(orphans[0])
    assert not any(folder.exists() for folder in group)


def test_busy_s_grows_with_what_is_spent() -> None:
    before_s = busy_s()
    subprocess.run([sys.executable, "-c", BURN.partition("\ntime.sleep")[0]], check=True)
    assert busy_s() - before_s >= 0.08


def test_find_program_missing_says_what_installs_it() -> None:
    with pytest.raises(PeerMissing, match=r"no-such-program.*: apt-get install it"):
        find_program("no-such-program", "apt-get install it")


# As strace writes it: a call that another one comes between, one that was under way before, one that failed, and noise.
TRACE = """\
7 10.000100 openat(AT_FDCWD</>, "/q/data", O_RDWR|O_CREAT, 0600) = 4</q/data>
7 10.000200 openat(AT_FDCWD</>, "/q/data", O_WRONLY|O_DSYNC) = 5</q/data>
8 10.000300 <... fsync resumed>) = 0
7 10.000400 pwrite64(4</q/data>, "\\0\\0"..., 4096, 0 <unfinished ...>
8 10.000500 fdatasync(9</q/log>) = -1 EIO (Input/output error)
7 10.000600 <... pwrite64 resumed>) = 4096
8 10.000700 +++ exited with 0 +++
7 10.000800 pwrite64(5</q/data>, "\\0\\0"..., 120, 0) = 120
7 10.000900 pwritev2(4</q/data>, [{iov_base="", iov_len=0}], 1, 0, RWF_DSYNC) = 0
7 10.001000 msync(0x7f0000000000, 4096, MS_ASYNC) = 0
7 10.001100 msync(0x7f0000000000, 4096, MS_SYNC) = 0
7 10.002000 fsync(4</q/data>) = 0
"""


def test_parse_interleaved_trace_gives_calls_as_they_ended() -> None:
    calls = list(parse(TRACE.splitlines()))
    assert [call.name for call in calls[:5]] == ["openat", "openat", "fsync", "fdatasync", "pwrite64"]
    assert calls[4] == Call(10.0004, "pwrite64", '4</q/data>, "\\0\\0"..., 4096, 0', "4096")


def test_count_flushes_counts_what_reaches_the_disk_in_time() -> None:
    counts = count_flushes(list(parse(TRACE.splitlines())), 10.0, 10.0015)
    synchronous = {"pwrite64 (synchronous)": 1, "pwritev2 (synchronous)": 1}
    assert counts == {"fdatasync": 1, "fsync": 1, "msync": 1, **synchronous}
