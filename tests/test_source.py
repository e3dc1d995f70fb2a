"""Who may import whom: the order of the rooms and their doors, read from the source itself.

Top may import below, never sideways; from outside a room only its door is used; and only one room each knows lmdb and
dnspython. What a command or a child imports by name at run time is not seen here, and is meant not to be.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import mta

PACKAGE = Path(mta.__file__).parent
# From the top down; rooms of one row do not know each other. A file at the top of the package is a room of one file.
RANKS = (
    {"cli"},
    {"master"},
    {"worker", "queue"},
    {"accept", "deliver"},
    {"state"},
    {"policy", "link"},
    {"store", "dns", "smtp", "report"},
    {"child", "linkpath"},
    {"config"},
    {"errors"},
    {"address"},
    {"message", "reply"},
    {"_fast"},
)
RANK = {room: number for number, rooms in enumerate(RANKS) for room in rooms}
# Where a process is put together, two rooms of one row may meet.
MEETINGS = {"report/main.py": {"store"}}
# What only one room may import. dnspython is called dns.
OWNERS = {"lmdb": "store", "dns": "dns"}
# What a process that only forks must not carry.
HEAVY = {"uvloop", "lmdb", "dns", "asyncio"}
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def imports(path: Path) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield (module, names taken from it) for each import of a file."""
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, ()) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            yield str(node.module), tuple(alias.name for alias in node.names)


def room_of(path: Path) -> str:
    """Return the room a file of the package stands in."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def ids(path: Path) -> str:
    """Return how a test names a file."""
    return str(path.relative_to(PACKAGE))


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_file_imports_only_rooms_below_through_their_doors(path: Path) -> None:
    room = room_of(path)
    assert room in RANK, f"mta/{room} has no place in the order"
    for module, names in imports(path):
        if module.partition(".")[0] != "mta":
            continue
        # `from mta import child` is `import mta.child`.
        targets = [f"mta.{name}" for name in names] if module == "mta" else [module]
        for target in targets:
            other, *inner = target.split(".")[1:]
            if other == room:
                continue
            is_meeting = other in MEETINGS.get(ids(path), ())
            assert RANK[other] > RANK[room] or is_meeting, f"mta/{room} may not import mta/{other}"
            assert not inner or other == "_fast", f"{target} is behind the door of mta/{other}"


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_file_libraries_with_one_owner_stay_with_it(path: Path) -> None:
    for module, _ in imports(path):
        owner = OWNERS.get(module.partition(".")[0])
        assert owner in (None, room_of(path)), f"only mta/{owner} may import {module}"


@pytest.mark.parametrize("path", [path for path in FILES if path.name == "__init__.py"], ids=ids)
def test_door_names_what_it_gives(path: Path) -> None:
    body = ast.parse(path.read_text()).body
    named = [node for node in body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"]
    assert named or room_of(path) == "_fast", "a door has an __all__"


def test_master_carries_nothing_heavy() -> None:
    seen: set[str] = set()
    rooms = ["master"]
    while rooms:
        room = rooms.pop()
        files = [PACKAGE / f"{room}.py"] if (PACKAGE / f"{room}.py").exists() else (PACKAGE / room).rglob("*.py")
        for path in files:
            for module, _ in imports(path):
                top, *inner = module.split(".")
                assert top not in HEAVY, f"{path} imports {module}, so the master does"
                if top == "mta" and inner and inner[0] not in seen:
                    seen.add(inner[0])
                    rooms.append(inner[0])
    assert "config" in seen


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_file_has_a_docstring_and_at_most_400_lines(path: Path) -> None:
    text = path.read_text()
    assert ast.get_docstring(ast.parse(text)), "a module docstring is its manual page"
    assert text.count("\n") <= 400, "a file this long holds two nouns"


def test_compiled_times_and_row_numbers_are_python_ints() -> None:
    # Never is 2**63 - 1: what is one more does not fit a C integer, and ended the queue process.
    # A wheel has none of these files, only what was made of them.
    for path in PACKAGE.rglob("*.pxd"):
        assert not re.search(r"\b(long|int64_t|uint64_t)\b", path.read_text()), ids(path)
