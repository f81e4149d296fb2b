"""One module a noun; each view reads its input, calls a service and writes the answer."""
