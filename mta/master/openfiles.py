"""How many files a process may have open: raised as far as it goes, and a word if that is too few.

Rule: too few is not an error. The server works, and clients wait in the backlog once the limit is reached; but who has
configured thousands of connections should not have to find out under load.
"""

import resource

from mta.config import Config
from mta.master.notify import say

__all__ = ["needed_files", "raise_limit"]

# The queue's file, the link, channels to the master, the loop's own, listening sockets, Maildirs being written.
OTHER_FILES = 100


def needed_files(config: Config) -> int:
    """Return how many open files one worker needs when everything that is allowed happens at once."""
    n_workers = config.workers.n_processes
    n_addresses = sum(len(listener.bind) for listener in config.listener)
    share = -(-config.limits.connections // n_workers) - (-config.deliver.sessions // n_workers)
    return share + n_addresses + OTHER_FILES


def raise_limit(config: Config) -> None:
    """Take as many open files as we may have, for all children; say so if a worker could need more."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    needed = needed_files(config)
    if most != resource.RLIM_INFINITY and most < needed:
        say(
            f"a process may have {most} files open, but limits.connections = {config.limits.connections} and "
            f"deliver.sessions = {config.deliver.sessions} need {needed} in each of {config.workers.n_processes} "
            "workers: raise the limit (LimitNOFILE= for systemd, minfds for supervisord, ulimit -n in a shell), "
            "or lower these settings"
        )
