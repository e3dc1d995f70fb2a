cdef class Recent:
    cdef dict _messages
    cdef Py_ssize_t _octets

    cpdef add(self, head, content)
    cpdef find(self, bytes id_)
    cpdef content(self, bytes id_)
    cpdef drop(self, bytes id_)
