"""Cassandra: the archive of every room. The only package that imports its driver.

`session` bridges the driver to asyncio, `history` reads, `archive` writes, `migrations` makes the tables.
"""
