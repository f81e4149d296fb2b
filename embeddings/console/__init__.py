"""The operator console: one module a page, each beside the data that it shows. Every change made here is audited."""
