"""The bytes of pages and of text files to characters, by the rules of the web."""

import gzip

import pytest

from embeddings.services.errors import InvalidRequest
from media_jobs.extraction.extract import plain_text
from media_jobs.extraction.file_formats import Unreadable
from media_jobs.extraction.html import read_html


def page(data, charset=""):
    """Return a page's text."""
    return read_html(data, charset).text


@pytest.mark.parametrize(
    ("label", "codec", "text"),
    [
        ("iso-8859-1", "cp1252", "it\u2019s \u2013 so"),
        ("us-ascii", "cp1252", "it\u2019s"),
        ("iso-8859-9", "cp1254", "\u0130\u011f"),
        ("gb2312", "gb18030", "镕㐀"),
        ("x-gbk", "gbk", "镕"),
        ("shift_jis", "cp932", "①髙"),
        ("x-sjis", "cp932", "日本"),
        ("euc-kr", "cp949", "똠"),
        ("ks_c_5601-1987", "cp949", "똠"),
        ("big5", "big5hkscs", "\u5605"),
        ("tis-620", "cp874", "ไทย"),
        ("x-mac-cyrillic", "mac-cyrillic", "Привет"),
        ("iso-8859-8-i", "iso-8859-8", "שלום"),
        ("koi8-ru", "koi8-u", "ґ"),
        ("x-user-defined", "cp1252", "é"),
    ],
)
def test_label_means_what_the_web_means_by_it(label, codec, text):
    read = read_html(f'<meta charset="{label}"><p>{text}'.encode(codec), "")
    assert (read.text, read.warnings) == (text, ())


@pytest.mark.parametrize(
    ("label", "data", "text"),
    [("euc-jp", b"\xad\xa1\xfc\xe2", "①髙"), ("big5", b"\xf9\xd6", "碁")],
)
def test_letters_that_pythons_tables_lack_are_read(label, data, text):
    assert page(f"<meta charset={label}><p>".encode() + data) == text


@pytest.mark.parametrize(
    "declaration",
    [
        "<meta charset=koi8-r>",
        "<META/CHARSET = 'KOI8-R' >",
        '<meta content="text/html; charset=koi8-r" http-equiv="Content-Type">',
        '<!-- <meta charset="utf-8"> --><meta charset="koi8-r">',
        '<!--><meta charset="koi8-r">',
        '<meta name="description" content="charset=utf-8"><meta charset=koi8-r>',
        "<a title='<meta charset=utf-8>' b><meta charset=koi8-r>",
        '<meta charset="nonsense"><meta charset="koi8-r">',
        '<?xml version="1.0" encoding="koi8-r"?><html>',
        "<meta charset=koi8-r charset=utf-8>",
    ],
)
def test_declaration_is_found_where_a_browser_finds_it(declaration):
    declared = declaration.lower().replace("koi8-r", "iso-2022-jp").encode()
    assert page(declared + "<p>日本".encode("iso-2022-jp")) == "日本"


def test_declaration_behind_the_first_bytes_is_found_too():
    late = f"<!-- {'x' * 2000} --><meta charset=koi8-r>".encode()
    assert page(late + "<p>Привет".encode("koi8-r")) == "Привет"


@pytest.mark.parametrize(
    "label",
    [*("utf-16", "utf-16be", "idna", "punycode", "utf-7", "unicode_escape"), "caf\xe9"],
)
def test_label_that_is_none_for_a_page_changes_nothing(label):
    data = f'<meta charset="{label}"><p>Привет \\u0041'.encode()
    assert page(data) == "Привет \\u0041"


def test_unsafe_encoding_is_refused_and_named():
    with pytest.raises(Unreadable, match="hz-gb-2312"):
        page(b"<meta charset=hz-gb-2312><p>x")


def test_order_is_mark_then_transport_then_page():
    declared = "<meta charset=koi8-r><p>Привет"
    assert page(declared.encode("utf-8-sig"), "koi8-r") == "Привет"
    assert page(declared.encode("utf-16"), "koi8-r") == "Привет"
    assert page(declared.encode("cp1251"), "windows-1251") == "Привет"


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be"])
def test_utf_16_without_a_mark_is_recognised(codec):
    assert page("<html><body><p>Grüße 漢字</p></body></html>".encode(codec)) == (
        "Grüße 漢字"
    )


@pytest.mark.parametrize("declaration", [b"", b"<meta charset=utf-8>"])
def test_bad_byte_costs_that_byte_and_is_said(declaration):
    read = read_html(declaration + "<p>Привет".encode() + b"\xff", "")
    assert read.text == "Привет\ufffd"
    assert len(read.warnings) == 1
    assert "1 bad byte" in read.warnings[0]


def test_replacement_that_the_text_has_itself_is_no_bad_byte():
    assert read_html("<p>a\ufffdb".encode(), "").warnings == ()


def test_undeclared_page_in_no_utf_8_is_read_as_windows_1252_and_says_so():
    read = read_html("<p>café it\u2019s".encode("cp1252"), "")
    assert read.text == "café it\u2019s"
    assert "windows-1252" in read.warnings[0]


def test_page_that_is_binary_is_refused():
    with pytest.raises(Unreadable, match="binary"):
        page(gzip.compress(b"<p>text", mtime=0))


def test_bad_bytes_are_named_with_the_encoding():
    read = read_html(b"<meta charset=windows-1252><p>a\x81b\x8d", "")
    assert read.text == "a\ufffdb\ufffd"
    assert "2 bad bytes" in read.warnings[0]
    assert "windows-1252" in read.warnings[0]


@pytest.mark.parametrize(
    ("charset", "codec"),
    [("windows-1252", "cp1252"), ("ISO-8859-1", "cp1252"), ("utf-16le", "utf-16-le")],
)
def test_text_file_is_read_as_its_part_declares(charset, codec):
    assert plain_text("café".encode(codec), charset).text == "café"


@pytest.mark.parametrize("charset", ["", "utf-8", "nonsense"])
def test_text_file_without_an_encoding_is_refused_with_the_remedy(charset):
    with pytest.raises(InvalidRequest, match="charset=windows-1252"):
        plain_text("café".encode("cp1252"), charset)


def test_bad_byte_of_a_text_file_costs_that_byte():
    read = plain_text("Zwölf Boxkämpfer".encode() + b"\xe4", "")
    assert read.text == "Zwölf Boxkämpfer\ufffd"
    assert "1 bad byte" in read.warnings[0]


@pytest.mark.parametrize(
    "data",
    [
        *(b"abc\0", b"\0\0\0\0", b"a\0b", b"\x89PNG\r\n\0\xff"),
        b"\0a\0b\0c\0dx\0",
    ],
)
def test_binary_file_is_not_taken_for_utf_16(data):
    with pytest.raises(InvalidRequest, match="binary"):
        plain_text(data, "")
