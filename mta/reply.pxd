# Compiled for what is done with each reply when it is made.
