from mta.smtp.session cimport Session as CSession

cdef class Progress:
    cdef public double at
    cdef tuple _furthest
    cdef CSession _session

    cpdef begin(self, double now)
    cpdef note(self, Py_ssize_t n_octets, double now)
    cdef tuple _place(self)
