from mta.queue.awake cimport Known as CKnown, Path as CPath, Session as CSession

cdef class Leases:
    cdef public object most_sessions
    cdef object _next_session
    cdef Py_ssize_t _n_remote
    cdef Py_ssize_t _n_unproven
    cdef public dict sessions
    cdef public dict workers

    cdef _begin(self, CSession session)
    cpdef lease(self, bytes part, CKnown known, CSession session, now)
    cpdef take_back(self, bytes part, CSession session, now)
    cpdef list able(self)
    cpdef list with_room(self, CPath path)
