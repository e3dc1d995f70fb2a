cdef bytes _render(seq, bytes data)
