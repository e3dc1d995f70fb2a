from mta.queue.awake cimport Path, Queue

cpdef enlist(Path path, Queue queue)
cpdef strike(Path path, Queue queue)
cpdef turn(Path path)
cpdef spend(Queue queue, cost)
cdef _put_back(Path path, Queue queue)
cdef _next(Path path)
cdef _quantum(Queue queue)
