cdef class Reports:
    cdef dict _kinds
    cdef set _delivering
    cdef dict _waiting
    cdef dict _out

    cpdef came_back(self, bytes part)
    cpdef bint is_up(self, bytes part) except -1
    cpdef done(self, bytes part)
