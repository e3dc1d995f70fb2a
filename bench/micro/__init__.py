"""Times of the smallest pieces, with pyperf: every scanner of `mta._fast`, and the work of `bench.work`.

    python -m bench.micro [pyperf's options] [NAME...]

`reader` measures DotReader against the C library's memmem, for whoever wants a ratio and not a time.
"""
