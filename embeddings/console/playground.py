"""The playground: texts in, and what one or two models make of them, to look at."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django import forms
from django.conf import settings
from django.core.files.uploadedfile import UploadedFile
from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from embeddings.access.caller_lookup import console_caller
from embeddings.access.throttling import ConsoleUse, RateLimited
from embeddings.console.charts import Chart, Series
from embeddings.console.page import ConsolePage
from embeddings.console.snippets import Snippet, snippets
from embeddings.headers import embedding_headers
from embeddings.services.callers import Caller
from embeddings.services.catalog import ready_default, ready_models
from embeddings.services.embed import embed
from embeddings.services.errors import ServiceError
from embeddings.services.similarity import cosines, nearest_pairs, projected
from embeddings.services.types import EmbeddingRequest, EmbeddingResult, Target
from embeddings.services.usage.events import Event
from embeddings.services.usage.ledger import recorded
from providers.exceptions import ProviderError

MAX_TEXTS = 40  # a table of 1,600 cosines
MAX_CHARACTERS = 100_000
MAX_FILE_BYTES = 2**19
MAX_PAIRS = 10
SHOWN_CHARACTERS = 80
EXAMPLES = (
    "The cat sat on the mat.",
    "A feline rested on the rug.",
    "Quarterly revenue grew by four percent.",
    "Sales rose slightly in the last three months.",
)
BLANK_LINES = re.compile(r"\n[ \t]*\n\s*")


class PlaygroundForm(forms.Form):
    """What is to be embedded, and by which models. The cleaned `inputs` are the texts, typed ones first."""

    texts = forms.CharField(
        required=False,
        strip=False,
        max_length=MAX_CHARACTERS,
        widget=forms.Textarea(attrs={"rows": 8}),
    )
    file = forms.FileField(
        label="Text file",
        required=False,
        help_text=f"Plain text in UTF-8, at most {MAX_FILE_BYTES // 1024} KiB.",
        widget=forms.FileInput(attrs={"accept": "text/*,.txt,.md,.csv"}),
    )
    split = forms.ChoiceField(
        label="A text is",
        choices=(
            ("lines", "each line"),
            ("blocks", "each block between blank lines"),
        ),
    )
    model = forms.ChoiceField()
    other_model = forms.ChoiceField(label="Second model", required=False)
    input_type = forms.ChoiceField(
        label="The texts are",
        choices=(("document", "documents"), ("query", "queries")),
    )
    dimensions = forms.IntegerField(
        required=False,
        min_value=1,
        max_value=65_536,
        help_text="Empty: the model's own.",
    )
    truncate = forms.BooleanField(
        label="Cut texts that are too long for the model", required=False
    )

    def __init__(self, *given: Any, caller: Caller, **named: Any) -> None:
        super().__init__(*given, **named)
        default = ready_default(caller)
        names = [
            (full_name(listed.target), _choice(listed.target, default))
            for listed in ready_models(caller)
        ]
        self.fields["model"].choices = names  # type: ignore[attr-defined]
        self.fields["other_model"].choices = [("", "none"), *names]  # type: ignore[attr-defined]
        if default is not None:
            self.initial.setdefault("model", full_name(default))

    def clean_file(self) -> str:
        file: UploadedFile[Any] | None = self.cleaned_data["file"]
        if file is None:
            return ""
        if (file.size or 0) > MAX_FILE_BYTES:
            raise forms.ValidationError(
                f"The file is over {MAX_FILE_BYTES // 1024} KiB; choose a smaller one."
            )
        try:
            return str(file.read(), "utf-8-sig")
        except UnicodeDecodeError as error:
            raise forms.ValidationError(
                "The file is not text in UTF-8; save it in UTF-8 and choose it again."
            ) from error

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        given = (cleaned.get("texts") or "", cleaned.get("file") or "")
        inputs = [
            text for one in given for text in _split(one, cleaned.get("split", ""))
        ]
        if "texts" not in self.errors and "file" not in self.errors:
            self._check(inputs)
        return {**cleaned, "inputs": inputs}

    def _check(self, inputs: Sequence[str]) -> None:
        if not inputs:
            self.add_error("texts", "Type a text, or choose a file.")
        if len(inputs) > MAX_TEXTS:
            self.add_error(
                "texts",
                f"These are {len(inputs)} texts; the playground takes {MAX_TEXTS} at most.",
            )
        if sum(map(len, inputs)) > MAX_CHARACTERS:
            self.add_error(
                "texts",
                f"The texts have more than {MAX_CHARACTERS} characters together; leave some out.",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class HeatRow:
    """One text's cosines with all: `cells` are the figure, and its class from 0 to 10."""

    number: int
    text: str
    cells: Sequence[tuple[str, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class PairRow:
    """Two texts, and how near they are."""

    first: str
    second: str
    cosine: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What one model made of the texts, or why it did not (`problem`)."""

    asked: str
    problem: str = ""
    figures: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    fallback_from: str = ""
    heat: Sequence[HeatRow] = ()
    pairs: Sequence[PairRow] = ()
    map: Chart | None = None
    snippets: Sequence[Snippet] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """How near each text's two vectors are, or (`problem`) why that cannot be said."""

    problem: str = ""
    rows: Sequence[tuple[str, str]] = ()


class Playground(ConsolePage):
    """Whoever is staff may use it: it changes nothing, and every user of the server may embed by the API.

    It is accounted for as the API is: the caller is the user who is logged in, with the user's own limits, budgets and
    rate limits, and the allowlists hold; the usage is the user's.
    """

    route = "playground/"
    title = "Playground"
    icon = "science"
    section = "Use"
    parts = {"result": "console/playground_result.html"}  # noqa: RUF012

    def show(self) -> dict[str, Any]:
        initial = {"texts": "\n".join(EXAMPLES)}
        return {"form": PlaygroundForm(caller=self._caller(), initial=initial)}

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Embed, and show the result: within the page, or as the part that was asked for."""
        caller = self._caller()
        form = PlaygroundForm(request.POST, request.FILES, caller=caller)
        shown: dict[str, Any] = {"form": form, "asked": True}
        if form.is_valid():
            shown |= _outcome(caller, form.cleaned_data, url=_api_url(request))
        return self.render_to_response(self.get_context_data(**shown))

    def _caller(self) -> Caller:
        return console_caller(self.request.user)


def full_name(target: Target) -> str:
    """Return `provider:model`, which names this target whatever the default provider is."""
    return f"{target.provider.name}:{target.model.name}"


def _outcome(caller: Caller, wanted: Mapping[str, Any], *, url: str) -> dict[str, Any]:
    """Ask one model, or two, and compare what they answer."""
    answers, results = [], []
    for place, model in enumerate([wanted["model"], wanted["other_model"]]):
        if not model:
            continue
        request = EmbeddingRequest(
            inputs=wanted["inputs"],
            caller=caller,
            model=model,
            dimensions=wanted["dimensions"],
            input_type=wanted["input_type"],
            truncate=wanted["truncate"],
            place="text {}",
        )
        code = snippets(request, url=url, id=f"code-{place}")
        try:
            result, headers, seconds = _asked(request)
        except (ServiceError, ProviderError) as error:
            answers.append(Answer(asked=model, problem=error.message, snippets=code))
        except RateLimited as error:
            answers.append(Answer(asked=model, problem=str(error.detail)))
        else:
            results.append(result)
            answers.append(
                _answer(request, result, headers, seconds, code, id=f"map-{place}")
            )
    comparison = _compared(wanted["inputs"], *results) if len(results) == 2 else None
    return {"answers": answers, "comparison": comparison}


def _asked(
    request: EmbeddingRequest,
) -> tuple[EmbeddingResult, dict[str, str], float]:
    """Return the answer, its headers, and the seconds it took. Raises ServiceError, ProviderError, RateLimited."""
    use = ConsoleUse(request.caller)
    with recorded(Event(endpoint="playground", caller=request.caller)) as event:
        result = embed(request)
    limits = use.charge(result.prompt_tokens)
    return result, {**embedding_headers(result), **limits}, event.seconds


def _answer(
    request: EmbeddingRequest,
    result: EmbeddingResult,
    headers: Mapping[str, str],
    seconds: float,
    code: Sequence[Snippet],
    *,
    id: str,
) -> Answer:
    names = [_short(str(text)) for text in request.inputs]
    cosine = cosines(result.vectors)
    heat = [
        HeatRow(
            number=number,
            text=name,
            cells=[(f"{value:.2f}", heat_of(value)) for value in cosine[number - 1]],
        )
        for number, name in enumerate(names, start=1)
    ]
    pairs = [
        PairRow(
            first=names[pair.first],
            second=names[pair.second],
            cosine=f"{pair.cosine:.3f}",
        )
        for pair in nearest_pairs(cosine, MAX_PAIRS)
    ]
    return Answer(
        asked=request.model or "",
        figures=_figures(result, seconds),
        headers=headers,
        fallback_from=result.fallback_from or "",
        heat=heat,
        pairs=pairs,
        map=_map(result, names, id=id),
        snippets=code,
    )


def _figures(result: EmbeddingResult, seconds: float) -> dict[str, str]:
    model = result.target.model
    return {
        "Answered by": full_name(result.target),
        "Dimensions": f"{result.vectors.shape[1]:,}",
        "Tokens": f"{result.prompt_tokens:,}",
        "Time": f"{seconds * 1000:,.0f} ms",
        "Cost": _cost(result),
        "From the cache": f"{result.cache_hits} of {len(result.vectors)}",
        "Vector space": model.vector_space,
        "Precision": model.precision or "not known",
    }


def _cost(result: EmbeddingResult) -> str:
    price = result.target.model.price_per_million_tokens
    if price is None:
        return "none: local" if result.target.provider.local else "price not known"
    return f"${result.computed_tokens * price / 1_000_000:.8f}"


def _map(result: EmbeddingResult, names: Sequence[str], *, id: str) -> Chart:
    found = projected(result.vectors)
    points = [(round(x, 3), round(y, 3)) for x, y in found.points.tolist()]
    share = f"It shows {found.share:.0%} of how the texts differ."
    return Chart(
        id=id,
        title=f"Map of the texts. {share}",
        kind="scatter",
        series=[Series(name="Texts", values=points, names=names)],
        labels=names,
        summary="The table of cosines has the same in figures.",
    )


def _compared(
    texts: Sequence[str], first: EmbeddingResult, second: EmbeddingResult
) -> Comparison:
    """Compare each text's vectors of two models, where they lie in one space."""
    spaces = [one.target.model.vector_space for one in (first, second)]
    if spaces[0] != spaces[1]:
        return Comparison(
            problem=f"The models are of two vector spaces ({spaces[0]} and {spaces[1]}): their vectors cannot be"
            " compared with each other, so each has figures of its own."
        )
    sizes = [one.vectors.shape[1] for one in (first, second)]
    if sizes[0] != sizes[1]:
        return Comparison(
            problem=f"The vectors have {sizes[0]} and {sizes[1]} dimensions: give one number of dimensions to compare"
            " them."
        )
    same = (first.vectors * second.vectors).sum(axis=1)
    rows = [
        (_short(text), f"{cosine:.4f}")
        for text, cosine in zip(texts, same.tolist(), strict=True)
    ]
    return Comparison(rows=rows)


def heat_of(cosine: float) -> int:
    """Return the class of a cosine, 0 (not alike, or opposite) to 10 (the same)."""
    return round(10 * min(1.0, max(0.0, cosine)))


def _split(text: str, split: str) -> list[str]:
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    parts = BLANK_LINES.split(lines) if split == "blocks" else lines.split("\n")
    return [part.strip() for part in parts if part.strip()]


def _short(text: str) -> str:
    one_line = " ".join(text[: 4 * SHOWN_CHARACTERS].split())
    if len(one_line) <= SHOWN_CHARACTERS:
        return one_line
    return one_line[: SHOWN_CHARACTERS - 1] + "…"


def _choice(target: Target, default: Target | None) -> str:
    mark = " (default)" if target.same_as(default) else ""
    return f"{full_name(target)}{mark}"


def _api_url(request: HttpRequest) -> str:
    """Return the API's address as clients reach it."""
    here = request.build_absolute_uri(reverse("docs")).removesuffix("/docs")
    return f"{(settings.PUBLIC_URL or here).rstrip('/')}/api/v1"
