"""Tries whether the code and the configuration that are on the disk now can take over a running server.

    python -m mta.master.trial FILE FD PROGRAM

Run by the master before it gives itself up for a new image: everything that a server imports is imported, the
configuration is read, and so is the record at FD; PROGRAM, which the server was started by and the new image begins
with, is there and can be run as far as its main. Exit code 0, or 1 with the reasons on stderr, a line each.
"""

import importlib
import runpy
import sys

from mta.config import load
from mta.errors import ConfigError, StartError
from mta.master.children import MAINS
from mta.master.handover import read

__all__ = ["main"]

FRONT = ("mta.cli.main", "mta.cli.serve", "mta.master.main")


# Not "__main__", or it would serve.
NAME = "mta_trial"


def main(file: str, fd: int, program: str) -> int:
    """Try; return the exit code."""
    try:
        for module in (*FRONT, *(main.partition(":")[0] for main in MAINS.values())):
            importlib.import_module(module)
        runpy.run_path(program, run_name=NAME)
        load(file)
        read(fd).read_config()
    except ConfigError as error:
        sys.stderr.write("".join(f"{problem}\n" for problem in error.problems))
        return 1
    except StartError as error:
        sys.stderr.write(f"mta: {error}\n")
        return 1
    except Exception as error:
        # Whatever keeps a module from being imported: a file that is missing, or built for another Python.
        sys.stderr.write(f"mta: the new version cannot be loaded: {type(error).__name__}: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
