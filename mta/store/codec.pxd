cpdef bytes checked(bytes key, bytes value)
