cpdef bytes message_of(bytes part)
