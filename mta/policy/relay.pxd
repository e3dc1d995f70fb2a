cdef class RelayCheck:
    cdef tuple _networks
    cdef frozenset _local_domains

    cpdef rcpt(self, recipient, bint trusted)
