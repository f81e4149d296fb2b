"""Files that browsers send."""

import shutil
import tempfile
from typing import Any

from django.core.files.uploadedfile import UploadedFile

from media_jobs.services.ingestion import read_upload
from media_jobs.services.items import NewItem


def read_file(file: "UploadedFile[Any]", *, title: str = "", **fields: Any) -> NewItem:
    """Return the document that a file is to be; see `read_upload`, of which `fields` are.

    It is put on disk first, without a name, where the process that reads it finds it.
    """
    with tempfile.TemporaryFile() as spool:
        shutil.copyfileobj(file, spool)
        spool.flush()
        charset = file.charset or ""
        return read_upload(
            spool, name=file.name or "", charset=charset, title=title, **fields
        )
