"""Send a load: `send(address, Load(messages=20_000))`, by a process of its own (`bench.load.source_main`)."""

import subprocess
import sys

import msgspec

from bench.load.built import ROOT, ensure_built
from bench.load.model import Load, Sent

__all__ = ["LoadFailed", "send"]

TIMEOUT_S = 600.0


class LoadFailed(Exception):
    """The source could not send; the text says why."""


def send(
    address: tuple[str, int], load: Load, *, cores: frozenset[int] | None = None, timeout_s: float = TIMEOUT_S
) -> Sent:
    """Send a load to a server and return what came of it; the source runs on these `cores` only.

    Raises LoadFailed when no connection can be made, and TimeoutError when it is not over in time.
    """
    ensure_built()
    asked = msgspec.json.encode((address, load, sorted(cores) if cores else None))
    command = [sys.executable, "-m", "bench.load.source_main"]
    try:
        done = subprocess.run(command, cwd=ROOT, input=asked, capture_output=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired as error:
        raise TimeoutError(f"a load to {address[0]}:{address[1]} has not ended within {timeout_s:g} s") from error
    if done.returncode:
        raise LoadFailed(done.stderr.decode(errors="replace").strip())
    return msgspec.msgpack.decode(done.stdout, type=Sent)
