cpdef tuple due_row(bytes name, part)
cpdef bytes timer_row(bytes name, part)
