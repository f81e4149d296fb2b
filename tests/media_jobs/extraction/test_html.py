"""Pages to the text that a browser shows."""

import pytest

from media_jobs.extraction.html import read_html


def text(html):
    """Return a page's text."""
    return read_html(html.encode(), "").text


@pytest.mark.parametrize(
    ("html", "shown"),
    [
        ("<details><summary>Price</summary>Ten</details>", "Price\nTen"),
        ("<fieldset><legend>Name</legend>Text</fieldset>", "Name\nText"),
        ("<textarea>b</textarea><button>c</button>", "b c"),
        ("<hgroup>a</hgroup><dialog>b</dialog><search>c</search>", "a\nb\nc"),
        ("<center>a</center><menu>b</menu>c", "a\n\nb\n\nc"),
        ("<select><optgroup label=G><option>a<option>b</select>c", "G\na\nb\nc"),
        ("<div>a</div><div>b</div>", "a\nb"),
        ("<ul><li>a<ul><li>b</ul><li>c</ul>d", "a\nb\nc\n\nd"),
        ("<dl><dt>a<dd>b</dl>", "a\nb"),
        ("<span>a</span><x-tag>b</x-tag><a>c</a>", "abc"),
        ("a<br>b<br><br>c", "a\nb\n\nc"),
        ("a<wbr>b", "ab"),
        ("a<br><div>b</div>", "a\nb"),
        ("<pre>a</pre><p>b\nc", "a\n\nb c"),
    ],
)
def test_elements_break_lines_as_in_a_browser(html, shown):
    assert text(html) == shown


def test_table_is_lines_of_cells():
    html = "<table><tr><th>a<th>b<tr><td><p>1</p><td>2<p>3<tr><td><td>4</table>end"
    assert text(html) == "a\tb\n1\t2\n\n3\n\t4\n\nend"


def test_lines_of_the_source_are_no_lines_of_the_text():
    assert text("<p>The quick\n   brown\tfox <b> is</b> here") == (
        "The quick brown fox is here"
    )


def test_chinese_wrapped_in_the_source_gets_no_space():
    assert text("<p>漢字\n文書") == "漢字文書"
    assert text("<p>한국\n어") == "한국 어"


@pytest.mark.parametrize(
    "html",
    [
        "<pre>\ndef f():\n    pass\n</pre>",
        "<textarea>def f():\n    pass</textarea>",
        "<div style='white-space: pre-wrap'>def f():\n    pass</div>",
    ],
)
def test_preformatted_text_keeps_its_lines_and_indentation(html):
    assert text(html) == "def f():\n    pass"


@pytest.mark.parametrize(
    "html",
    [
        "<p hidden>no</p>",
        "<p style='color: red; DISPLAY: none'>no <b>more</b></p>",
        "<p style='visibility:hidden'>no</p>",
        "<script>no()</script><style>no</style><template>no</template>",
        "<noscript><p>no</p></noscript><!-- no -->",
        "<iframe>no</iframe><math><annotation>no</annotation></math>",
    ],
)
def test_what_is_hidden_is_left_out(html):
    assert text(f"{html}<p>yes") == "yes"


def test_what_a_browser_finds_or_shows_later_is_kept():
    assert text("<p hidden=until-found>a</p>") == "a"
    assert text("<body style='visibility:hidden'>a") == "a"


def test_title_stands_first_and_alone_is_a_text():
    assert text("<title>On\n cats</title>") == "On cats"
    assert text("<title>On cats</title><p>They sit.") == "On cats\n\nThey sit."
    assert text("<title>On cats</title><h1>On cats</h1>x") == "On cats\n\nx"


@pytest.mark.parametrize(
    ("html", "shown"),
    [
        ("a<img alt='a cat'>b<img alt=''>c", "a a cat bc"),
        ("<input type=submit value=Send><input type=text value=typed>", "Send"),
        ("<object data=x.svg>a chart</object>", "a chart"),
        ("<svg><text>a</text></svg>", "a"),
    ],
)
def test_texts_for_images_and_on_buttons_count(html, shown):
    assert text(html) == shown


def test_soft_hyphens_and_fixed_spaces_are_plain():
    assert text("super&shy;cali 1&nbsp;kg <ruby>漢<rp>(</rp><rt>k</rt><rp>)") == (
        "supercali 1 kg 漢(k)"
    )


def test_depth_of_a_page_has_no_bound():
    assert text("<div><b>" * 5000 + "x") == "x"
