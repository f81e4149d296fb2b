"""Where models run: what EMBEDDINGS_DEVICE names, and what is done on a CUDA device.

There is none here, so ONNX Runtime is asked for one as it would be, and given the processor in its place.
"""

from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import onnxruntime  # type: ignore[import-untyped]
import pytest

from providers.engine import archives, batcher, devices, pool, torch_runtime
from providers.engine.devices import CPU, Device
from providers.engine.graph import session
from providers.engine.pool import Pool, PoolLimits
from providers.engine.runtime import Row
from providers.engine.weights import Weights
from providers.exceptions import ProviderMisconfigured
from tests.providers.engine import tiny

CUDA = Device("cuda", 1)
TEXTS = ["a b c", "d", "e f g h i j k l m n"]


class OnDevice:
    """A session that computes on the processor and says that it does not. `asked`: what each was opened with."""

    asked: ClassVar[list] = []
    used: list[str] | None = None

    def __init__(self, path, options, *, providers, **rest):
        self.asked.append(providers)
        self._session = onnxruntime.InferenceSession(
            path, options, providers=providers[-1:], **rest
        )
        self._providers = [
            name if isinstance(name, str) else name[0] for name in providers
        ]

    def get_providers(self):
        return self.used or self._providers

    def __getattr__(self, name):
        return getattr(self._session, name)


@pytest.fixture
def on_device(monkeypatch):
    monkeypatch.setattr(OnDevice, "asked", [])
    library = SimpleNamespace(
        **{
            **vars(onnxruntime),
            "InferenceSession": OnDevice,
            "preload_dlls": lambda: None,
            "get_available_providers": lambda: [session.CUDA],
        }
    )
    monkeypatch.setattr(session, "onnxruntime", library)
    monkeypatch.setattr(devices, "memory_bytes", lambda device: 8 << 30)
    # Arenas of a device are not there to be shrunk.
    monkeypatch.setattr(
        "providers.engine.onnx_runtime.OnnxRuntime._shrinking",
        lambda self: onnxruntime.RunOptions(),
    )
    return OnDevice.asked


@pytest.fixture
def folder(tmp_path):
    return tiny.write_model(tmp_path / "small")


def vectors(weights, precision):
    models = Pool(weights, PoolLimits(threads=1))
    with models.using("small", precision) as model:
        rows = [
            Row(ids, text)
            for ids, text in zip(model.tokenizer.encode(TEXTS), TEXTS, strict=True)
        ]
        found = tiny.run(model, rows)
    models.close()
    return found


def method_of(weights):
    prepared = weights.find("small")
    assert prepared is not None
    return prepared.method("fast")


def cosines(a, b):
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return (a * b).sum(axis=1) / lengths


def test_a_device_is_asked_for_in_full_float32(tmp_path, folder, on_device):
    weights = Weights(tmp_path / "data", model_paths=(folder,), device=CUDA)
    weights.prepare("small")
    [name, options] = on_device[-1][0]
    assert name == "CUDAExecutionProvider"
    assert (options["device_id"], options["use_tf32"]) == ("1", "0")
    on_processor = Weights(tmp_path / "other", model_paths=(folder,))
    on_processor.prepare("small")
    found, expected = vectors(weights, "exact"), vectors(on_processor, "exact")
    assert cosines(found, expected).min() >= 0.9999


def test_the_fast_class_of_a_device_is_float16_and_says_so(tmp_path, folder, on_device):
    weights = Weights(tmp_path / "data", model_paths=(folder,), device=CUDA)
    prepared = weights.prepare("small")
    assert prepared.precisions == ("exact", "fast")
    assert prepared.method("fast") == "fp16"
    assert prepared.method("exact") == "fp32"
    exact, fast = vectors(weights, "exact"), vectors(weights, "fast")
    assert cosines(fast, exact).min() >= 0.999
    assert (fast != exact).any()


def test_a_model_is_prepared_again_for_another_kind_of_device(
    tmp_path, folder, on_device
):
    for_processor = Weights(tmp_path / "data", model_paths=(folder,))
    for_device = Weights(tmp_path / "data", model_paths=(folder,), device=CUDA)
    assert for_processor.prepare("small").method("fast") == "int8-static"
    # What was prepared for the processor is served exactly until then.
    assert method_of(for_device) == "fp32"
    assert for_device.prepare("small").method("fast") == "fp16"
    assert method_of(for_processor) == "fp32"
    assert for_processor.prepare("small").method("fast") == "int8-static"


