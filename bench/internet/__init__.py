"""A small internet on the loopback network, and Posthaste in the middle of it: `python -m bench.internet`.

`sites` is the table of who lives where and how mail to them has to end; `behaviours` how they behave; `zones` what the
nameserver says; `peers` the process with all hosts; `load` what is sent; `run` puts it together; `judge` holds what
came of it against the table.
"""
