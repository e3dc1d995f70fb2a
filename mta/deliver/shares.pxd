cdef class Shares:
    cdef Py_ssize_t _most
    cdef dict _wholes

    cpdef list cut(self, job)
    cpdef tuple done(self, letter, outcomes)
