# Compiled for the rows of EHLO.
