"""Build the compiled scanners in mta/_fast. Everything else about the package is in pyproject.toml.

    python setup.py build_ext --inplace          the .so beside each .pyx

MTA_BUILD chooses the kind: `release` (the default), `debug` (asserts and line tracing, for coverage) or `sanitize`
(address and undefined-behaviour sanitizers). Each kind keeps its generated C and its objects in build/make/<kind>, so
that one never picks up what another left behind.
"""

import os
from typing import Any

from Cython.Build import cythonize
from Cython.Compiler import Options
from setuptools import Extension, setup

MODULES = ["command", "data", "frames", "headers", "lines", "replies", "rights"]

# The level is explicit because a CFLAGS in the environment replaces the interpreter's own flags; ours come last.
# -Wextra finds comparisons that can never hold, which Cython itself does not see.
KINDS: dict[str, dict[str, Any]] = {
    "release": {
        "extra_compile_args": ["-O3", "-DNDEBUG", "-Wextra"],
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

Options.warning_errors = True

setup(
    ext_modules=cythonize(
        [Extension(f"mta._fast.{name}", [f"mta/_fast/{name}.pyx"], **KINDS[kind]) for name in MODULES],
        build_dir=f"{place}/c",
        compiler_directives={
            "language_level": 3,
            # A scanner half way through a stream is not to be pickled.
            "auto_pickle": False,
            "embedsignature": True,
            "linetrace": kind == "debug",
            "warn.undeclared": True,
            "warn.unused": True,
            "warn.unreachable": True,
            "warn.maybe_uninitialized": True,
        },
    ),
    options={"build": {"build_base": place}},
)
