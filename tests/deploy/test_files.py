"""The files in deploy/: each is what systemd, a container tool or our own program takes, and says what is true."""

import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

import mta
from bench.server import MTA
from mta.config import Config
from mta.config.rules import RULES
from tests.deploy.conftest import DEPLOY
from tests.harness import require_tool

ROOT = DEPLOY.parent
# What a stop may take beyond process.drain_s: see the master's arbiter.
STOP_EXTRA_S = 75
MOST_KEYS_TOGETHER = 3
# `systemd-analyze security` counts from 0 (nothing allowed) to 10; this is ten times as much.
MOST_EXPOSURE = 20


def lines_of(name: str) -> list[str]:
    """Return the lines of a file that are neither empty nor a comment, continued ones joined."""
    text = (DEPLOY / name).read_text().replace("\\\n", "")
    return [line for line in text.splitlines() if line and line[0] not in "#;"]


def setting(name: str, key: str) -> str:
    """Return the value of a key that a file has once."""
    (value,) = (line.partition("=")[2].strip() for line in lines_of(name) if line.partition("=")[0].strip() == key)
    return value


def keys(kind: type[msgspec.Struct], at: str = "") -> Iterator[tuple[str, msgspec.structs.FieldInfo]]:
    """Yield every key of the configuration by its path."""
    for field in msgspec.structs.fields(kind):
        inner = (get_args(field.type) or (field.type,))[0]
        if isinstance(inner, type) and issubclass(inner, msgspec.Struct):
            yield from keys(inner, f"{at}{field.name}.")
        else:
            yield at + field.name, field


def value_at(tree: Any, path: str) -> Any:
    """Return the value at a key path, in the first of several tables; None where there is none."""
    for name in path.split("."):
        table = tree[0] if isinstance(tree, list) else tree
        tree = table.get(name) if isinstance(table, dict) else None
    return tree


