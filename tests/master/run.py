"""Starts a real master over the children of `kids`: `python -m tests.master.run JSON`.

The JSON has the path of a configuration under "file", under "mains" which child plays which kind, and under "module"
where the children are found.
"""

import json
import sys

from mta.errors import StartError
from mta.master import serve

__all__ = ["main"]


def main() -> int:
    """Serve; return the exit code."""
    given = json.loads(sys.argv[1])
    try:
        code = serve(
            given["file"],
            {kind: f"{given['module']}:{name}" for kind, name in given["mains"].items()},
            given["lock_wait_s"],
        )
    except StartError as error:
        sys.stderr.write(f"mta: {error}\n")
        code = 1
    sys.stderr.write(f"loaded {sorted({'lmdb', 'uvloop', 'Cython'} & set(sys.modules))}\n")
    return code


# A trial before an upgrade runs this file up to here.
if __name__ == "__main__":
    sys.exit(main())
