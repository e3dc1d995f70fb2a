cdef class Connection:
    cdef object _buffer
    cdef object _sock
    cdef public int fd
    cdef object _frames
    cdef list _out

    cpdef list read(self, Py_ssize_t most=*)
    cpdef send(self, bytes frame)
    cpdef bint flush(self) except -1
