"""Filters on real databases: each means the same on SQLite and on PostgreSQL."""

import unicodedata

import pytest
from django.db import connections

from media_jobs.models import MediaItem
from media_jobs.services.filters import Filters, filtered
from providers import folding
from providers.folding import Folded, folded


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.e2e)])
def using(request, emptied):
    """Each database in turn."""
    alias = request.getfixturevalue(f"{request.param}_alias")
    with emptied(alias):
        yield alias


@pytest.fixture
def fits(using):
    """Return a function that stores a document and returns whether a filter finds it."""

    def ask(filters, **fields):
        item = MediaItem.objects.using(using).create(**fields)
        found = filtered(MediaItem.objects.using(using), Filters(**filters))
        return item in found

    return ask


KEYS = [
    "2024",
    "-1",
    "-5",
    "\uff11",
    "1_0",
    " 1",
    "+1",
    "01",
    "99999999999999999999",
    "",
    " ",
    'a"b',
    "it's",
    "a\\b",
    "[0]",
    "#",
    "$",
    "%s",
    "schön",
    "ключ",
    "🐈",
    "line\nbreak",
    "contains",
    "a\\",
    "'; DROP TABLE media_jobs_mediaitem; --",
]


@pytest.mark.parametrize("key", KEYS, ids=ascii)
def test_any_key_is_addressed_by_its_name(fits, key):
    for path, metadata in (
        (key, {key: "x"}),
        (f"n.{key}", {"n": {key: "x"}}),
        (f"{key}\\.n" if not key.endswith("\\") else "", {f"{key}.n": "x", "": "x"}),
    ):
        assert fits({"metadata": {path: "x"}}, metadata=metadata)
        assert not fits({"metadata": {path: "y"}}, metadata=metadata)


PLACES = [
    ("tags.0", "a", True),
    ("tags.1", "b", True),
    ("tags.2", "a", False),
    ("tags.-1", "b", False),
    ("tags.+1", "b", False),
    ("tags. 1", "b", False),
    ("tags.01", "b", False),
    ("tags.\uff11", "b", False),
    ("tags.99999999999999999999", "b", False),
    ("tags.length", 2, False),
    ("rows.1.-1", "in an object", True),
    ("rows.0.0", "in a list", True),
    ("rows.0.-1", "in a list", False),
    ("a\\.b", 1, True),
    ("a.b", 2, True),
    ("a.b", 1, False),
    ("back\\\\.slash", 3, True),
    ("text.0", "[", False),
    ("text.a", 1, False),
    ("text", '{"a": 1}', True),
    ("number.0", 7, False),
    (".".join("a" * 100), 1, False),
]
DOCUMENT = {
    "tags": ["a", "b"],
    "rows": [["in a list"], {"-1": "in an object"}],
    "a.b": 1,
    "a": {"b": 2},
    "back\\": {"slash": 3},
    "text": '{"a": 1}',
    "number": 7,
}


@pytest.mark.parametrize(("path", "value", "expected"), PLACES)
def test_path_names_keys_of_objects_and_places_of_lists(fits, path, value, expected):
    assert fits({"metadata": {path: value}}, metadata=DOCUMENT) is expected


VALUES = [True, "true", False, "false", None, "null", 0, "0", 1, "1", 1.5, "", "{}"]


@pytest.mark.parametrize("stored", VALUES, ids=repr)
def test_values_of_other_types_are_other_values(fits, stored):
    for asked in VALUES:
        same = type(asked) is type(stored) and asked == stored
        metadata = {"v": stored, "w": [stored]}
        assert fits({"metadata": {"v": asked}}, metadata=metadata) is same
        assert fits({"metadata": {"w": asked}}, metadata=metadata) is same


@pytest.mark.parametrize(
    ("stored", "asked", "same"),
    [
        (1, 1.0, True),
        (1.0, 1, True),
        (-0.0, 0, True),
        (0.1, 0.1, True),
        (2**53 + 1, 2**53 + 1, True),
        (2**53 + 1, 2**53, False),
        (2**63 - 1, 2**63 - 1, True),
        (2**63 - 1, 2**63 - 2, False),
        (-(2**63), -(2**63), True),
        (6.02e23, 6.02e23, True),
    ],
)
def test_numbers_are_compared_as_numbers(fits, stored, asked, same):
    assert fits({"metadata": {"n": asked}}, metadata={"n": stored}) is same


