from mta.store.writer cimport Writer as CWriter

cpdef open_queue(CWriter writer, name, now)
cpdef wake_by(CWriter writer, queue, due)
