"""The project's Markdown pages: their code blocks, the code in their sentences, their links."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    str(path.relative_to(ROOT))
    for path in (
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
        *(ROOT / "docs").glob("*.md"),
    )
)
FENCED = re.compile(
    r"(?:^<!-- *(?P<mark>(?:(?!-->).)*?) *-->\n+)?"
    r"^```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A fenced block. `mark` is the comment before it, which no reader of the page sees."""

    page: str
    line: int
    language: str
    text: str
    mark: str
    asked_by: str  # the block that it follows without a word between, or ""

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def settings(self) -> dict[str, str]:
        """Return the variables of a block that is nothing but `NAME=value` lines; else nothing."""
        lines = [line.partition(" #")[0].strip() for line in self.text.splitlines()]
        if not all(re.fullmatch(r"[A-Z_]+=\S+", line) for line in lines):
            return {}
        return dict(line.split("=", 1) for line in lines)


def blocks() -> Iterator[Block]:
    """Return the fenced blocks of all pages."""
    for page in PAGES:
        text = read(page)
        end, before = 0, ""
        for found in FENCED.finditer(text):
            follows = not text[end : found.start()].strip()
            yield Block(
                page=page,
                line=text.count("\n", 0, found.start("language")) + 1,
                language=found["language"],
                text=found["text"],
                mark=found["mark"] or "",
                asked_by=before if follows else "",
            )
            end, before = found.end(), found["text"]


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def prose(page: str) -> str:
    """Return a page without its fenced blocks."""
    return FENCED.sub("", read(page))


def code(text: str) -> list[str]:
    """Return what is in backticks, in order."""
    return re.findall(r"`([^`\n]+)`", text)
