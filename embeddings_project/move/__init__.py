"""An embedded installation carried over to PostgreSQL: copied page by page, compared, and resumed where it broke off.

`moving.py` is the whole of it, in its order.
"""
