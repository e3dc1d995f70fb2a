cdef class Places:
    cdef dict _kept
    cdef Py_ssize_t _n_kept

    cpdef keep(self, tuple place)
    cpdef bint has(self, tuple place) except -1
    cpdef take(self, tuple place)
