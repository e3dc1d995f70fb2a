"""How many files a process of the benchmarks may have open: as many as it can be allowed."""

import resource

__all__ = ["allow_files"]


def allow_files() -> None:
    """Raise the limit of this process to what it may be raised to."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
