"""Names in allowlists and scopes: exact, or a beginning followed by `*`."""

from collections.abc import Collection


def fits(pattern: str, name: str) -> bool:
    """Whether `pattern`, exact or ending in `*`, means `name`."""
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern


def allows_provider(patterns: Collection[str], provider: str) -> bool:
    """Whether an allowlist holds `provider`; an empty one holds everything."""
    return not patterns or any(fits(pattern, provider) for pattern in patterns)


def allows_model(patterns: Collection[str], provider: str, model: str) -> bool:
    """Whether an allowlist holds `model`, with or without its provider's prefix; an empty one holds everything."""
    names = (model, f"{provider}:{model}")
    return not patterns or any(fits(p, name) for p in patterns for name in names)
