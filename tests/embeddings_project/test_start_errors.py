import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, IntegrityError, OperationalError

from embeddings_project.start_errors import explain


def test_wrong_setting_speaks_for_itself():
    assert explain(ImproperlyConfigured("PORT must be a number.")) == (
        "PORT must be a number."
    )


@pytest.mark.parametrize(
    ("reason", "remedy"),
    [
        ("no such table: x", "Run `manage.py migrate`"),
        ('relation "x" does not exist\nLINE 1', "Run `manage.py migrate`"),
        ("file is not a database", "Put a backup in its place"),
        ("database disk image is malformed", "Put a backup in its place"),
        ("unable to open database file", "See that it is there"),
    ],
)
def test_database_error_names_the_database_and_a_remedy(settings, reason, remedy):
    text = explain(DatabaseError(reason))
    assert text is not None
    assert f"{settings.DATABASES['default']['NAME']} cannot be used" in text
    assert remedy in text
    assert "\n" not in text


def test_fault_of_one_statement_is_left_to_its_traceback():
    assert explain(IntegrityError("UNIQUE constraint failed")) is None


def test_server_s_error_is_one_sentence(settings, monkeypatch):
    monkeypatch.setitem(settings.DATABASES["default"], "ENGINE", "postgresql")
    text = explain(OperationalError("refused\n\tIs it running?"))
    assert text is not None
    assert text.startswith(
        "The database that DATABASE_URL names cannot be used: refused Is it running. "
    )
