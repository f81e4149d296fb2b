"""What the documentation names is there: settings, commands, paths of the API, files and links.

What its blocks show is run in tests/e2e/test_docs.py. A block that cannot be says so in a comment before it:
`<!-- not run: WHY -->`, or `<!-- tested in FILE -->`.
"""

import base64
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.core.management import get_commands, load_command_class
from django.urls import Resolver404, resolve

from embeddings.headers import DESCRIBED
from embeddings_project import settings
from media_jobs.models import Job
from media_jobs.services.webhooks import headers_of
from tests.pages import FENCED, PAGES, ROOT, blocks, code, prose, read

RUN = ("sh", "python")
PICTURES = ("", "mermaid", "text")
# A plug-in's key, the example of a name, and what other software reads.
OTHER_NAMES = (
    r"UPSTREAM_\w+_API_KEY|NAME_FILE|HTTP_PROXY|SSL_CERT_FILE|XDG_DATA_HOME"
    r"|RAY_\w+|SLURM_\w+"
)
MADE_LATER = {"htmlcov/"}
POSTGRESQL = {"maintenance_work_mem", "max_connections"}
A_NAME = re.compile(r"[a-z]+(_[a-z]+)+|[Xx]-[\w-]+\w|(\w+\.)?[EW]\d{3}")
A_PATH = re.compile(r"[\w.*-]+(/[\w.*-]+)*(/|\.(py|toml|md|txt|yml))|\.ci/\w+")


def in_code(page: str) -> list[str]:
    """Return the code in a page's sentences, and the lines of its blocks that are this server's."""
    shown = [
        line
        for block in blocks()
        if block.page == page
        and block.language == "sh"
        and not block.mark.endswith("settings")
        for line in block.text.splitlines()
    ]
    return code(prose(page)) + shown


@pytest.mark.parametrize("page", PAGES)
def test_every_fence_belongs_to_a_block(page):
    fences = re.findall(r"^\s*(?:```|~~~)", read(page), re.MULTILINE)
    assert len(fences) == 2 * sum(block.page == page for block in blocks())


@pytest.mark.parametrize("block", [*blocks()], ids=lambda block: block.place)
def test_block_is_run_or_says_why_not(block):
    if block.mark.startswith("tested in "):
        file = block.mark.removeprefix("tested in ")
        assert Path(block.page).name in read(file), f"{file} does not read {block.page}"
    elif not block.mark.startswith("not run: "):
        assert block.language in (*RUN, *PICTURES) or (
            block.language == "json"
            and ("curl" in block.asked_by or block.mark.startswith("answer"))
        ), f"{block.place} is neither run nor marked"


@pytest.mark.parametrize("page", [*PAGES, ".env.example"])
def test_settings_in_the_docs_exist(page):
    text = " ".join(in_code(page)) if page.endswith(".md") else read(page)
    named = set(re.findall(r"\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b", text))
    others = {name for name in named if re.fullmatch(OTHER_NAMES, name)}
    files = {f"{name}_FILE" for name in settings.env.known}
    assert named - others <= settings.env.known | files


def test_every_setting_is_in_the_list_of_settings():
    named = set(re.findall(r"\w+", " ".join(code(prose("docs/configuration.md")))))
    read_from_files = {name for name in settings.env.known if name.endswith("_FILE")}
    assert settings.env.known - read_from_files <= named


@pytest.mark.parametrize("page", PAGES)
def test_commands_in_the_docs_exist(page):
    commands = get_commands()
    for line in in_code(page):
        for name, rest in re.findall(
            r"(?:manage\.py|embeddings-server) ([a-z_]+)(.*)", line
        ):
            assert name in commands, line
            command = load_command_class(commands[name], name)
            options = command.create_parser("", name)._option_string_actions
            assert {*re.findall(r"(?<!\S)--?[a-z][\w-]*", rest)} <= {*options}, line


