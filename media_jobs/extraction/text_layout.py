"""Text as it is laid out: words to lines, lines to blocks, white space folded as a browser folds it. Plain Python."""

import re
import unicodedata

FOLDED = re.compile(r"[ \t\n\f\r]+")
NEWLINE = re.compile(r"\r\n?")
# No line is broken at a soft hyphen here, and one that is not is not seen.
UNSEEN = {0xAD: None, 0xA0: " "}


class Layout:
    """Collects a text. `text` and `space` fold; `verbatim` and `line` stand; `block` keeps apart."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._last = ""  # the last character
        self._breaks = 0  # line ends that must stand before the next word
        self._space = False  # a space stands before the next word of the same line
        self._tabs = 0  # tabs do, instead: one for each cell that ended
        self._in_cell = False  # at a cell's begin: nothing is kept apart there

    def text(self, words: str) -> None:
        """Add words; any run of white space is one space, and none at a line's begin."""
        start = 0
        for gap in FOLDED.finditer(words):
            self._word(words[start : gap.start()])
            self._gap(gap[0], words[gap.end() : gap.end() + 1])
            start = gap.end()
        self._word(words[start:])

    def verbatim(self, text: str) -> None:
        """Add text whose lines and spaces stand as they are."""
        self._word(NEWLINE.sub("\n", text))

    def space(self) -> None:
        """Part what follows from what went before, within a line."""
        self._space = True

    def tab(self) -> None:
        """Part what follows by a tab."""
        self._tabs += 1

    def cell(self) -> None:
        """Begin a cell of a row."""
        self._in_cell = True

    def cell_end(self) -> None:
        """End a cell, also an empty one."""
        if not self._in_cell:
            self._breaks = 0
        self.tab()

    def row(self) -> None:
        """Begin or end a row of cells."""
        self._tabs, self._in_cell = 0, False
        self.block(1)

    def line(self) -> None:
        """End the line, also an empty one."""
        self._settle()
        self._append("\n")

    def block(self, breaks: int) -> None:
        """Let what follows begin on a new line (1), or after an empty one (2)."""
        if not self._in_cell:
            self._breaks = max(self._breaks, breaks)

    def result(self) -> str:
        """Return the text: no white space at line ends, no two empty lines, none at the begin or the end."""
        text = "".join(self._parts).translate(UNSEEN)
        text = "\n".join(line.rstrip(" \t") for line in text.split("\n"))
        return re.sub(r"\n{3,}", "\n\n", text).strip("\n").rstrip()

    def _word(self, word: str) -> None:
        if word:
            self._settle()
            self._append(word)

    def _gap(self, gap: str, after: str) -> None:
        if "\n" in gap and after and _is_wide(self._last) and _is_wide(after):
            return  # a line wrapped in the source: what is written without spaces gets none
        self.space()

    def _settle(self) -> None:
        """Write what must stand before the next word."""
        if self._breaks and self._parts:
            standing = 2 if self._ends_with("\n\n") else self._last == "\n"
            self._append("\n" * (self._breaks - standing))
        if self._tabs:
            self._append("\t" * self._tabs)
        elif self._space and self._last not in ("", "\n"):
            self._append(" ")
        self._breaks = self._tabs = 0
        self._space = self._in_cell = False

    def _ends_with(self, end: str) -> bool:
        return "".join(self._parts[-2:]).endswith(end)

    def _append(self, text: str) -> None:
        if text:
            self._parts.append(text)
            self._last = text[-1]


def _is_wide(character: str) -> bool:
    """Whether a character is of a script that writes no spaces, or of its punctuation; Hangul does write them."""
    if not character or character < "\u2e80" or "\uac00" <= character <= "\ud7af":
        return False
    return unicodedata.east_asian_width(character) in "WF"