def test_configuration_shows_every_key_with_its_default() -> None:
    path = DEPLOY / "posthaste.toml"
    done = subprocess.run([MTA, "check", "-c", path], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == (f"{path}: ok\n", "")
    # Comments that are a key or a table, and nothing else, are the defaults.
    shown = tomllib.loads(re.sub(r"^# (?=\w+ = |\[)", "", path.read_text(), flags=re.MULTILINE))
    found = dict(keys(Config))
    assert [key for key in found if value_at(shown, key) is None] == [], "keys that deploy/posthaste.toml does not show"
    wrong = {}
    for key, field in found.items():
        has_default = not field.required and (field.default != "" or RULES[key].fits(""))
        value = msgspec.convert(value_at(shown, key), field.type)
        if has_default and value != field.default:
            wrong[key] = f"shown as {value!r}, but the default is {field.default!r}"
    assert wrong == {}


def test_configuration_explains_every_key() -> None:
    unexplained: list[str] = []
    n_left = 0
    for line in (DEPLOY / "posthaste.toml").read_text().splitlines():
        if key := re.match(r"(?:# )?(\w+) = ", line):
            unexplained += [key[1]] if n_left == 0 else []
            n_left = max(0, n_left - 1)
        elif line.startswith("# "):
            # A sentence explains the few keys that follow it, not all to the end of the table.
            n_left = MOST_KEYS_TOGETHER
        elif not line:
            n_left = 0
    assert unexplained == []


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units with paths that are there on this machine."""
    for name in ("posthaste.service", "posthaste.socket"):
        text = (DEPLOY / name).read_text()
        (tmp_path / name).write_text(text.replace("/opt/posthaste/bin/mta", str(MTA)))
    return tmp_path


def test_units_are_sound(units: Path) -> None:
    analyze = require_tool("systemd-analyze", "systemd")
    done = subprocess.run(
        [analyze, "verify", "--man=no", units / "posthaste.service", units / "posthaste.socket"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_unit_with_a_setting_that_is_none_is_found_out(units: Path) -> None:
    analyze = require_tool("systemd-analyze", "systemd")
    unit = units / "posthaste.service"
    unit.write_text(unit.read_text().replace("ProtectSystem=", "ProtectSystems="))
    done = subprocess.run([analyze, "verify", "--man=no", unit], capture_output=True, text=True, check=False)
    assert "ProtectSystems" in done.stderr


def test_unit_exposes_little(units: Path) -> None:
    analyze = require_tool("systemd-analyze", "systemd")
    words = ["security", "--offline=true", "--no-pager", f"--threshold={MOST_EXPOSURE}"]
    done = subprocess.run([analyze, *words, units / "posthaste.service"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_whoever_stops_the_server_waits_long_enough() -> None:
    enough_s = Config(hostname="x", data_dir="x", listener=()).process.drain_s + STOP_EXTRA_S
    assert int(setting("posthaste.service", "TimeoutStopSec")) >= enough_s
    assert int(setting("posthaste.supervisord.conf", "stopwaitsecs")) >= enough_s
    (stated,) = re.findall(r"--stop-timeout (\d+) ", (DEPLOY / "Containerfile").read_text())
    assert int(stated) >= enough_s
    assert f"{STOP_EXTRA_S} s more" in (DEPLOY / "posthaste.toml").read_text()


def test_every_way_to_start_names_the_same_program_and_files() -> None:
    command = "/opt/posthaste/bin/mta serve -c /etc/posthaste/posthaste.toml"
    assert setting("posthaste.service", "ExecStart") == command
    assert setting("posthaste.supervisord.conf", "command") == command
    instructions = lines_of("Containerfile")
    entry, arguments = (
        re.findall(r'"([^"]*)"', line) for line in instructions if line.startswith(("ENTRYPOINT", "CMD"))
    )
    assert " ".join(entry + arguments) == command
    data_dir = tomllib.loads((DEPLOY / "posthaste.toml").read_text())["data_dir"]
    assert f"VOLUME {data_dir}" in instructions
    assert data_dir == f"/var/lib/{setting('posthaste.service', 'StateDirectory')}"


def test_container_is_built_from_what_is_there_by_the_steps_that_are_tested(tmp_path: Path) -> None:
    instructions = lines_of("Containerfile")
    bases = {line.split()[1] for line in instructions if line.startswith("FROM")}
    # Compiled code of one runs in the other only if they are the same.
    (base,) = bases
    version = re.match(r"python:(\d+)\.(\d+)-", base)
    assert version
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    least = re.fullmatch(r">=(\d+)\.(\d+)", project["requires-python"])
    assert least
    assert (int(version[1]), int(version[2])) >= (int(least[1]), int(least[2]))
    for line in instructions:
        if line.startswith("COPY") and "--from" not in line:
            for source in line.split()[1:-1]:
                place = Path(mta.__file__).parent if source == "mta" else ROOT / source
                assert place.exists(), line
    assert "STOPSIGNAL SIGTERM" in instructions
    assert "mta" in project["scripts"]
    # The wheel is built by the very words that the continuous integration has, but for where it finds the source.
    ours, theirs = (
        re.findall(r"pip\"? wheel ([^\n]*) -w dist ", path.read_text())
        for path in (DEPLOY / "Containerfile", ROOT / ".ci/run")
    )
    assert ours == theirs != []


def test_kernel_settings_exist_and_have_a_reason() -> None:
    for name in ("sysctl.conf", "limits.conf"):
        before = ""
        for line in (DEPLOY / name).read_text().splitlines():
            if line and not line.startswith("#"):
                assert before, f"{name}: {line} has no reason above it"
            before = line
    for line in lines_of("sysctl.conf"):
        key, _, value = (word.strip() for word in line.partition("="))
        place = Path("/proc/sys", *key.split("."))
        assert place.exists(), key
        assert len(place.read_text().split()) == len(value.split())
