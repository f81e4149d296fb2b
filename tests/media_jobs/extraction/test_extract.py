"""Files of every format to text, by the real converters."""

import io
import zipfile

import pytest
from pypdf import PdfWriter
from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject

from embeddings.services.errors import InvalidRequest
from media_jobs.extraction.extract import extracted_text

HTML = b"""<html><head><title>No</title><style>p {}</style></head><body><h1>Cats</h1>
<p>They <b>s</b>it&nbsp;on&amp;on.</p><script>no()</script><ul><li>one<li>two</ul></body></html>"""


def pdf(text):
    writer = PdfWriter()
    page = writer.add_blank_page(300, 300)
    font = DictionaryObject(
        {
            NameObject("/Type"): NameObject("/Font"),
            NameObject("/Subtype"): NameObject("/Type1"),
            NameObject("/BaseFont"): NameObject("/Helvetica"),
        }
    )
    page[NameObject("/Resources")] = DictionaryObject(
        {NameObject("/Font"): DictionaryObject({NameObject("/F1"): font})}
    )
    stream = DecodedStreamObject()
    stream.set_data(f"BT /F1 12 Tf 50 200 Td ({text}) Tj ET".encode())
    page[NameObject("/Contents")] = stream
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def docx(*paragraphs):
    xml = "".join(f"<w:p><w:r><w:t>{text}</w:t></w:r></w:p>" for text in paragraphs)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(
            "_rels/.rels",
            '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="r1" '
            'Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument" '
            'Target="word/document.xml"/></Relationships>',
        )
        archive.writestr(
            "[Content_Types].xml",
            '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"><Override '
            'PartName="/word/document.xml" ContentType="application/vnd.openxmlformats-officedocument.'
            'wordprocessingml.document.main+xml"/></Types>',
        )
        archive.writestr(
            "word/document.xml",
            '<w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main">'
            f"<w:body>{xml}</w:body></w:document>",
        )
    return out.getvalue()


@pytest.fixture
def text_of(tmp_path):
    """Return a function that writes a file and extracts its text."""

    def extract(name, data):
        path = tmp_path / "upload"
        path.write_bytes(data)
        return extracted_text(path, filename=name)

    return extract


def test_html_gives_what_a_browser_would_show(text_of):
    assert text_of("a.html", HTML) == "Cats\n\nThey sit on&on.\n\none\n\ntwo"


def test_html_is_read_in_its_declared_charset(text_of):
    page = '<meta charset="iso-8859-1"><p>café</p>'.encode("latin-1")
    assert text_of("a.htm", page) == "café"


def test_pdf_gives_its_text(text_of):
    assert text_of("a.PDF", pdf("Hello from a page")).strip() == "Hello from a page"


def test_docx_gives_its_paragraphs(text_of):
    assert text_of("a.docx", docx("First", "Second")).strip() == "First\n\nSecond"


def test_pdf_without_text_says_so(text_of):
    with pytest.raises(InvalidRequest, match="no text"):
        text_of("a.pdf", pdf(""))


@pytest.mark.parametrize("name", ["a.pdf", "a.docx"])
def test_file_that_is_not_what_its_name_says_is_refused(text_of, name):
    with pytest.raises(InvalidRequest, match="is not a"):
        text_of(name, b"Just some words, whatever the ending claims.")


def test_archive_that_unpacks_to_too_much_is_refused(text_of):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(10):
            archive.writestr(f"word/{number}.xml", bytes(60 * 2**20), compresslevel=1)
    with pytest.raises(InvalidRequest, match="too much"):
        text_of("a.docx", out.getvalue())


def test_text_beyond_the_limit_is_refused(text_of, settings, media_conf):
    media_conf(max_bytes=1000)
    with pytest.raises(InvalidRequest, match="1000 bytes"):
        text_of("a.html", b"<p>" + b"x" * 2000)
