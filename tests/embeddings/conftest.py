"""Fixtures of multi-user mode, for whoever asks for them."""

from tests.embeddings.multi_user import (  # noqa: F401
    access,
    ada,
    admin,
    client_of,
    key_of,
    make_user,
)
