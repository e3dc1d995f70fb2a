from mta.accept.shared cimport Shared as CShared

cdef class Intake:
    cdef CShared _shared
    cdef list _chunks
    cdef Py_ssize_t _n_octets
    cdef object _void
    cdef object _stream

    cpdef add(self, bytes data, owner)
    cpdef drop(self)
    cpdef finish(self, session, origin, event, owner)
