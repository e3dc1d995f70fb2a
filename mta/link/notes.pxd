cdef class Notes:
    cdef list _events
    cdef object _second
    cdef Py_ssize_t _n_seen
    cdef Py_ssize_t _n_dropped

    cpdef bint add(self, bytes event, double now_s) except -1
