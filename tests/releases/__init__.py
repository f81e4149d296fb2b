"""Databases as earlier releases left them, each with what a user had stored there. `fill.py` made them."""
