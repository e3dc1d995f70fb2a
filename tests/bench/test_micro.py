"""The micro-benchmarks run, for every scanner and every piece of work, and their results are kept."""

import math
import subprocess
import sys
from pathlib import Path

import pyperf  # type: ignore[import-untyped]
import pytest

import mta._fast
from bench.micro.reader import memmem_ratios
from bench.micro.scanners import SCANNERS
from bench.work import WORKS

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench.micro", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def test_scanners_are_all_those_of_the_room() -> None:
    timed = {name.partition("-")[0] for name in SCANNERS}
    # It can be timed by root alone.
    assert timed | {"become"} == {name for name in mta._fast.__all__ if callable(getattr(mta._fast, name))}


@pytest.mark.parametrize("name", SCANNERS)
def test_scanner_can_be_called_again_and_again(name: str) -> None:
    assert SCANNERS[name]() == SCANNERS[name]()


@pytest.mark.parametrize("name", WORKS)
def test_work_runs_for_any_number_of_messages(name: str) -> None:
    work = WORKS[name]()
    for n_messages in (1, 8, 13):
        work.run(n_messages)
    work.close()


def test_micro_hands_on_names_and_options_and_keeps_the_result(tmp_path: Path) -> None:
    path = tmp_path / "micro.json"
    done = run("--debug-single-value", "-o", str(path), "split_command", "store")
    assert done.returncode == 0, done.stderr
    timed = pyperf.BenchmarkSuite.load(str(path))
    assert timed.get_benchmark_names() == ["split_command", "store"]
    assert all(benchmark.get_values() for benchmark in timed)


def test_micro_unknown_name_says_which_there_are() -> None:
    done = run("splitcommand")
    assert done.returncode == 2
    assert "nothing is called splitcommand; there are split_command" in done.stderr


def test_memmem_ratios_are_of_bodies_that_were_read_right() -> None:
    assert all(0 < ratio < math.inf for ratio in memmem_ratios(rounds=2))
