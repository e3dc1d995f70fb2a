cimport cython

from mta.queue.awake cimport Known as CKnown, Path as CPath, Queue as CQueue, Session as CSession, Worker as CWorker
from mta.queue.leases cimport Leases as CLeases
from mta.queue.suspects cimport Suspects as CSuspects
from mta.queue.waiting cimport Waiting as CWaiting

cdef class Takers:
    cdef dict _by_worker

    cpdef put(self, load, CSession session)
    cpdef list least(self)
    cpdef tuple take(self, maker)


cdef class Granting:
    cdef public object settings
    cdef CWaiting _waiting
    cdef CLeases _leases
    cdef object _resolving
    cdef public CSuspects suspects
    cdef dict _busy
    cdef dict _starved
    cdef public dict refused
    cdef list _to_rest
    cdef bint _was_reserved

    cpdef make_busy(self, CPath path)
    cpdef enlist(self, CQueue queue)
    cpdef feed(self, Py_ssize_t n_paths=*)
    cpdef list grants(self, now)

    @cython.locals(queue=CQueue, known=CKnown, session=CSession, worker=CWorker, takers=Takers, opened=CSession)
    cdef dict _fill(self, CPath path, now)
    cdef _open(self, CPath path, now, maker)
