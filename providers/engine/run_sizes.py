"""How much at a time: the tokens of a run, and the memory of all models, on the processor or a device."""

import math

from providers.engine import devices
from providers.engine.batcher import BATCH_TOKENS
from providers.engine.devices import Device
from providers.engine.machine import usable_memory
from providers.engine.prepared import Prepared

# A run of a static model takes no memory by its tokens, and costs more to begin than hundreds of them.
STATIC_BATCH_TOKENS = 1 << 15
# In a usual layer a token takes 12 * channels^2 multiplications, and 2 * channels for each token it attends to.
_SQUARE_TOKENS_A_CHANNEL = 6
_SHARE_OF_MEMORY = 0.6
# Of a device's memory, what one run may take, and what it takes of that for each channel of each token.
_SHARE_OF_A_RUN, _BYTES_A_CHANNEL, _MOST_TOKENS_A_RUN = 0.1, 128, 1 << 16


def batch_tokens(prepared: Prepared) -> int:
    """Return the padded tokens of a run: many where a device has memory for them."""
    if prepared.config.static is not None:
        return STATIC_BATCH_TOKENS
    if not prepared.device.is_cuda:
        return BATCH_TOKENS
    fitting = int(devices.memory_bytes(prepared.device) * _SHARE_OF_A_RUN)
    fitting //= _BYTES_A_CHANNEL * prepared.config.hidden
    return min(max(fitting, BATCH_TOKENS), _MOST_TOKENS_A_RUN)


def square_tokens(prepared: Prepared) -> float:
    """Return how long a text is of which attention is half of the work."""
    if prepared.config.static is not None:
        return math.inf
    return _SQUARE_TOKENS_A_CHANNEL * prepared.config.hidden


def models_bytes(device: Device) -> int:
    """Return what all models together may take, where the operator does not say."""
    there = devices.memory_bytes(device) if device.is_cuda else usable_memory()
    return int(there * _SHARE_OF_MEMORY)
