"""PDF files to text."""

import io
from typing import cast

import pytest
from pypdf import PdfReader, PdfWriter
from pypdf.generic import (
    ArrayObject,
    DecodedStreamObject,
    DictionaryObject,
    NameObject,
    NullObject,
    NumberObject,
    TextStringObject,
)

from media_jobs.extraction.file_formats import Unreadable
from media_jobs.extraction.pdf import read_pdf
from tests.media_jobs.extraction.files import encoded, pdf


@pytest.mark.parametrize(
    "content",
    [
        b"BT [(b) (c] TJ ET",
        encoded(b"x", "/UnknownFilter"),
        encoded(b"\xff", "/ASCII85Decode"),
        encoded(b"zz", "/ASCIIHexDecode"),
        encoded(b"x", "/JBIG2Decode"),
        encoded(b"no zlib", "/FlateDecode"),
        encoded(b"\xff\xff", "/LZWDecode"),
        NumberObject(7),
    ],
)
def test_damaged_page_costs_that_page_and_is_said(content):
    read = read_pdf(pdf("first", content, "third"))
    assert read.text == "first\n\nthird"
    assert read.warnings == ("Page 2 is damaged and was left out.",)


def test_pages_without_text_are_named():
    read = read_pdf(pdf("first", b"q 9 0 0 9 0 0 cm Q", b"", b"", "last", b""))
    assert read.text == "first\n\nlast"
    assert read.warnings == ("Pages 2-4, 6 have no text; images are not read.",)


def test_page_that_is_missing_is_said():
    writer = PdfWriter(clone_from=io.BytesIO(pdf("first", "second", "third")))
    pages = cast(DictionaryObject, writer._pages.get_object())
    cast(ArrayObject, pages["/Kids"])[1] = NullObject()
    out = io.BytesIO()
    writer.write(out)
    read = read_pdf(out.getvalue())
    assert read.text == "first\n\nthird"
    assert read.warnings == ("The file is said to have 3 pages; 2 were found.",)


def test_file_that_is_cut_short_is_read_as_far_as_it_goes():
    whole = pdf("first", "second")
    read = read_pdf(whole[: whole.rindex(b"xref\n", 0, whole.rindex(b"startxref"))])
    assert read.text == "first\n\nsecond"
    assert "cut short" in read.warnings[0]


def test_file_without_a_readable_page_says_why():
    with pytest.raises(Unreadable, match="Pages 1-2 are damaged"):
        read_pdf(pdf(encoded(b"x", "/Unknown"), encoded(b"x", "/Unknown")))
    with pytest.raises(Unreadable, match="scanned"):
        read_pdf(pdf(b""))


def test_locked_file_says_so():
    writer = PdfWriter(clone_from=io.BytesIO(pdf("secret")))
    writer.encrypt("a password", algorithm="AES-256")
    out = io.BytesIO()
    writer.write(out)
    with pytest.raises(Unreadable, match="password"):
        read_pdf(out.getvalue())


def test_page_that_is_too_large_is_said():
    with pytest.raises(Unreadable, match="Page 1 is too large"):
        read_pdf(pdf(b"BT /F1 12 Tf [" + b"(a) " * 100_001 + b"] TJ ET"))


def test_letters_without_a_meaning_are_said():
    page = b"BT /F9 12 Tf 50 200 Td (words of no font) Tj ET"
    read = read_pdf(pdf("first", page))
    assert read.warnings == ("Page 2 has letters whose meaning its fonts do not say.",)


def test_what_is_written_into_a_form_is_read():
    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(pdf("A form"))))
    field = DictionaryObject(
        {
            NameObject("/FT"): NameObject("/Tx"),
            NameObject("/T"): TextStringObject("name"),
            NameObject("/V"): TextStringObject("Ada"),
        }
    )
    fields = ArrayObject([writer._add_object(field)])
    form = DictionaryObject({NameObject("/Fields"): fields})
    writer.root_object[NameObject("/AcroForm")] = form
    out = io.BytesIO()
    writer.write(out)
    assert read_pdf(out.getvalue()).text == "A form\n\nAda"


def test_words_stay_apart_in_a_font_that_numbers_its_own_letters():
    # Letters 1 to 3 are a, b and c; 32 is another, wider than what parts two words.
    letters = (
        b"begincmap 1 begincodespacerange <0000> <ffff> endcodespacerange 4 beginbfchar "
        b"<0001> <0061> <0002> <0062> <0003> <0063> <0020> <003d> endbfchar endcmap"
    )
    to_unicode = DecodedStreamObject()
    to_unicode.set_data(letters)
    content = DecodedStreamObject()
    content.set_data(b"BT /F2 10 Tf 50 200 Td [<00010002>-250<0003>] TJ ET")
    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(pdf(content))))
    descendant = {
        NameObject("/Subtype"): NameObject("/CIDFontType2"),
        NameObject("/W"): ArrayObject(
            [
                *(NumberObject(1), ArrayObject([NumberObject(500)] * 3)),
                *(NumberObject(32), ArrayObject([NumberObject(600)])),
            ]
        ),
    }
    font = {
        NameObject("/Type"): NameObject("/Font"),
        NameObject("/Subtype"): NameObject("/Type0"),
        NameObject("/BaseFont"): NameObject("/AAAAAA+Own"),
        NameObject("/Encoding"): NameObject("/Identity-H"),
        NameObject("/DescendantFonts"): ArrayObject([DictionaryObject(descendant)]),
        NameObject("/ToUnicode"): writer._add_object(to_unicode),
    }
    resources = cast(DictionaryObject, writer.pages[0]["/Resources"])
    fonts = cast(DictionaryObject, resources["/Font"])
    fonts[NameObject("/F2")] = DictionaryObject(font)
    out = io.BytesIO()
    writer.write(out)
    assert read_pdf(out.getvalue()).text == "ab c"
