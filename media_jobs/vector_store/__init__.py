"""Where vectors are kept and searched. Plain Python, Django's ORM and numpy."""
