"""The HTTP front: a worker class of gunicorn that slow clients cannot hold.

One thread waits for all connections (`worker.py`). A request is read whole (`heads.py`, `bodies.py`) before a thread of
the pool calls the WSGI application (`pool.py`), and what a client is slow to read is sent by the first thread again
(`answers.py`). Whatever is refused before the application is JSON like all other errors (`refusals.py`).
"""
