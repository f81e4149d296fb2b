"""What goes round Django and REST framework for speed, and the one switch for all of it: `EMBEDDINGS_FAST_PATH`.

Clients see no difference, and the API's tests run both ways. Switched off, every middleware sees the API's requests.

middleware.py      past the middleware of pages
handler.py         remembers where paths lead, does without what signals would do again
rest_framework.py  reads, checks and answers JSON with fewer objects
"""

from django.conf import settings


def is_on() -> bool:
    """Whether to take the short way."""
    on: bool = settings.EMBEDDINGS_FAST_PATH
    return on
