"""Where models run: on the processor, or on a CUDA device. Nothing here loads a runtime.

A forked child cannot use CUDA that its parent started, and web processes hold no runtime. So the device is found out
from files: ONNX Runtime's library for CUDA, and the driver's devices.
"""

import contextlib
import ctypes
import importlib.util
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from providers.exceptions import ProviderMisconfigured

AUTO = "auto"
_NAMES = re.compile(r"auto|cpu|cuda(?::\d{1,2})?")
_LIBRARY = "capi/libonnxruntime_providers_cuda.so"


@dataclass(frozen=True, slots=True)
class Device:
    """One device. `index`: CUDA's number of it, of those that CUDA_VISIBLE_DEVICES leaves visible."""

    kind: Literal["cpu", "cuda"] = "cpu"
    index: int = 0

    def __str__(self) -> str:
        return f"cuda:{self.index}" if self.is_cuda else "cpu"

    @property
    def is_cuda(self) -> bool:
        return self.kind == "cuda"


CPU = Device()


def is_name(text: str) -> bool:
    """Whether EMBEDDINGS_DEVICE may be this."""
    return _NAMES.fullmatch(text) is not None


def named(name: str) -> Device:
    """Return the device that EMBEDDINGS_DEVICE names, whether it is there or not; `auto`: the first that is."""
    if name == AUTO:
        return Device("cuda") if not cuda_problem(0) else CPU
    kind, _, index = name.partition(":")
    return Device("cuda", int(index or 0)) if kind == "cuda" else CPU


def problem(name: str) -> str | None:
    """Say why the device that was asked for by name cannot be used, and the remedy, or None."""
    device = named(name)
    reason = cuda_problem(device.index) if device.is_cuda else None
    if reason is None:
        return None
    return f"EMBEDDINGS_DEVICE asks for {device}, but {reason} With EMBEDDINGS_DEVICE=cpu models run on the processor."


def cuda_problem(index: int) -> str | None:
    """Say why the CUDA device of this number cannot be used, or None."""
    if not has_cuda_runtime():
        return (
            "ONNX Runtime is installed without CUDA: pip install 'embeddings-server[cuda]', then"
            " pip install --force-reinstall --no-deps onnxruntime-gpu, since both packages share a folder."
        )
    devices = cuda_devices()
    if index >= devices:
        seen = "no device" if not devices else f"{devices} of them, the first is cuda:0"
        return f"the driver shows {seen}."
    return None


def has_cuda_runtime() -> bool:
    """Whether ONNX Runtime's library for CUDA is installed. Where its package for the processor lies over that, not."""
    found = importlib.util.find_spec("onnxruntime")
    if found is None or found.origin is None:
        return False
    return (Path(found.origin).parent / _LIBRARY).is_file()


def cuda_devices(
    environment: Mapping[str, str] = os.environ, devices: Path = Path("/dev")
) -> int:
    """Return how many CUDA devices a process with this environment sees."""
    there = sum(
        1 for path in devices.glob("nvidia*") if path.name[len("nvidia") :].isdigit()
    )
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    if visible is None or not there:
        return there
    # CUDA goes by the list up to the first that is none.
    count = 0
    for one in visible.split(","):
        if not one.strip() or one.strip().startswith("-"):
            break
        count += 1
    return count


def memory_bytes(device: Device) -> int:
    """Return the memory of a CUDA device, from its driver, which this starts. Raises ProviderMisconfigured."""
    with contextlib.suppress(OSError, AttributeError):
        driver = ctypes.CDLL("libcuda.so.1")
        handle, total = ctypes.c_int(), ctypes.c_size_t()
        if not (
            driver.cuInit(0)
            or driver.cuDeviceGet(ctypes.byref(handle), device.index)
            or driver.cuDeviceTotalMem_v2(ctypes.byref(total), handle)
        ):
            return total.value
    raise ProviderMisconfigured(
        f"The driver of {device} does not answer: see `nvidia-smi`, or set EMBEDDINGS_DEVICE=cpu."
    )
