"""Comparing what the log, Cassandra and Redis say of a room. Pure: values in, findings out.

`room` folds one room's events and checks what they say of each other (numbers, chain), `compare` holds the stores'
rows against that fold, `claims` keeps what a store says about events that were not read yet, and `findings` is what
all of them report to. Who reads the log and the stores stands in agents/verify.py.
"""
