"""What callers used, and may use.

`ledger` counts in memory, `counts` adds that to the database, `report` sums it up, and `budgets` holds callers to what
they were given for a month. Nothing here knows of REST framework.
"""
