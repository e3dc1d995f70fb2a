cpdef parse_reverse_path(bytes argument)
cpdef parse_forward_path(bytes argument)
cdef _ordinary(found)
