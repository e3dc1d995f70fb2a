cpdef next_attempt(retry, attempts, now, double chance)
