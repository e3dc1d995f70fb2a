"""Compile the source and the sink: `python -m bench.load.build`, which `built.ensure_built` runs when it is needed.

They are no part of the package that is installed, and so not in setup.py.
"""

from Cython.Build import cythonize
from Cython.Compiler import Options
from setuptools import Distribution, Extension  # type: ignore[import-untyped]

from bench.load.built import NAMES, PLACE, made_of

WARNINGS = {"warn.unused": True, "warn.unreachable": True, "warn.maybe_uninitialized": True}
DIRECTIVES = {"language_level": 3, "auto_pickle": False, "cdivision": True}


def main() -> None:
    """Compile both, whether they are stale or not."""
    Options.warning_errors = True
    extensions = [
        Extension(
            f"bench.load.{name}",
            [f"bench/load/{name}.pyx"],
            extra_compile_args=["-O3", "-g0", "-Wextra"],
            define_macros=[("CYTHON_WITHOUT_ASSERTIONS", "1")],
        )
        for name in NAMES
    ]
    made = cythonize(  # type: ignore[no-untyped-call]
        extensions, build_dir=str(PLACE / "c"), compiler_directives=DIRECTIVES | WARNINGS, force=True
    )
    distribution = Distribution({"name": "bench", "ext_modules": made, "packages": []})
    command = distribution.get_command_obj("build_ext")
    command.inplace, command.force, command.build_temp = True, True, str(PLACE)
    command.ensure_finalized()
    command.run()
    for name in NAMES:
        made_of(name).touch()


if __name__ == "__main__":
    main()
