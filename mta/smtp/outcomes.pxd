cpdef outcome_of(str remote_mta, str status, code, bytes text, str reason, str enhanced=*)
