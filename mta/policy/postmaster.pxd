cdef class PostmasterCheck:
    cdef frozenset _domains
    cdef object _address

    cpdef rcpt(self, recipient, bint trusted)
