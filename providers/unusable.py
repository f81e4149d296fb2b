"""What stands in the registry for a provider whose plug-in cannot be had."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

from providers.base import Embedded, InputType, ModelSpec, Provider
from providers.exceptions import ProviderMisconfigured


class Unusable(Provider):
    """Listed with its problem, and passed over like one without a key, whatever model is asked for."""

    def __init__(self, name: str, problem: str) -> None:
        self.name = name
        self._problem = problem

    @classmethod
    def from_settings(cls, options: Mapping[str, Any]) -> Self:
        return cls(options["name"], options["problem"])

    def models(self) -> Iterable[ModelSpec]:
        return ()

    def resolve(self, name: str) -> ModelSpec | None:
        space = f"{self.name}:{name}"
        return ModelSpec(
            name=name, dimensions=None, max_tokens=None, vector_space=space
        )

    def configuration_problem(self) -> str | None:
        return self._problem

    def embed(
        self,
        model: ModelSpec,
        texts: Sequence[str],
        *,
        dimensions: int | None,
        input_type: InputType,
        timeout_seconds: float,
    ) -> Embedded:
        raise ProviderMisconfigured(self._problem)
