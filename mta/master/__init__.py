"""The master process: reads no mail, binds every socket, forks, reaps, restarts.

`serve` is what the command line calls; `MAINS` names the children's code, which is imported after the fork only.
"""

from mta.master.children import EXIT_FAULT, MAINS
from mta.master.main import serve
from mta.master.sockets import Lock, find_user

__all__ = ["EXIT_FAULT", "MAINS", "Lock", "find_user", "serve"]
