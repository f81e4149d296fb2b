"""Vectors that follow from the text alone, so that order and pairing can be checked."""

from zlib import crc32

import numpy as np


def vector_for(text, dimensions, input_type="document"):
    """Return float32 (dimensions,), unit length; queries differ from documents."""
    seed = crc32(f"{input_type}\0{text}".encode())
    numbers = np.random.default_rng(seed).standard_normal(dimensions)
    return (numbers / np.linalg.norm(numbers)).astype(np.float32)


def vectors_for(texts, dimensions, input_type="document"):
    """Return float32 (len(texts), dimensions)."""
    return np.stack([vector_for(text, dimensions, input_type) for text in texts])


def tokens_in(text):
    """Return the stubs' token count of `text`: its words."""
    return len(text.split())
