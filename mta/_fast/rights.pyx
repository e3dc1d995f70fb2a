"""Who one thread is; the contract is rights.pyi."""

from cpython.exc cimport PyErr_SetFromErrno
from posix.types cimport gid_t, uid_t

cdef extern from "rights.h":
    # -1 stands for an error, and errno says which.
    int rights_become(uid_t uid, gid_t gid) noexcept nogil


def become(uid_t uid, gid_t gid, /):
    if rights_become(uid, gid) != 0:
        PyErr_SetFromErrno(OSError)
