"""The compiled scanners are the ones their sources and stubs speak of."""

import ast
import importlib
import inspect
import re
from pathlib import Path
from types import ModuleType

import pytest

import mta._fast

# Stubs are part of the package, wherever it is installed; sources are in a checkout alone.
STUBS = Path(mta._fast.__file__).parent
SOURCES = Path(__file__).resolve().parents[2] / "mta" / "_fast"
NAMES = sorted(path.stem for path in STUBS.glob("*.pyi"))


def load(name: str) -> ModuleType:
    return importlib.import_module(f"mta._fast.{name}")


def parameters(function: ast.FunctionDef) -> list[tuple[str, bool, object]]:
    """Return (name, positional only, default) of each parameter in a stub, `...` for no default."""
    arguments = function.args
    every = [*arguments.posonlyargs, *arguments.args]
    defaults: list[object] = [...] * (len(every) - len(arguments.defaults))
    defaults += [ast.literal_eval(default) for default in arguments.defaults]
    only = len(arguments.posonlyargs)
    return [(each.arg, i < only, defaults[i]) for i, each in enumerate(every)]


def compiled_parameters(function: object) -> list[tuple[str, bool, object]]:
    """Return the same of a compiled function."""
    assert callable(function)
    empty = inspect.Parameter.empty
    return [
        (each.name, each.kind is each.POSITIONAL_ONLY, ... if each.default is empty else each.default)
        for each in inspect.signature(function).parameters.values()
    ]


def constructor_names(made: type) -> list[str]:
    """Return the names of a compiled class's constructor parameters, from the signature that Cython embeds."""
    match = re.match(rf"{made.__name__}\((.*)\)", made.__doc__ or "")
    assert match is not None
    return [part.partition("=")[0].split()[-1] for part in match[1].split(",") if part]


def sources_of(name: str) -> list[Path]:
    """Return the files a module is built from."""
    source = SOURCES / f"{name}.pyx"
    text = source.read_text()
    headers = [path for path in SOURCES.glob("*.h") if f'extern from "{path.name}"' in text]
    shared = [path for path in SOURCES.glob("*.pxd") if f"from mta._fast.{path.stem} cimport" in text]
    return [source, *headers, *shared]


def test_build_is_not_older_than_its_sources() -> None:
    for name in sorted(path.stem for path in SOURCES.glob("*.pyx")):
        built = load(name).__file__
        assert built is not None
        stale = [path.name for path in sources_of(name) if path.stat().st_mtime > Path(built).stat().st_mtime]
        assert not stale, f"{built} is older than {', '.join(stale)}: python setup.py build_ext --inplace"


def test_stubs_are_there_for_each_module() -> None:
    assert sorted({path.name.partition(".")[0] for path in STUBS.glob("*.so")}) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_stub_names_and_signatures_are_those_of_the_module(name: str) -> None:
    module = load(name)
    tree = ast.parse((STUBS / f"{name}.pyi").read_text())
    names = set()
    for node in tree.body:
        if isinstance(node, ast.AnnAssign):
            assert isinstance(node.target, ast.Name)
            names.add(node.target.id)
        elif isinstance(node, ast.FunctionDef):
            names.add(node.name)
            assert compiled_parameters(getattr(module, node.name)) == parameters(node)
        elif isinstance(node, ast.ClassDef):
            names.add(node.name)
            check_class(node, getattr(module, node.name))
    assert {each for each in vars(module) if not each.startswith("_")} == names


def check_class(stub: ast.ClassDef, made: type) -> None:
    names = set()
    constructor: list[str] = []
    for node in stub.body:
        if isinstance(node, ast.AnnAssign):
            assert isinstance(node.target, ast.Name)
            names.add(node.target.id)
        elif isinstance(node, ast.FunctionDef) and node.name == "__init__":
            constructor = [each for each, _, _ in parameters(node)[1:]]
        elif isinstance(node, ast.FunctionDef):
            names.add(node.name)
            assert compiled_parameters(getattr(made, node.name)) == parameters(node)
    assert {each for each in vars(made) if not each.startswith("_")} == names
    assert constructor_names(made) == constructor


def test_door_exports_what_it_says() -> None:
    assert all(hasattr(mta._fast, name) for name in mta._fast.__all__)
