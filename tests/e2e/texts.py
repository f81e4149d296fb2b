"""Real texts that every machine with Python holds: documentation and the licence; and some in many scripts."""

import builtins
import functools
import importlib
import pkgutil
import pydoc
import re

SCRIPTS = (
    "Ελληνικά κείμενα με τόνους",
    "русский текст, и ещё немного",
    "نص عربي قصير",
    "טקסט עברי",
    "हिन्दी का पाठ",
    "ภาษาไทยไม่มีช่องว่าง",
    "中文字符没有空格",
    "日本語のテキスト、句読点。",
    "한국어 문장입니다",
    "Größe, naïve café, İstanbul, ﬁne ½ Ⅻ",
    "👩‍👩‍👧‍👦 🎉 🏳️‍🌈 emoji",
    "no\u00a0break\u2003em\u200bzero\ufeffbom",
    "tab\tand\nnewline\r\nand  double",
    "[CLS] [SEP] [MASK] <|endoftext|>",
    "SELECT * FROM t WHERE a = 'b';",
    "https://example.com/a?b=c&d=%20#e",
    "x" * 5000,
    "#" * 300,
    ".",
    "7",
)
PACKAGES = ("asyncio", "email", "logging", "unittest")


@functools.cache
def paragraphs() -> tuple[str, ...]:
    """Return paragraphs of the standard library's documentation and of the licence, each once, in a fixed order."""
    found = dict.fromkeys(str(builtins.license).split("\n\n"))
    for module in _modules():
        for name in ("__doc__", *sorted(dir(module))):
            text = pydoc.getdoc(getattr(module, name, None)) or ""
            found |= dict.fromkeys(text.split("\n\n"))
    return tuple(text.strip() for text in found if len(text.strip()) > 3)


def varied_texts(count: int) -> list[str]:
    """Return texts in many scripts and of all lengths, some beyond the model's limit."""
    prose = paragraphs()
    step = len(prose) // count
    long = [" ".join(prose[start : start + 40]) for start in range(0, 160, 40)]
    texts = [*SCRIPTS, *long, *prose[::step]]
    assert len(texts) >= count
    return texts[:count]


def natural_texts(count: int) -> list[str]:
    """Return different texts of about 77 tokens each."""
    words = re.findall(r"[A-Za-z]{2,12}", " ".join(paragraphs()))
    assert len(words) >= 4000
    return [
        " ".join(words[(start * 37 + place) % len(words)] for place in range(62))
        for start in range(count)
    ]


def _modules():
    for package in PACKAGES:
        root = importlib.import_module(package)
        yield root
        for found in pkgutil.iter_modules(root.__path__, f"{package}."):
            if not found.name.endswith("__main__") and "windows" not in found.name:
                yield importlib.import_module(found.name)
