"""The suite, really run: a small plan that is cut off and resumed, what is made of its file, and what is compared."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec
import pytest

from bench.beside import Figures
from bench.deep import Deep, Drain
from bench.idle import Idle
from bench.load import Load, Percentiles, Rule, Sink
from bench.peers import PEERS, Flushes, Posthaste
from bench.suite.__main__ import main
from bench.suite.asked import asked
from bench.suite.machine import Flush, Machine, describe
from bench.suite.measure import Failed, drive
from bench.suite.plan import PLANS, Group, Plan, Shape
from bench.suite.results import About, Measurement, Results, Run, read, write
from bench.suite.runner import left, run
from bench.suite.servers import SETTINGS, kind_of
from bench.suite.table import markdown
from bench.summary import Summary
from bench.wait import wait_until

ROOT = Path(__file__).parents[2]
SMALL = Shape(connections=5)
SLOW = Shape(connections=5, share=0.2)
# There is nothing that this one is a share of.
WITHOUT_MAXIMUM = Shape(connections=2, share=0.5)
PLAN = Plan(
    name="small",
    runs=2,
    seconds=0.3,
    open_seconds=0.5,
    warm_up_s=0.1,
    limit_s=100.0,
    scans=False,
    groups=(
        Group(SMALL, ("posthaste", "aiosmtpd")),
        Group(WITHOUT_MAXIMUM, ("aiosmtpd",)),
        Group(SLOW, ("posthaste",)),
    ),
)
RUN = "import sys, pathlib, tests.bench.test_suite as it; it.run(it.PLAN, pathlib.Path(sys.argv[1]))"
FAST = Percentiles(count=1000, p50=500, p90=800, p99=1000, p999=2000, most=3000)


def n_runs(path: Path) -> int:
    """Return how many runs a result file has."""
    return sum(len(each.runs) for each in read(path).measurements) if path.exists() else 0


def test_plan_cut_off_resumes_and_its_file_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "small.json"
    with tempfile.TemporaryDirectory() as directory:
        command, environ = [sys.executable, "-c", RUN, str(path)], {**os.environ, "TMPDIR": directory}
        with subprocess.Popen(command, cwd=ROOT, env=environ, stderr=subprocess.DEVNULL) as first:
            wait_until(lambda: n_runs(path) > 0, "the first run", 60)
            first.send_signal(signal.SIGINT)
            assert first.wait(60) != 0
        # The servers are gone with it, and what they had.
        assert not os.listdir(directory)
    cut = read(path)
    assert 0 < sum(len(each.runs) for each in cut.measurements) < 6
    assert left(PLAN, cut)

    results = run(PLAN, path, resumes=True)
    assert not left(PLAN, results)
    assert read(path) == results
    for before in cut.measurements:
        assert results.record(before.server, before.shape).runs[: len(before.runs)] == before.runs
    for server, shape in (("posthaste", SMALL), ("aiosmtpd", SMALL), ("posthaste", SLOW)):
        done = results.done(server, shape)
        assert done is not None
        assert len(done.runs) == PLAN.runs
        for each in done.runs:
            assert each.messages == each.reply.count > 0
            assert each.others == 0
            assert set(each.histograms) == {"reply", "whole", "delivery"}
            assert min(each.rate, each.accepted_rate, each.cpu_us, each.machine_us, each.rss_octets) > 0
            assert (each.commit_p99_us > 0) == (shape == SLOW)
    failed = results.record("aiosmtpd", WITHOUT_MAXIMUM)
    assert "of which this is a share" in failed.failed
    assert not failed.runs

    assert main(["table", str(path)]) == 0
    page = capsys.readouterr().out
    for words in (results.machine.cpu, SMALL.name, SLOW.name, failed.failed):
        assert words in page
    assert main(["plot", str(path)]) == 0
    drawn = {Path(line).name for line in capsys.readouterr().out.splitlines()}
    assert drawn == {f"small-{name}.{kind}" for name in ("throughput", "latency") for kind in ("png", "svg")}
    assert all(Path(tmp_path, name).stat().st_size > 5000 for name in drawn)

    assert main(["compare", str(path), str(path)]) == 0
    capsys.readouterr()
    done = results.record("aiosmtpd", SMALL)
    done.runs = [msgspec.structs.replace(each, cpu_us=10 * each.cpu_us) for each in done.runs]
    write(tmp_path / "worse.json", results)
    assert main(["compare", str(path), str(tmp_path / "worse.json")]) == 1
    assert "WORSE  aiosmtpd: 5 kept, 4 KB: CPU µs a message" in capsys.readouterr().out


def test_message_that_never_arrives_fails_the_run() -> None:
    # What the next hop refuses is accepted and goes back to its sender, whom it refuses, too.
    with Sink(rules=[Rule(stage="rcpt", reply="550 5.1.1 Nobody", every=50)]) as sink, Posthaste(sink.via) as peer:
        with pytest.raises(Failed, match=r"of 200 messages accepted: \d+ not at the sink, 0 in the queue"):
            drive(peer, sink, Load(messages=200, connections=5))
        sink.set_rules(())
        assert drive(peer, sink, Load(messages=200, connections=5)).messages == 200


def one_run(*, rate: float = 1000.0, cpu_us: float = 100.0) -> Run:
    """Return a run with these figures."""
    return Run(
        messages=1000,
        others=0,
        late=0,
        accepted_rate=2 * rate,
        rate=rate,
        cpu_us=cpu_us,
        machine_us=200.0,
        source_us=20.0,
        sink_us=20.0,
        rss_octets=10**8,
        left=0,
        reply=FAST,
        whole=FAST,
        commit_p99_us=400.0,
    )


def results_of(*measurements: Measurement) -> Results:
    """Return what a file with these would hold."""
    flush = Flush(100.0, 200.0)
    machine = Machine(cpu="one", cores=2, memory_octets=1 << 30, kernel="6", file_system="x", python="3")
    return Results(
        plan="headline", began="", machine=machine, fdatasync=flush, commit=flush, measurements=list(measurements)
    )


def of(server: str, cpu_us: list[float], rate: float = 1000.0, shape: Shape | None = None) -> Measurement:
    """Return a measurement with a run for each CPU time."""
    return Measurement(server=server, shape=shape or Shape(), runs=[one_run(cpu_us=each, rate=rate) for each in cpu_us])


@pytest.mark.parametrize(
    ("new", "said", "code"),
    [
        # The runs of the old file are 20 apart, so a median that is 15 worse may be chance.
        ([105.0, 115.0, 116.0], "same", 0),
        ([125.0, 126.0, 127.0], "WORSE", 1),
        ([75.0, 76.0, 77.0], "better", 0),
        # The new file's runs are further apart.
        ([100.0, 125.0, 150.0], "same", 0),
    ],
)
def test_compare_tells_what_is_beyond_the_noise(
    new: list[float], said: str, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, runs in (("old", [90.0, 100.0, 110.0]), ("new", new)):
        write(tmp_path / f"{name}.json", results_of(of("posthaste", runs)))
    assert main(["compare", str(tmp_path / "old.json"), str(tmp_path / "new.json")]) == code
    lines = capsys.readouterr().out.splitlines()
    assert next(line for line in lines if "CPU µs a message" in line).startswith(said)
    assert all(line.startswith("same") for line in lines[:-1] if "CPU µs a message" not in line)


def test_compare_counts_a_lower_rate_and_a_new_failure_as_worse(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "old.json", results_of(of("posthaste", [100.0]), of("postfix", [1000.0])))
    lost = Measurement(server="postfix", shape=Shape(), failed="3 lost")
    write(tmp_path / "new.json", results_of(of("posthaste", [100.0], rate=900.0), lost))
    assert main(["compare", str(tmp_path / "old.json"), str(tmp_path / "new.json")]) == 1
    said = capsys.readouterr().out
    assert "WORSE  posthaste: 50 kept, 4 KB: messages/s 1000 -> 900" in said
    assert "FAILED postfix: 50 kept, 4 KB: 3 lost" in said


def test_compare_misses_what_is_gone_from_a_file_of_the_same_plan(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = results_of(of("posthaste", [100.0]))
    write(tmp_path / "old.json", results_of(of("posthaste", [100.0]), of("postfix", [1000.0])))
    write(tmp_path / "new.json", new)
    assert main(["compare", str(tmp_path / "old.json"), str(tmp_path / "new.json")]) == 1
    assert "FAILED postfix: 50 kept, 4 KB: is gone" in capsys.readouterr().out
    new.plan = "smaller"
    write(tmp_path / "new.json", new)
    assert main(["compare", str(tmp_path / "old.json"), str(tmp_path / "new.json")]) == 0


def test_asked_ratios_are_those_of_medians_and_told_with_their_pairs() -> None:
    results = results_of(
        of("posthaste", [90.0, 100.0, 120.0], 8000.0),
        of("postfix", [1800.0, 1700.0, 1800.0], 1000.0),
        of("posthaste", [100.0], shape=Shape(share=0.5)),
        of("posthaste, 1 worker", [100.0]),
        of("posthaste, 2 workers", [109.0]),
    )
    results.scans = {"whole": 0.9, "pieces": 0.3}
    rows = asked(results)
    assert [(row.figure, row.is_met) for row in rows if row.figure != "not measured"] == [
        ("18.0 (15.0 to 20.0)", True),
        ("8.0", False),
        ("2.50", True),
        ("0.90", True),
        ("0.30", False),
        ("1.09", True),
    ]
    page = markdown(results)
    assert "| 50 kept, 4 KB: messages/s, times Postfix | 8.0 | at least 10 | **not met** |" in page
    # What is asked is on the page, whatever was measured.
    assert "| 200 kept, 4 KB: less CPU a message, times Postfix | not measured | at least 20 |  |" in page
    assert "| 1,000,000 deferred | not measured | --with a file of bench.deep |  |" in page


def test_table_takes_in_other_benchmarks_and_says_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = results_of(of("posthaste", [100.0]))
    flushes = Flushes(messages=1000, connections=50, octets=4096, calls={"fsync": 1000, "fdatasync": 30})
    results.peers["posthaste"] = About(version="1", label="each", how="cgroup v2", flushes=flushes)
    results.missing["exim"] = "there is no exim4 on this machine: sh bench/peers/beside.sh exim4"
    write(tmp_path / "old.json", results)
    full, less = (Figures(Summary.of(rates), Summary.of([100.0]), Summary.of([5.0])) for rates in ([80, 90], [60, 70]))
    drain = Drain(rate=1.0, cpu_us=1.0, order_s=1.0, left=0, lost=0, doubled=0, changed=0)
    deep = Deep(
        messages=1_000_000,
        domains=100_000,
        file_mb=1.0,
        count_s=1.0,
        first_ms={},
        relayed={"deep": less, "empty": full},
        rss_anon_mb={"fill": 90.0, "deep": 50.0, "drain": 60.0, "empty": 1000.0},
        drain=drain,
    )
    idle = Idle(10_000, 9 * 1024.0, 100.0, {"beside": full, "without": full}, 10_000)
    (tmp_path / "deep.json").write_bytes(msgspec.json.encode([deep]))
    (tmp_path / "idle.json").write_bytes(msgspec.json.encode(idle))
    words = [str(tmp_path / "old.json"), "--with", str(tmp_path / "deep.json"), "--with", str(tmp_path / "idle.json")]
    assert main(["table", *words]) == 0
    page = capsys.readouterr().out
    for line in (
        "| 1,000,000 deferred: rate, of that with an empty queue | 0.76 (0.67 to 0.88) | at least 0.8 | **not met** |",
        "| 1,000,000 deferred: MB of RssAnon of the queue process | 90.0 | at most 100 | met |",
        "| 10,000 idle connections: KB of RssAnon each, beyond the server at rest | 9.0 | at most 12 | met |",
        "| 10,000 idle connections: rate beside them, of that without | 1.00 (0.89 to 1.12) | at least 0.9 | met |",
        "| posthaste | 1 | 1.03 | each | cgroup v2 |",
        "- exim: there is no exim4 on this machine: sh bench/peers/beside.sh exim4",
    ):
        assert line in page
    assert main(["table", *words[:2], str(tmp_path / "old.json")]) == 1
    assert "neither of bench.deep nor of bench.idle" in capsys.readouterr().err


def test_file_of_another_plan_or_none_of_ours_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "old.json"
    write(path, results_of())
    with pytest.raises(ValueError, match="is of another plan"):
        run(PLAN, path, resumes=True)
    others = results_of()
    others.plan = PLAN.name
    write(path, others)
    with pytest.raises(ValueError, match="is of another machine"):
        run(PLAN, path, resumes=True)
    others.machine = describe()
    others.peers["posthaste"] = About(version="0.1.0, source 000000000000", label="each")
    write(path, others)
    with pytest.raises(ValueError, match=r"is of another posthaste: 0\.1\.0, source 0+, and here is 0\.1\.0, source "):
        run(PLAN, path, resumes=True)
    path.write_text("{}")
    assert main(["table", str(path)]) == 1
    assert f"{path} is no result file" in capsys.readouterr().err


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_plan_asks_for_each_measurement_once_and_for_maxima_first(plan: Plan) -> None:
    known = set(PEERS) | set(SETTINGS) | {"posthaste by MX"}
    seen: set[tuple[str, Shape]] = set()
    for group in plan.groups:
        for server in group.servers:
            assert server in known
            assert kind_of(server).name in PEERS
            assert (server, group.shape) not in seen
            assert not group.shape.share or (server, group.shape.maximum) in seen
            seen.add((server, group.shape))
    assert len({f"{server}: {shape.name}" for server, shape in seen}) == len(seen)
