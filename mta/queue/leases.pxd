cimport cython

from mta.queue.awake cimport Known as CKnown, Path as CPath, Session as CSession, Worker as CWorker

cdef class Leases:
    cdef public object most_sessions
    cdef object _next_session
    cdef Py_ssize_t _n_remote
    cdef Py_ssize_t _n_unproven
    cdef public dict sessions
    cdef public dict workers

    cdef _begin(self, CSession session)

    @cython.locals(worker=CWorker)
    cpdef lease(self, bytes part, CKnown known, CSession session, now)

    @cython.locals(worker=CWorker)
    cpdef take_back(self, bytes part, CSession session, now)
    cpdef list able(self)

    @cython.locals(session=CSession, worker=CWorker)
    cpdef list with_room(self, CPath path)
