"""A prepared model as one file: whole, checked, and taken in elsewhere or not at all."""

import json
import shutil
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from providers.engine import archives, verification
from providers.engine.archives import ARCHIVE_NAME, export_model, import_model
from providers.engine.files import MANIFEST_NAME
from providers.engine.graph import GRAPH_FILE
from providers.engine.verification import open_proved
from providers.engine.weights import Weights
from providers.exceptions import (
    ActionCancelled,
    ProviderMisconfigured,
    VectorsDiffer,
)
from providers.progress import Progress, progress_of

TEXTS = ["a", "b c d", "e f g h i j k l m n o p"]
WITHOUT_TORCH = """
import sys
sys.modules["torch"] = sys.modules["sentence_transformers"] = None
sys.modules["transformers"] = sys.modules["onnxscript"] = None
from pathlib import Path
import numpy as np
from providers.engine.archives import import_model
from providers.engine.verification import open_proved
from providers.engine.weights import Weights

archive, data, answer = map(Path, sys.argv[1:])
prepared = import_model(Weights(data), archive).prepared
assert Weights(data).prepare(prepared.name).path == prepared.path
for precision in prepared.precisions:
    opened = open_proved(prepared, precision, threads=1)
    vectors = opened.vectors([("", text) for text in TEXTS])
    np.save(answer / f"{precision}.npy", vectors)
""".replace("TEXTS", repr(TEXTS))


def vectors(prepared, precision="exact"):
    opened = open_proved(prepared, precision, threads=1)
    return opened.vectors([("", text) for text in TEXTS])


def served_without_torch(archive, folder):
    """Return the vectors by class, of a process that cannot import torch and takes in the archive."""
    command = [sys.executable, "-c", WITHOUT_TORCH, archive, folder / "data", folder]
    subprocess.run(
        list(map(str, command)),
        cwd=Path(__file__).parents[3],
        check=True,
        timeout=240,
    )
    return {path.stem: np.load(path) for path in folder.glob("*.npy")}


@pytest.fixture
def written(tmp_path, tiny_weights):
    """A model and the file that it was written to."""
    tiny_weights.prepare("org/tiny")
    target = tmp_path / "tiny.zip"
    return tiny_weights, export_model(tiny_weights, "org/tiny", target), target


@pytest.fixture
def elsewhere(tmp_path):
    """Another machine's models."""
    return Weights(tmp_path / "elsewhere")


def changed(target, change, *, compression=zipfile.ZIP_STORED):
    """Write an archive again; `change(entries)` alters its (name or ZipInfo, content) pairs."""
    with zipfile.ZipFile(target) as archive:
        entries = [(name, archive.read(name)) for name in archive.namelist()]
    with zipfile.ZipFile(target, "w", compression) as archive:
        for name, content in change(entries):
            archive.writestr(name, content)


def described(entries, **changes):
    content = dict(entries)
    said = json.loads(content[ARCHIVE_NAME]) | changes
    return [*(content | {ARCHIVE_NAME: json.dumps(said).encode()}).items()]


def remade(entries, change):
    """Change the manifest and what is said of it, as whoever forges an archive does."""
    content = dict(entries)
    manifest = json.loads(content[MANIFEST_NAME])
    change(manifest)
    content[MANIFEST_NAME] = json.dumps(manifest).encode()
    said = {"manifest_sha256": archives._sha256(content[MANIFEST_NAME])}
    return described(content.items(), model=manifest["model"], **said)


def without_graph(manifest):
    del manifest["files"][GRAPH_FILE]


def link(entries):
    name = zipfile.ZipInfo("tokenizer.json")
    name.external_attr = (stat.S_IFLNK | 0o777) << 16
    return [(name if each == "tokenizer.json" else each, c) for each, c in entries]


def compressed(entries):
    name = zipfile.ZipInfo("tokenizer.json")
    name.compress_type = zipfile.ZIP_DEFLATED
    return [(name if each == "tokenizer.json" else each, c) for each, c in entries]


