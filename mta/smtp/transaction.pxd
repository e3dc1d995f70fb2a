cdef class Transaction:
    cdef public object letter
    cdef public object lines
    cdef public list accepted
    cdef public list decided
    cdef public object refusal
    cdef public bint is_touched
    cdef public bint is_sent

    cpdef list outcomes(self, rest)
