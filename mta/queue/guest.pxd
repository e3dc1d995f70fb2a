from mta.link.server cimport Connection as CConnection

cdef class Guest:
    cdef public CConnection connection
    cdef public object worker
    cdef public str role
    cdef public object hello
    cdef public set settled_since
    cdef public bint is_all
    cdef list _stored
    cdef Py_ssize_t _n_settled

    cpdef stored(self, bytes id_)
    cpdef settled(self)
    cpdef say(self)
