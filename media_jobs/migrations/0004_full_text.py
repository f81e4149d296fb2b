"""An index of the chunks' words that the database itself keeps up: FTS5 by triggers, or a generated tsvector."""

from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.state import StateApps

# The index holds no copy of the text: it reads the chunk's row, and must be told of a text that goes.
SQLITE = (
    """
    CREATE VIRTUAL TABLE media_jobs_chunkwords USING fts5(
      text, content='media_jobs_storedchunk', content_rowid='id', tokenize='unicode61 remove_diacritics 2'
    )
    """,
    "CREATE VIRTUAL TABLE media_jobs_wordcount USING fts5vocab('media_jobs_chunkwords', 'row')",
    """
    CREATE TRIGGER media_jobs_words_added AFTER INSERT ON media_jobs_storedchunk BEGIN
      INSERT INTO media_jobs_chunkwords (rowid, text) VALUES (NEW.id, NEW.text);
    END
    """,
    """
    CREATE TRIGGER media_jobs_words_removed AFTER DELETE ON media_jobs_storedchunk BEGIN
      INSERT INTO media_jobs_chunkwords (media_jobs_chunkwords, rowid, text) VALUES ('delete', OLD.id, OLD.text);
    END
    """,
    """
    CREATE TRIGGER media_jobs_words_changed AFTER UPDATE OF text ON media_jobs_storedchunk BEGIN
      INSERT INTO media_jobs_chunkwords (media_jobs_chunkwords, rowid, text) VALUES ('delete', OLD.id, OLD.text);
      INSERT INTO media_jobs_chunkwords (rowid, text) VALUES (NEW.id, NEW.text);
    END
    """,
    "INSERT INTO media_jobs_chunkwords (media_jobs_chunkwords) VALUES ('rebuild')",
)
SQLITE_BACK = (
    "DROP TRIGGER media_jobs_words_changed",
    "DROP TRIGGER media_jobs_words_removed",
    "DROP TRIGGER media_jobs_words_added",
    "DROP TABLE media_jobs_wordcount",
    "DROP TABLE media_jobs_chunkwords",
)
# Punctuation becomes space first: the parser would keep an address or a path as one word. "simple": any language.
POSTGRES = (
    r"""
    ALTER TABLE media_jobs_storedchunk ADD COLUMN words tsvector GENERATED ALWAYS AS (
      to_tsvector('simple', translate(text, '!"#$%&''()*+,-./:;<=>?@[\]^_`{|}~', repeat(' ', 32)))
    ) STORED
    """,
    "CREATE INDEX media_jobs_chunkwords ON media_jobs_storedchunk USING gin (words)",
)
POSTGRES_BACK = ("ALTER TABLE media_jobs_storedchunk DROP COLUMN words",)


def create(apps: StateApps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    postgres = schema_editor.connection.vendor == "postgresql"
    for statement in POSTGRES if postgres else SQLITE:
        schema_editor.execute(statement, params=None)


def drop(apps: StateApps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    postgres = schema_editor.connection.vendor == "postgresql"
    for statement in POSTGRES_BACK if postgres else SQLITE_BACK:
        schema_editor.execute(statement, params=None)


class Migration(migrations.Migration):

    dependencies = [("media_jobs", "0003_notice_removals")]

    operations = [migrations.RunPython(create, drop)]
