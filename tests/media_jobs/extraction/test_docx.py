"""docx files to text."""

import io
import zipfile

import pytest

from media_jobs.extraction.docx import read_docx
from media_jobs.extraction.file_formats import Unreadable
from tests.media_jobs.extraction.files import docx, paragraph, part


def read(body, **parts):
    """Return what is read of a docx with this body."""
    return read_docx(io.BytesIO(docx(body, **parts)))


def run(xml):
    return f"<w:r>{xml}</w:r>"


@pytest.mark.parametrize(
    ("xml", "text"),
    [
        ("<w:br/>", "a\nb"),
        ('<w:br w:type="page"/>', "a\nb"),
        ("<w:cr/>", "a\nb"),
        ("<w:tab/>", "a\tb"),
        ("<w:noBreakHyphen/>", "a-b"),
        ("<w:softHyphen/>", "ab"),
        ('<w:sym w:font="Wingdings" w:char="F0FC"/>', "a✓b"),
        ('<w:sym w:font="Symbol" w:char="F061"/>', "a\u03b1b"),
        ('<w:sym w:font="Arial" w:char="2192"/>', "a→b"),
        ("<w:rPr><w:vanish/></w:rPr><w:t>no</w:t>", "ab"),
        ("<w:delText>no</w:delText>", "ab"),
    ],
)
def test_text_of_a_run_is_read(xml, text):
    assert read(paragraph("a", run(xml), "b")).text == text


@pytest.mark.parametrize(
    "xml",
    [
        '<w:hyperlink r:id="gone"><w:r><w:t>text</w:t></w:r></w:hyperlink>',
        run('<w:t>text</w:t><w:pict><v:imagedata r:id="gone"/></w:pict>'),
        run('<w:t>text</w:t><w:sym w:char="ZZ"/><w:sym/><w:footnoteReference/>'),
    ],
)
def test_what_dangles_costs_nothing(xml):
    assert read(paragraph(xml)).text == "text"


def test_bad_attribute_of_a_table_costs_nothing():
    cell = '<w:tc><w:tcPr><w:gridSpan w:val=""/></w:tcPr>{}</w:tc>'
    row = f"<w:tr>{cell.format(paragraph('a') + paragraph('b'))}{cell.format(paragraph('c'))}</w:tr>"
    table = f"<w:tbl>{row}{row}</w:tbl>"
    assert read(table + paragraph("end")).text == "a\nb\tc\na\nb\tc\n\nend"


def test_places_of_tabs_are_no_tabs():
    tabs = '<w:pPr><w:tabs><w:tab w:val="left"/></w:tabs></w:pPr>'
    assert read(paragraph(tabs, "a")).text == "a"


def test_box_stands_once_behind_its_paragraph():
    box = f"<w:txbxContent>{paragraph('box')}</w:txbxContent>"
    both = f"<mc:AlternateContent><mc:Choice>{box}</mc:Choice><mc:Fallback>{box}</mc:Fallback></mc:AlternateContent>"
    assert (
        read(paragraph("a", run(both), "b") + paragraph("c")).text == "ab\n\nbox\n\nc"
    )


def test_fallback_is_read_where_the_choice_has_no_text():
    fallback = "<mc:Fallback><w:t>b</w:t></mc:Fallback>"
    xml = f"<mc:AlternateContent><mc:Choice><w:x/></mc:Choice>{fallback}</mc:AlternateContent>"
    assert read(paragraph("a", run(xml))).text == "ab"


def test_equations_are_written_in_a_line():
    letter = "<m:r><m:t>{}</m:t></m:r>".format
    power = f"<m:sSup><m:e>{letter('mc')}</m:e><m:sup>{letter('2')}</m:sup></m:sSup>"
    half = f"<m:f><m:num>{letter('1')}</m:num><m:den>{letter('2')}</m:den></m:f>"
    assert read(paragraph("E = ", power, " + ", half)).text == "E = mc^2 + 1/2"


@pytest.mark.parametrize(("state", "sign"), [("", "☒"), ('w:val="0"', "☐")])
def test_boxes_to_check_are_read(state, sign):
    box = f'<w:checkBox><w:default w:val="0"/><w:checked {state}/></w:checkBox>'
    box = f"<w:fldChar><w:ffData>{box}</w:ffData></w:fldChar>"
    assert read(paragraph(run(box), " yes")).text == f"{sign} yes"


def test_texts_for_images_count():
    image = run(
        '<w:drawing><wp:inline><wp:docPr descr="A cat"/></wp:inline></w:drawing>'
    )
    shape = run('<w:pict><v:shape alt="A dog"/></w:pict>')
    assert read(paragraph("a", image, "b", shape)).text == "a A cat b A dog"


def test_ruby_stands_behind_its_base():
    ruby = f"<w:ruby><w:rt>{run('<w:t>kan</w:t>')}</w:rt><w:rubyBase>{run('<w:t>漢</w:t>')}</w:rubyBase></w:ruby>"
    assert read(paragraph(run(ruby))).text == "漢(kan)"


def test_deleted_mark_joins_paragraphs():
    deleted = "<w:pPr><w:rPr><w:del/></w:rPr></w:pPr>"
    assert read(paragraph(deleted, "to") + paragraph("gether")).text == "together"


def test_notes_headers_and_footers_stand_behind_the_text():
    separator = '<w:footnote w:type="separator">' + paragraph("no") + "</w:footnote>"
    note = f"<w:footnote>{paragraph('A note.')}</w:footnote>"
    found = read(
        paragraph("Text."),
        header=part(paragraph("Title"), "hdr"),
        footer=part(paragraph("7"), "ftr"),
        endnotes=part(f"<w:endnote>{paragraph('Another.')}</w:endnote>", "endnotes"),
        footnotes=part(separator + note, "footnotes"),
    )
    assert found.text == "Text.\n\nA note.\n\nAnother.\n\nTitle"
    assert found.warnings == ()


def test_damaged_part_costs_that_part_and_is_said():
    found = read(paragraph("Text."), footnotes="<w:x")
    assert found.text == "Text."
    assert found.warnings == ("Left out, since it is damaged: the footnotes.",)


def test_damage_in_the_main_text_costs_what_is_behind_it():
    found = read(paragraph("Text.") + "<w:p></w:x>" + paragraph("Lost."))
    assert found.text == "Text."
    assert "behind the damage" in found.warnings[0]


def test_what_is_left_out_is_said():
    comment = run('<w:commentReference w:id="0"/>')
    found = read(paragraph("Text.", comment) + '<w:altChunk r:id="r1"/>')
    assert "comments" in found.warnings[0]
    assert "altChunk" in found.warnings[1]


def test_names_of_parts_are_found_however_they_are_written():
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("Word\\Document.xml", part(paragraph("Text.")))
    assert read_docx(out).text == "Text."


def test_entities_are_refused():
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        xml = '<!DOCTYPE x [<!ENTITY a "aaaa">]>' + part(paragraph("&a;"))
        archive.writestr("word/document.xml", xml)
    with pytest.raises(Unreadable, match="document type"):
        read_docx(out)


@pytest.mark.parametrize(
    ("rest", "says"),
    [(b"", "old Word"), ("EncryptedPackage".encode("utf-16-le"), "password")],
)
def test_other_files_of_word_are_named(rest, says):
    with pytest.raises(Unreadable, match=says):
        read_docx(io.BytesIO(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + rest))