@pytest.mark.parametrize("page", PAGES)
def test_targets_and_scripts_in_the_docs_exist(page):
    targets = re.findall(r"^([\w-]+):", read("Makefile"), re.MULTILINE)
    for line in in_code(page):
        if found := re.match(r"make ([\w-]+)", line):
            assert found[1] in targets, line
        if found := re.search(r"python -m (benchmarks|tests)([.\w]*)", line):
            module = ROOT / (found[1] + found[2].replace(".", "/"))
            assert module.is_dir() or module.with_suffix(".py").is_file(), line
        if found := re.search(r"python ((?:benchmarks|tests)/\S+)", line):
            assert (ROOT / found[1]).is_file(), line


@pytest.mark.parametrize("page", PAGES)
def test_paths_of_the_api_in_the_docs_are_served(page):
    for method, path in re.findall(
        r"^(GET|POST|PUT|PATCH|DELETE) (/[^\s?]*)", "\n".join(in_code(page)), re.M
    ):
        assert serves(method, re.sub(r"\{\w+\}", "1", path)), f"{method} {path}"


def serves(method: str, path: str) -> bool:
    for whole in (path, f"/api/v1{path}"):
        try:
            view = resolve(whole).func
        except Resolver404:
            continue
        cls = getattr(view, "cls", None) or getattr(view, "view_class", None)
        return hasattr(cls, method.lower())
    return False


@pytest.mark.parametrize("page", PAGES)
def test_files_in_the_docs_exist(page):
    """A file is named from the root, or from a folder that was named before it in its row or paragraph."""
    first = {path.name for path in ROOT.iterdir() if path.is_dir()} - {"docs"}
    for part in rows_and_paragraphs(page):
        bases = [ROOT]
        for name in code(part):
            if not A_PATH.fullmatch(name) or name in MADE_LATER:
                continue
            hits = [hit for base in bases for hit in base.glob(name.rstrip("/"))]
            everything = page in ("CONTRIBUTING.md", "docs/architecture.md")
            if everything or (name.split("/")[0] in first and "/" in name):
                assert hits, name
            bases += [folder for hit in hits for folder in (hit, *hit.parents)]


def rows_and_paragraphs(page: str) -> Iterator[str]:
    for part in re.split(r"\n\n+", prose(page)):
        yield from part.splitlines() if part.startswith("|") else [part]


@pytest.mark.parametrize("page", [*PAGES, "CHANGELOG.md"])
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"https?://|mailto:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.read_text(encoding="utf-8")), link


def anchors(text: str) -> set[str]:
    """Return the ids that GitHub gives the headings of a page in which no two are the same."""
    headings = re.findall(r"^#+ (.+)$", FENCED.sub("", text), re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in headings
    }


def test_the_check_of_a_webhook_in_the_docs_tells_genuine_from_forged():
    (example,) = (
        block.text
        for block in blocks()
        if block.page == "docs/media.md" and block.language == "python"
    )
    names: dict[str, object] = {}
    exec(example, names)
    is_genuine = names["is_genuine"]
    assert callable(is_genuine)
    secret = "whsec_" + base64.b64encode(b"k" * 32).decode()
    body, job = b'{"event": "media.job.completed"}', Job(public_id="mej_1")
    headers = headers_of(job, body, timestamp=1_700_000_000, secret=secret)
    assert is_genuine(headers, body, secret)
    assert not is_genuine(headers, body + b" ", secret)


@pytest.mark.parametrize("page", [page for page in PAGES if page != "CONTRIBUTING.md"])
def test_names_in_the_docs_occur_in_the_code(page, product):
    """Fields, log events, metrics, headers, ids of checks."""
    for name in code(prose(page)):
        if A_NAME.fullmatch(name) and name not in POSTGRESQL:
            # Prometheus' client adds the ending to counters.
            word = name.lower().replace("-", "_").removesuffix("_total")
            assert word in product, name


@pytest.fixture(scope="module")
def product() -> str:
    """All code of the product, in small letters and with underscores for hyphens."""
    files = [
        path
        for folder in ("embeddings_project", "embeddings", "media_jobs", "providers")
        for path in (ROOT / folder).rglob("*.py")
    ]
    texts = [path.read_text(encoding="utf-8") for path in files]
    commands = [path.stem for path in files if path.parent.name == "commands"]
    return "\n".join((*texts, *commands, *DESCRIBED)).lower().replace("-", "_")
