cdef class Policy:
    cdef object _relay
    cdef tuple _rcpt_checks

    cpdef rcpt(self, recipient, bint trusted)
