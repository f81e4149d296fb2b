"""Files of every format, made for tests."""

import io
import zipfile

from pypdf import PdfWriter
from pypdf.generic import (
    DecodedStreamObject,
    DictionaryObject,
    NameObject,
    StreamObject,
)

WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006"
PACKAGE = "http://schemas.openxmlformats.org/package/2006"
NAMESPACES = (
    f'xmlns:w="{WORD}" xmlns:r="{OFFICE}/relationships" xmlns:m="{OFFICE}/math" '
    'xmlns:v="urn:schemas-microsoft-com:vml" '
    'xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006" '
    'xmlns:wp="http://schemas.openxmlformats.org/drawingml/2006/wordprocessingDrawing"'
)


def pdf(*pages):
    """Return a PDF of these pages: each a text, or the content stream itself, as bytes or as a PDF object."""
    writer = PdfWriter()
    for content in pages:
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
        if isinstance(content, str):
            content = f"BT /F1 12 Tf 50 200 Td ({content}) Tj ET".encode()
        if isinstance(content, bytes):
            stream = DecodedStreamObject()
            stream.set_data(content)
            content = stream
        page[NameObject("/Contents")] = writer._add_object(content)
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def encoded(data, encoding):
    """Return a content stream that is not what its filter says."""
    stream = StreamObject()
    stream._data = data
    stream[NameObject("/Filter")] = NameObject(encoding)
    return stream


def paragraph(*runs):
    """Return the XML of a paragraph: of texts, and of XML as it is."""
    return (
        "<w:p>"
        + "".join(
            run if run.startswith("<") else f"<w:r><w:t>{run}</w:t></w:r>"
            for run in runs
        )
        + "</w:p>"
    )


def part(xml, root="document"):
    """Return the XML of one part."""
    return f"<w:{root} {NAMESPACES}>{xml}</w:{root}>"


def docx(body, **parts):
    """Return a docx with this body; each other part is given by its relationship's type."""
    related = "".join(
        f'<Relationship Id="r{kind}" Type="{OFFICE}/relationships/{kind}" Target="{kind}.xml"/>'
        for kind in parts
    )
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(
            "_rels/.rels",
            f'<Relationships xmlns="{PACKAGE}/relationships"><Relationship Id="r1" '
            f'Type="{OFFICE}/relationships/officeDocument" Target="word/document.xml"/></Relationships>',
        )
        archive.writestr(
            "word/_rels/document.xml.rels",
            f'<Relationships xmlns="{PACKAGE}/relationships">{related}</Relationships>',
        )
        archive.writestr("word/document.xml", part(f"<w:body>{body}</w:body>"))
        for kind, xml in parts.items():
            archive.writestr(f"word/{kind}.xml", xml)
    return out.getvalue()
