"""How often a caller may come: a token bucket per caller, shared by all processes.

The arithmetic is GCRA: a bucket is one number, the moment at which it will be full again. `gcra` holds it and the one
operation every store offers; `sqlite_buckets`, `redis_buckets` and `postgres_buckets` do it in one atomic step;
`limiter` chooses the store. Nothing here knows of REST framework.
"""
