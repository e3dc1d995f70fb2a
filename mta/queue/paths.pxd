from mta.queue.awake cimport Path as CPath

cpdef bint is_paused(CPath path, now) except -1
cpdef bint leads(CPath path, now) except -1
cpdef bint is_alive(CPath path, now) except -1
cpdef most_sessions(CPath path, settings, now)
cpdef succeeded(CPath path, settings, now)
