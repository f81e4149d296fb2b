#!/usr/bin/env python
"""Run the server's commands from a clone."""

from embeddings_project.__main__ import main

if __name__ == "__main__":
    main()
