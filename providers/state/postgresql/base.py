"""Django's PostgreSQL backend with bounded waits: for connections, statements, locks, and a server that is frozen."""

import math
from typing import Any

from django.db.backends.postgresql import base

from providers.state.database import CONNECT_SECONDS, waits
from providers.state.postgresql import driver

# A peer that is gone without a word is noticed in about a minute, also by commands that wait without a limit.
KEEPALIVES = {
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}


class DatabaseWrapper(base.DatabaseWrapper):
    """What `DATABASE_URL` sets itself wins."""

    Database = driver

    def get_connection_params(self) -> dict[str, Any]:
        given = super().get_connection_params()
        patience = min(CONNECT_SECONDS, waits.patience() or CONNECT_SECONDS)
        params = {**KEEPALIVES, "connect_timeout": math.ceil(patience), **given}
        if waits.seconds is not None:
            # Below the client's own limit, so that a server that works says itself what it gave up.
            limit = int(waits.seconds * 900)
            own = f"-c statement_timeout={limit} -c lock_timeout={limit // 2}"
            params["options"] = f"{own} {params.get('options', '')}".strip()
        return params
