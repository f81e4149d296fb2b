"""Vectors that were computed before, one a text.

`keys` names them; `lru` holds the least recently used ones of this process; `cache` answers from them and computes
each text once, however many ask for it. `row_store` says what a store that processes share can do; `sqlite_store` and
`redis_store` do it. Nothing here knows of providers' plug-ins.
"""