def test_runs_are_as_large_as_a_device_has_memory_for(
    tmp_path, folder, on_device, monkeypatch
):
    sizes = []
    real = batcher.Batcher

    def noted(runtime, **options):
        sizes.append(options["batch_tokens"])
        return real(runtime, **options)

    monkeypatch.setattr(pool, "Batcher", noted)
    weights = Weights(tmp_path / "data", model_paths=(folder,), device=CUDA)
    weights.prepare("small")
    for memory in (1 << 20, 8 << 20, 80 << 30):
        monkeypatch.setattr(devices, "memory_bytes", lambda device, m=memory: m)
        models = Pool(weights, PoolLimits(threads=1, memory_bytes=1 << 30))
        models.model("small")
        models.close()
    # tiny.HIDDEN channels at 128 bytes each are 2048 bytes a token, of a tenth of the memory.
    assert sizes == [512, 512, 65536]


def test_all_models_together_may_take_most_of_the_devices_memory(
    tmp_path, folder, on_device, monkeypatch
):
    weights = Weights(tmp_path / "data", model_paths=(folder,), device=CUDA)
    weights.prepare("small")
    monkeypatch.setattr(devices, "memory_bytes", lambda device: 1024)
    with pytest.raises(ProviderMisconfigured, match="all models together may take"):
        Pool(weights, PoolLimits(threads=1)).model("small")


def test_a_session_that_goes_on_without_the_device_is_refused(
    tmp_path, folder, on_device, monkeypatch
):
    """ONNX Runtime only writes a warning where CUDA's libraries are missing."""
    monkeypatch.setattr(OnDevice, "used", ["CPUExecutionProvider"])
    weights = Weights(tmp_path / "data", model_paths=(folder,), device=CUDA)
    with pytest.raises(ProviderMisconfigured, match=r"cuda:1.*EMBEDDINGS_DEVICE=cpu"):
        weights.prepare("small")


def test_a_runtime_that_knows_no_device_is_refused(tmp_path, folder):
    weights = Weights(tmp_path / "data", model_paths=(folder,), device=CUDA)
    with pytest.raises(ProviderMisconfigured, match=r"cuda:1.*EMBEDDINGS_DEVICE=cpu"):
        weights.prepare("small")


def test_torch_without_cuda_is_refused_where_a_device_is_asked_for(
    folder, torch_reference
):
    with pytest.raises(ProviderMisconfigured, match="torch could not use cuda:1"):
        torch_runtime.load_sentence_transformer(
            folder, name="small", threads=1, device=CUDA
        )


@pytest.fixture
def driver(monkeypatch):
    """Return a function that says how many devices the driver shows, with ONNX Runtime built for CUDA."""

    def shows(count):
        monkeypatch.setattr(devices, "has_cuda_runtime", lambda: True)
        monkeypatch.setattr(devices, "cuda_devices", lambda: count)

    return shows


@pytest.mark.parametrize(
    ("name", "device"),
    [("cpu", "cpu"), ("cuda", "cuda:0"), ("cuda:1", "cuda:1"), ("cuda:07", "cuda:7")],
)
def test_a_device_is_the_one_that_is_named(name, device):
    assert devices.is_name(name)
    assert str(devices.named(name)) == device


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:-1", "cuda:x", "cuda:100", ""])
def test_other_names_are_none(name):
    assert not devices.is_name(name)


def test_auto_takes_the_first_device_that_is_there(driver):
    assert devices.named("auto") == CPU
    driver(2)
    assert devices.named("auto") == Device("cuda", 0)
    driver(0)
    assert devices.named("auto") == CPU


def test_a_device_that_is_not_there_is_a_problem_with_a_remedy(driver):
    assert "pip install 'embeddings-server[cuda]'" in str(devices.problem("cuda"))
    driver(2)
    assert devices.problem("cuda:1") is None
    assert "EMBEDDINGS_DEVICE=cpu" in str(devices.problem("cuda:2"))
    driver(0)
    assert "no device" in str(devices.problem("cuda"))
    assert devices.problem("auto") is None
    assert devices.problem("cpu") is None


@pytest.mark.parametrize(
    ("visible", "count"),
    [(None, 2), ("0", 1), ("1,0", 2), ("", 0), ("-1", 0), ("0,-1,1", 1)],
)
def test_devices_are_those_of_the_driver_that_the_process_may_see(
    tmp_path, visible, count
):
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm", "null"):
        (tmp_path / name).touch()
    given = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    assert devices.cuda_devices(given, tmp_path) == count


def test_a_driver_that_does_not_answer_is_named(monkeypatch):
    with pytest.raises(ProviderMisconfigured, match="cuda:1"):
        devices.memory_bytes(CUDA)


def test_a_model_prepared_for_a_device_is_served_exactly_where_there_is_none(
    tmp_path, folder, on_device
):
    there = Weights(tmp_path / "there", model_paths=(folder,), device=CUDA)
    there.prepare("small")
    archives.export_model(there, "small", tmp_path / "small.zip")
    here = Weights(tmp_path / "here")
    archives.import_model(here, tmp_path / "small.zip")
    assert method_of(here) == "fp32"
    assert cosines(vectors(here, "exact"), vectors(there, "exact")).min() >= 0.9999
