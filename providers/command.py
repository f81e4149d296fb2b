"""What operators type to run a command, for messages that say so."""

from pathlib import Path

IN_CLONE = (Path(__file__).resolve().parents[1] / "manage.py").is_file()
COMMAND = "manage.py" if IN_CLONE else "embeddings-server"
