cdef class RelayCheck:
    cdef tuple _networks
    cdef frozenset _local_domains
    cdef object _known

    cpdef rcpt(self, recipient, bint trusted)
