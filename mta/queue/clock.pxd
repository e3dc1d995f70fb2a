cdef class Clock:
    cdef object _offset_ns
    cdef object _told_ns

    cpdef now_ms(self)
