cpdef bytes to_json(seq, event)
cpdef bytes escape_json(bytes line)
cpdef str rfc3339(ms)
