from mta.store.writer cimport Writer as CWriter

cpdef move_due(CWriter writer, bytes part, stood, moved)
cpdef drop_part(CWriter writer, bytes part, stood)
cpdef bint drop_message(CWriter writer, bytes id_, bytes part, bint keep_id) except -1
