"""The engine as a process of its own, whose models all processes of a machine share."""