def test_null_is_not_a_key_that_is_missing(fits):
    assert fits({"metadata": {"n": None}}, metadata={"n": None})
    assert not fits({"metadata": {"n": None}}, metadata={})


def test_list_in_a_document_holds_its_items_and_not_theirs(fits):
    metadata = {"tags": ["a", 2, None, ["deep"], {"k": "v"}], "none": []}
    for value, expected in (("A", True), (2.0, True), (None, True), ("deep", False)):
        assert fits({"metadata": {"tags": value}}, metadata=metadata) is expected
    assert not fits({"metadata": {"none": None}}, metadata=metadata)


def test_of_several_values_one_must_fit_and_of_several_paths_all(fits):
    metadata = {"year": 2020, "tags": ["x"]}
    assert fits({"metadata": {"year": ["2020", None, 2020]}}, metadata=metadata)
    assert not fits({"metadata": {"year": ["2020", None, 2021]}}, metadata=metadata)
    assert fits({"metadata": {"year": 2020, "tags": ["y", "X"]}}, metadata=metadata)
    assert not fits({"metadata": {"year": 2020, "tags": "y"}}, metadata=metadata)


def composed(text):
    return unicodedata.normalize("NFC", text)


def decomposed(text):
    return unicodedata.normalize("NFD", text)


@pytest.mark.parametrize("form", [composed, decomposed])
@pytest.mark.parametrize(
    ("stored", "asked"),
    [
        ("Die ÄRZTE", "die ärzte"),
        ("ПРИВЕТ", "привет"),
        ("Straße", "STRASSE"),
        ("ΟΔΟΣ", "οδος"),
        ("ΟΔΟΣ", "ΟΔΟς"),
        ("İstanbul", "i̇stanbul"),
        ("\u13a0\uab83", "\uab70\u13b3"),
        ("ᾳ", "ᾼ"),
        ("résumé_100%.pdf", "RÉSUMÉ_100%.PDF"),
    ],
)
def test_text_is_compared_without_case_and_in_one_normal_form(
    fits, form, stored, asked
):
    stored, others = form(stored), (composed(asked), decomposed(asked))
    for text in others:
        assert fits({"title": text[-20:]}, title=f"{stored}!")
        assert fits({"source_filename": text}, source_filename=stored)
        assert fits({"language": text}, language=stored)
        assert fits({"metadata": {"k": text}}, metadata={"k": stored})
        assert not fits({"metadata": {"k": text}}, metadata={"k": f"{stored}!"})


def test_letters_without_case_in_common_stay_apart(fits):
    assert not fits({"title": "arzte"}, title="Ärzte")
    assert not fits({"title": "%"}, title="Ärzte")
    assert not fits({"title": "_"}, title="Ärzte")
    assert fits({"title": "0%_"}, title="100%_Ä")
    assert not fits({"language": "\u0131"}, language="i")


def test_key_is_found_in_either_normal_form(fits):
    for stored in (composed("schön"), decomposed("schön")):
        for path in (composed("schön"), decomposed("schön")):
            assert fits({"metadata": {path: 1}}, metadata={stored: 1})
    assert not fits({"metadata": {"SCHÖN": 1}}, metadata={"schön": 1})


def test_database_folds_every_letter_as_python_does(using):
    letters = [
        chr(code)
        for code in range(1, 0x20000)
        if chr(code).casefold() != chr(code)
        or unicodedata.normalize("NFD", chr(code)) != chr(code)
    ]
    text = " ".join(letter for letter in letters if not 0xD800 <= ord(letter) < 0xE000)
    item = MediaItem.objects.using(using).create(content=text)
    rows = MediaItem.objects.using(using).filter(pk=item.pk)
    given = rows.annotate(folded=Folded("content")).get().folded.split(" ")
    assert given == [folded(letter) for letter in text.split(" ")]


def test_database_whose_lower_knows_ascii_alone_folds_every_letter_too(
    postgres_alias, emptied, monkeypatch
):
    monkeypatch.setattr(folding, "COLLATIONS", ["C"])
    folding._postgres_rule.cache_clear()
    with emptied(postgres_alias), connections[postgres_alias].cursor() as cursor:
        sql, params = folding.fold_sql(
            connections[postgres_alias], "%s::text", ["ÄRZTE Привет ŒÆ Σς ß"]
        )
        cursor.execute(f"SELECT {sql}", params)
        assert cursor.fetchone()[0] == "ärzte привет œæ \u03c3\u03c3 ss"
    folding._postgres_rule.cache_clear()
