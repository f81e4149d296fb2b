"""The processes that run jobs: django-q2's cluster, and what watches over it."""
