"""Whether the source and the sink are compiled, and that they become it.

Rule: whoever starts one of the two calls `ensure_built` first; so a clean checkout compiles them when they are first
used, and a changed one again. Several that come at once wait for the first.
"""

import fcntl
import subprocess
import sys
import sysconfig
from pathlib import Path

__all__ = ["NAMES", "PLACE", "ensure_built", "made_of"]

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parent.parent
PLACE = ROOT / "build" / "bench"
NAMES = ("_message", "_pool", "_run", "_sink", "_source")


def made_of(name: str) -> Path:
    """Return the compiled file of a module."""
    return FOLDER / f"{name}{sysconfig.get_config_var('EXT_SUFFIX')}"


def _is_stale() -> bool:
    sources = [FOLDER / "build.py", *FOLDER.glob("*.pyx"), *FOLDER.glob("*.pxd")]
    newest = max(path.stat().st_mtime for path in sources)
    return not all(made_of(name).exists() and made_of(name).stat().st_mtime > newest for name in NAMES)


def ensure_built() -> None:
    """Compile if need be. Raises RuntimeError with what the compiler said."""
    if not _is_stale():
        return
    PLACE.mkdir(parents=True, exist_ok=True)
    with (PLACE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _is_stale():
            return
        command = [sys.executable, "-m", "bench.load.build"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"bench/load does not compile\n{done.stdout[-4000:]}{done.stderr[-4000:]}")