def flipped(name):
    def change(entries):
        content = dict(entries)
        altered = bytearray(content[name])
        altered[len(altered) // 2] ^= 1
        return (content | {name: bytes(altered)}).items()

    return change


REFUSED = {
    "an altered file": (flipped("tokenizer.json"), "tokenizer.json in it is damaged"),
    "an altered manifest": (flipped(MANIFEST_NAME), "its manifest is damaged"),
    "another source": (
        lambda e: [(n, c.replace(b'"source": "', b'"source": "x')) for n, c in e],
        "its manifest is damaged",
    ),
    "one compressed file": (compressed, "tokenizer.json in it is no plain file"),
    "a file more": (lambda e: [*e, ("run.py", b"")], "'run.py' in it is none"),
    "a way out": (lambda e: [*e, ("../../evil", b"")], "evil' in it is none"),
    "a file from the root": (lambda e: [*e, ("/evil", b"")], "evil' in it is none"),
    "a file less": (
        lambda e: [each for each in e if each[0] != GRAPH_FILE],
        f"{GRAPH_FILE} is not in it",
    ),
    "a longer file": (
        lambda e: [(n, c + b" " * (n == "config.json")) for n, c in e],
        "config.json in it has another size",
    ),
    "a link": (link, "tokenizer.json in it is no plain file"),
    "another format": (lambda e: described(e, format=2), "in another format"),
    "no format": (lambda e: [(n, c) for n, c in e if n != ARCHIVE_NAME], "it has no"),
    "other revisions": (
        lambda e: described(e, revisions={"exact": "x"}),
        "another version of this server",
    ),
    "another preparation": (
        lambda e: [each for each in remade(e, without_graph) if each[0] != GRAPH_FILE],
        "prepared it in another way",
    ),
    "no proof": (
        lambda e: remade(e, lambda manifest: manifest.pop("proof")),
        "prepared it in another way",
    ),
    "no name": (
        lambda e: remade(e, lambda manifest: manifest.update(model="../x")),
        "no valid name",
    ),
    "a forged way out": (
        lambda e: [
            *remade(
                e,
                lambda m: m["files"].update(
                    {"../evil": {"sha256": archives._sha256(b""), "size_bytes": 0}}
                ),
            ),
            ("../evil", b""),
        ],
        "evil' in it is none",
    ),
}


def test_a_model_taken_in_elsewhere_gives_the_same_vectors_in_each_class(
    tmp_path, written
):
    weights, archive, target = written
    prepared = weights.verified("org/tiny")
    assert prepared.precisions == ("exact", "fast")
    (tmp_path / "there").mkdir()
    found = served_without_torch(target, tmp_path / "there")
    assert found.keys() == {"exact", "fast"}
    for precision, there in found.items():
        assert np.abs(there - vectors(prepared, precision)).max() < 1e-6
    assert len(archive.fingerprint) == 64


def test_a_model_taken_in_is_the_one_that_was_written(written, elsewhere):
    weights, archive, target = written
    taken = import_model(elsewhere, target)
    assert taken.fingerprint == archive.fingerprint
    assert elsewhere.find("org/tiny").manifest == weights.find("org/tiny").manifest
    assert elsewhere.prepared_names() == ["org/tiny"]
    assert not list((elsewhere.data_dir / "staging").iterdir())


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_exactly_a_models_files_is_refused_and_changes_nothing(
    tmp_path, written, elsewhere, case
):
    change, reason = REFUSED[case]
    _, _, target = written
    import_model(elsewhere, target)
    before = elsewhere.verified("org/tiny").manifest
    changed(target, change)
    with pytest.raises(ProviderMisconfigured, match=reason):
        import_model(elsewhere, target)
    assert elsewhere.verified("org/tiny").manifest == before
    assert not list((elsewhere.data_dir / "staging").iterdir())
    assert not list(tmp_path.rglob("evil"))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_file_that_is_there_twice_is_refused(written, elsewhere):
    changed(written[2], lambda entries: [*entries, entries[-1]])
    with pytest.raises(ProviderMisconfigured, match="twice"):
        import_model(elsewhere, written[2])
    assert elsewhere.find("org/tiny") is None


def test_what_is_compressed_is_refused_since_it_could_be_any_size(written, elsewhere):
    changed(written[2], lambda entries: entries, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(ProviderMisconfigured, match="plain file"):
        import_model(elsewhere, written[2])


@pytest.mark.parametrize("share", [0, 0.5, 0.999])
def test_a_file_that_was_cut_off_is_refused(written, elsewhere, share):
    target = written[2]
    content = target.read_bytes()
    target.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ProviderMisconfigured, match="damaged, cut off"):
        import_model(elsewhere, target)
    assert elsewhere.find("org/tiny") is None


def test_a_file_that_is_not_there_is_named(tmp_path, elsewhere):
    with pytest.raises(ProviderMisconfigured, match=r"no file .*absent\.zip"):
        import_model(elsewhere, tmp_path / "absent.zip")


def test_too_little_space_is_said_before_anything_is_written(
    tmp_path, written, elsewhere, monkeypatch
):
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr("providers.engine.space.disk_usage", lambda _: usage)
    with pytest.raises(ProviderMisconfigured, match="free some space"):
        import_model(elsewhere, written[2])
    with pytest.raises(ProviderMisconfigured, match="free some space"):
        export_model(written[0], "org/tiny", tmp_path / "other.zip")
    assert not (tmp_path / "other.zip").exists()


def test_a_model_that_gives_other_vectors_here_is_not_taken_in(
    written, elsewhere, monkeypatch
):
    monkeypatch.setitem(verification.LOAD_COSINE, "exact", 1.1)
    with pytest.raises(VectorsDiffer):
        import_model(elsewhere, written[2])
    assert elsewhere.find("org/tiny") is None


def test_a_model_that_runs_on_torch_is_not_taken_in_without_it(
    written, elsewhere, monkeypatch
):
    def on_torch(manifest):
        manifest["runtime"] = "torch"

    changed(written[2], lambda entries: remade(entries, on_torch))
    monkeypatch.setattr("providers.engine.prepared.has_torch", lambda: False)
    with pytest.raises(ProviderMisconfigured, match=r"embeddings-server\[torch\]"):
        import_model(elsewhere, written[2])


def test_a_file_is_never_overwritten(written):
    weights, _, target = written
    before = target.read_bytes()
    with pytest.raises(ProviderMisconfigured, match="is there already"):
        export_model(weights, "org/tiny", target)
    assert target.read_bytes() == before


def test_a_damaged_model_is_not_written(tmp_path, written):
    weights, _, _ = written
    path = weights.find("org/tiny").path / "tokenizer.json"
    path.write_bytes(path.read_bytes().replace(b"a", b"b", 1))
    with pytest.raises(ProviderMisconfigured, match="download_model org/tiny"):
        export_model(weights, "org/tiny", tmp_path / "bad.zip")
    assert not list(tmp_path.glob("*bad.zip*"))


def test_what_is_not_prepared_is_not_written(tmp_path, elsewhere):
    with pytest.raises(ProviderMisconfigured, match="download_model org/tiny"):
        export_model(elsewhere, "org/tiny", tmp_path / "none.zip")


def test_progress_says_how_many_bytes_are_done_and_can_be_cancelled(written, elsewhere):
    seen = []

    def watch(progress):
        seen.append((progress.stage, progress.done_bytes, progress.total_bytes))
        if progress.done_bytes:
            progress.cancel()

    token = progress_of.set(Progress(watch))
    try:
        with pytest.raises(ActionCancelled):
            import_model(elsewhere, written[2])
    finally:
        progress_of.reset(token)
    size = written[0].find("org/tiny").manifest.size_bytes
    assert ("reading the file", 0, size) in seen
    assert elsewhere.find("org/tiny") is None
    assert not list((elsewhere.data_dir / "staging").iterdir())
