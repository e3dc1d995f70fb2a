"""Build what is compiled. Everything else about the package is in pyproject.toml.

    python setup.py build_ext --inplace          the .so beside each source

That is the scanners in mta/_fast, and each module of Python that has a .pxd beside it: it is compiled as it stands, and
the .pxd gives its classes C attributes and C methods. C integers are for counts of what is in RAM; times, and numbers
out of rows and frames, stay Python's: theirs have no end. Without its .so such a module runs all the same, only slower:
so it does in the other kinds of builds, which are for the scanners.

MTA_BUILD chooses the kind: `release` (the default), `debug` (asserts and line tracing, for coverage) or `sanitize`
(address and undefined-behaviour sanitizers). Each kind keeps its generated C and its objects in build/make/<kind>, so
that one never picks up what another left behind.
"""

import os
from pathlib import Path
from typing import Any

from Cython.Build import cythonize
from Cython.Compiler import Options
from setuptools import Extension, setup

SCANNERS = ["command", "data", "frames", "headers", "keys", "lines", "replies", "rights"]
PLAIN = sorted(path.with_suffix(".py").as_posix() for path in Path("mta").rglob("*.pxd") if path.parent.name != "_fast")

# The level is explicit because a CFLAGS in the environment replaces the interpreter's own flags; ours come last.
# -Wextra finds comparisons that can never hold, which Cython itself does not see.
KINDS: dict[str, dict[str, Any]] = {
    "release": {
        "extra_compile_args": ["-O3", "-g0", "-DNDEBUG", "-Wextra"],
        "define_macros": [("CYTHON_WITHOUT_ASSERTIONS", "1")],
    },
    "debug": {
        "extra_compile_args": ["-O0", "-g", "-UNDEBUG"],
        "define_macros": [("CYTHON_TRACE", "1")],
    },
    "sanitize": {
        "extra_compile_args": [
            "-O1",
            "-g",
            "-UNDEBUG",
            "-fsanitize=address,undefined",
            "-fno-sanitize-recover=undefined",
            "-fno-omit-frame-pointer",
        ],
        "extra_link_args": ["-fsanitize=address,undefined"],
    },
}

kind = os.environ.get("MTA_BUILD", "release")
if kind not in KINDS:
    raise SystemExit(f"MTA_BUILD: expected one of {', '.join(KINDS)}, got {kind}")
place = f"build/make/{kind}"

DIRECTIVES: dict[str, Any] = {
    "language_level": 3,
    # A scanner half way through a stream is not to be pickled.
    "auto_pickle": False,
    "embedsignature": True,
    "linetrace": kind == "debug",
}
WARNINGS = {"warn.undeclared": True, "warn.unused": True, "warn.unreachable": True, "warn.maybe_uninitialized": True}
# Plain Python has arguments that are not used, and annotations that are no C types: ruff and mypy look after those.
# Where there is None after all it shall be an exception, as it would be there, and not the end of the process.
AS_IT_STANDS = {"annotation_typing": False, "nonecheck": True}


def extension(source: str) -> Extension:
    """Return the extension of one source file."""
    return Extension(source.rpartition(".")[0].replace("/", "."), [source], **KINDS[kind])


Options.warning_errors = True
scanners = cythonize(
    [extension(f"mta/_fast/{name}.pyx") for name in SCANNERS],
    build_dir=f"{place}/c",
    compiler_directives=DIRECTIVES | WARNINGS,
)
plain = cythonize(
    [extension(source) for source in PLAIN if kind == "release"],
    build_dir=f"{place}/c",
    compiler_directives=DIRECTIVES | AS_IT_STANDS,
)
setup(
    ext_modules=scanners + plain,
    options={"build": {"build_base": place}, "build_ext": {"parallel": os.cpu_count()}},
)
