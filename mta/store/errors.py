"""What the store raises: a row or a flush that is not what it must be, and a store without room."""

import lmdb

__all__ = ["StorageFull", "StoreError", "meaning"]


class StoreError(Exception):
    """The environment is not what it should be, or a row is not where it must be; the text names it."""


class StorageFull(Exception):
    """LMDB's map or the disk is full; the transaction must be aborted."""


def meaning(problem: lmdb.Error) -> StorageFull | StoreError:
    """Return what an error inside a transaction means to the caller."""
    kind = StorageFull if isinstance(problem, lmdb.MapFullError) else StoreError
    return kind(str(problem))
