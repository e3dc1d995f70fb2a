"""Starts a real master over the children of `kids`: `python -m tests.master.run JSON`.

The JSON has the tables of a configuration under "config", under "mains" which child plays which kind, and under
"module" where the children are found.
"""

import json
import sys

import msgspec

from mta.config import Config
from mta.errors import StartError
from mta.master import serve

given = json.loads(sys.argv[1])
try:
    code = serve(
        msgspec.convert(given["config"], Config),
        {kind: f"{given['module']}:{name}" for kind, name in given["mains"].items()},
        given["lock_wait_s"],
    )
except StartError as error:
    sys.stderr.write(f"mta: {error}\n")
    code = 1
sys.stderr.write(f"loaded {sorted({'lmdb', 'uvloop', 'Cython'} & set(sys.modules))}\n")
sys.exit(code)
