"""`mta check` and the frame of the command line, as an operator meets them: exit codes, stdout, stderr."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mta.config import Config

ROOT = Path(__file__).parents[2]
GOOD = 'hostname = "mx1.example.test"\ndata_dir = "data"\n[[listener]]\nbind = ["127.0.0.1:0"]\n'


def mta(*words: str) -> subprocess.CompletedProcess[str]:
    """Run the command line to its end."""
    return subprocess.run(
        [sys.executable, "-c", "from mta.cli import main; main()", *words],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_check_good_file_says_ok(tmp_path: Path) -> None:
    path = tmp_path / "mx.toml"
    path.write_text(GOOD)
    done = mta("check", "-c", str(path))
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{path}: ok\n", "")


@pytest.mark.parametrize("command", ["check", "serve"])
def test_command_bad_file_says_every_problem_and_exits_2(tmp_path: Path, command: str) -> None:
    path = tmp_path / "mx.toml"
    path.write_text(GOOD + '[limits]\nrecipients = "many"\n[retry]\nfactor = 0\n')
    done = mta(command, "-c", str(path))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        f'{path}: limits.recipients: expected an integer, got "many"',
        f"{path}: retry.factor: expected a number, at least 1, got 0",
    ]


def test_serve_that_cannot_start_says_why_and_exits_1(tmp_path: Path) -> None:
    path = tmp_path / "mx.toml"
    path.write_text(GOOD.replace('"data"', '"mx.toml/data"'))
    done = mta("serve", "-c", str(path))
    assert (done.returncode, done.stderr) == (1, f"mta: cannot use data_dir {path}/data: Not a directory\n")


@pytest.mark.parametrize("words", [(), ("bogus",), ("check",), ("serve", "--bogus"), ("check", "-c")])
def test_command_line_misused_exits_2_without_traceback(words: tuple[str, ...]) -> None:
    done = mta(*words)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_help_lists_the_commands() -> None:
    done = mta("--help")
    assert done.returncode == 0
    assert "serve" in done.stdout
    assert "check" in done.stdout


def test_example_configuration_is_good_and_shows_every_default() -> None:
    path = ROOT / "deploy" / "example.toml"
    assert mta("check", "-c", str(path)).stdout == f"{path}: ok\n"
    text = path.read_text()
    given = tomllib.loads(text)
    shown = tomllib.loads(re.sub(r"^# (\w+ = )", r"\1", text, flags=re.MULTILINE))
    for table in msgspec.structs.fields(Config):
        if table.name in ("hostname", "data_dir"):
            continue
        here, there = (one(tables[table.name]) for tables in (given, shown))
        kind = table.type.__args__[0] if table.name in ("listener", "route") else table.type
        check_defaults(kind, here, there, table.name)


def check_defaults(kind: type[msgspec.Struct], here: Any, there: Any, at: str) -> None:
    """Check that each setting is `there`, with its default where it is commented out, that is not `here`."""
    for setting in msgspec.structs.fields(kind):
        assert setting.name in there, f"{at}.{setting.name}"
        if isinstance(there[setting.name], dict):
            check_defaults(setting.type, here[setting.name], there[setting.name], f"{at}.{setting.name}")
        elif setting.name not in here:
            value = msgspec.convert(there[setting.name], setting.type)
            assert value == setting.default, f"{at}.{setting.name}"


def one(table: Any) -> Any:
    """Return a table, or the first of a list of tables."""
    return table[0] if isinstance(table, list) else table
