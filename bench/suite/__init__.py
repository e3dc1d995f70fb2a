"""The suite: Posthaste and its peers under the same loads on one machine, and what came of it.

    python -m bench.suite run headline        10 minutes: Posthaste with Postfix beside it
    python -m bench.suite run full            3 hours at most: all peers, all loads

A `plan` says what is measured, `runner` does it, `results` is the file that comes of it; `table`, `plots` and `compare`
read such files and nothing else, so they work for files of other machines, too.
"""
