cdef class Notices:
    cdef str _hostname
    cdef object _link
    cdef object _lifetime_ms

    cpdef maybe_write(self, job, received_at, str tenant, tuple results)
