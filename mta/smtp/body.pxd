cdef class Body:
    cdef public object reader
    cdef object _limits
    cdef object _max_octets

    cpdef find_fault(self)
