cdef class Recent:
    cdef object _messages
    cdef Py_ssize_t _octets

    cpdef add(self, head, Py_ssize_t head_octets, content, double now_s)
    cpdef find(self, bytes id_)
    cpdef content(self, bytes id_)
    cpdef drop(self, bytes id_)
    cpdef expire(self, double now_s)
