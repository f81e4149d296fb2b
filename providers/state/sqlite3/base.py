"""Django's SQLite backend for a server: it follows its file, and never makes one in the place of one that was moved."""

from pathlib import Path
from typing import Any
from urllib.parse import quote

from django.db.backends.sqlite3 import base

from providers.state.database import waits

Identity = tuple[int, int]


class DatabaseWrapper(base.DatabaseWrapper):
    """While this process serves, its database is the file that lies at the path now."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._opened: Identity | None = None

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        if waits.serving and not str(conn_params["database"]).startswith("file:"):
            there = f"file:{quote(str(conn_params['database']))}?mode=rw"
            conn_params = {**conn_params, "database": there}
        connection = super().get_new_connection(conn_params)
        self._opened = self._lies_there()
        return connection

    def is_usable(self) -> bool:
        """Whether the file that was opened still lies at its path: what is written to another one is lost."""
        return super().is_usable() and self._opened == self._lies_there()

    def _lies_there(self) -> Identity | None:
        try:
            status = Path(self.settings_dict["NAME"]).stat()
        except OSError:
            return None
        return status.st_dev, status.st_ino
