"""Who one thread is. Python has only the calls that change every thread of a process."""

def become(uid: int, gid: int, /) -> None:
    """Be this user and group to the file system, in this thread alone and without other groups, until the next call.

    For a process of root: its capabilities go with the user's id, and come back with `become(0, 0)`. Quotas and the
    share of a disk that is kept for root are what they are for that user.

    Raises OSError, PermissionError where we are not root; what the thread is then is for the next call to settle.
    """
