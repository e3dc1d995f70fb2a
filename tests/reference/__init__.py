"""Slow, plain statements of what the compiled scanners must do; only tests use them."""
