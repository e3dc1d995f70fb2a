cdef class End:
    cdef object _link
    cdef public str role
    cdef public object transport
    cdef object _frames
    cdef public list out

    cpdef flush(self)
