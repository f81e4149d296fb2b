"""The forms of documents, jobs and search, within the bounds that the API has for them."""

from collections.abc import Sequence
from typing import Any, ClassVar
from unicodedata import normalize

from django import forms
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.core.files.uploadedfile import UploadedFile
from django.forms.fields import InvalidJSONInput

from embeddings.services.callers import Caller
from embeddings.services.catalog import ready_models
from embeddings.services.types import Target
from media_jobs.conf import conf
from media_jobs.extraction.file_formats import FORMATS
from media_jobs.metadata import problem_of
from media_jobs.models import MediaItem
from media_jobs.services.filters import Filters
from media_jobs.services.jobs import (
    MAX_BATCH,
    MAX_CHUNK,
    MAX_PRIORITY,
    MIN_CHUNK,
    JobOptions,
    usual_overlap,
)
from media_jobs.services.metadata_filter import filter_problem
from media_jobs.services.search import SearchQuery

MAX_DIMENSIONS = 65_536
MAX_HITS = 50


class MetadataField(forms.JSONField):
    """Django's field, also for JSON that nests too deeply for it, has very long numbers, or halves of characters."""

    def to_python(self, value: Any) -> Any:
        try:
            return super().to_python(value)
        except (ValueError, RecursionError) as error:
            raise ValidationError(
                "Enter JSON with less depth and shorter numbers."
            ) from error

    def bound_data(self, data: Any, initial: Any) -> Any:
        try:
            return super().bound_data(data, initial)
        except (ValueError, RecursionError):
            return InvalidJSONInput(data)  # shown again as it was typed

    def prepare_value(self, value: Any) -> Any:
        if value is None:
            return ""
        text = super().prepare_value(value)
        # Halves of surrogate pairs cannot be sent; their escapes mean the same.
        return text.encode(errors="backslashreplace").decode()


def checked_metadata(metadata: Any) -> dict[str, Any]:
    """Return what may be stored. Raises ValidationError."""
    found: dict[str, Any] = metadata or {}
    if problem := problem_of(found):
        raise ValidationError(f"Metadata {problem}")
    return found


class MediaItemForm(forms.ModelForm):  # type: ignore[type-arg]
    """A document's fields."""

    class Meta:
        model = MediaItem
        fields = ("title", "language", "metadata", "owner")
        field_classes: ClassVar = {"metadata": MetadataField}

    def clean_title(self) -> str:
        return normalize("NFC", self.cleaned_data["title"])

    def clean_metadata(self) -> dict[str, Any]:
        return checked_metadata(self.cleaned_data["metadata"])


class ManyFilesInput(forms.ClearableFileInput):
    allow_multiple_selected = True


class ManyFilesField(forms.FileField):
    """Files, as a list. One that is empty is for the reader to judge."""

    widget = ManyFilesInput

    def clean(self, data: Any, initial: Any = None) -> Any:
        given = data if isinstance(data, list | tuple) else [data]
        return [one for one in given if one]


class UploadForm(forms.Form):
    """Files, or a text, to be stored. `may_choose`: whether the owner may be somebody else."""

    file = ManyFilesField(
        label="Files",
        required=False,
        widget=ManyFilesInput(attrs={"accept": ",".join(FORMATS)}),
    )
    text = forms.CharField(
        label="Or a text",
        required=False,
        widget=forms.Textarea(attrs={"rows": 4}),
    )
    title = forms.CharField(
        required=False,
        max_length=500,
        help_text="Of a file: its name, if empty.",
    )
    language = forms.CharField(
        required=False, max_length=35, help_text="Such as en or de."
    )
    metadata = MetadataField(
        required=False,
        widget=forms.Textarea(attrs={"rows": 2}),
        help_text='A JSON object, such as {"shelf": "animals"}.',
    )
    owner = forms.CharField(
        required=False, max_length=150, help_text="A user's name. Empty: you."
    )

    def __init__(self, *given: Any, may_choose: bool, **named: Any) -> None:
        super().__init__(*given, **named)
        kinds = ", ".join(sorted(ending[1:] for ending in FORMATS))
        self.fields[
            "file"
        ].help_text = f"{kinds}; at most {conf().max_bytes:,} bytes each."
        if not may_choose:
            del self.fields["owner"]

    def clean_title(self) -> str:
        return normalize("NFC", self.cleaned_data["title"])

    def clean_metadata(self) -> dict[str, Any]:
        return checked_metadata(self.cleaned_data["metadata"])

    def clean_owner(self) -> User | None:
        """Return the user of that name."""
        name = self.cleaned_data["owner"]
        if not name:
            return None
        user = User.objects.filter(username=name, is_active=True).first()
        if user is None:
            raise ValidationError(f"There is no active user {name}.")
        return user

    def clean_file(self) -> list["UploadedFile[Any]"]:
        files: list[UploadedFile[Any]] = self.cleaned_data["file"]
        for file in files:
            if (file.size or 0) > conf().max_bytes:
                raise ValidationError(
                    f"{file.name} is over the limit of {conf().max_bytes:,} bytes."
                )
        return files

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        files, text = cleaned.get("file") or [], cleaned.get("text") or ""
        if "file" not in self.errors and not files and not text.strip():
            self.add_error("file", "Choose a file, or type a text.")
        if len(files) > 1 and cleaned.get("title"):
            self.add_error(
                "title", "Several files cannot have one title: leave it out."
            )
        if text.strip() and not files and not cleaned.get("title"):
            self.add_error("title", "A text needs a title.")
        return cleaned


class TextForm(forms.Form):
    """Another text of a document: typed, or from a file."""

    text = forms.CharField(
        label="New text", required=False, widget=forms.Textarea(attrs={"rows": 6})
    )
    file = forms.FileField(
        label="Or a file",
        required=False,
        widget=forms.FileInput(attrs={"accept": ",".join(FORMATS)}),
    )

    def clean_file(self) -> "UploadedFile[Any] | None":
        file: UploadedFile[Any] | None = self.cleaned_data["file"]
        if file is not None and (file.size or 0) > conf().max_bytes:
            raise ValidationError(
                f"The file is over the limit of {conf().max_bytes:,} bytes."
            )
        return file

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        if bool(cleaned.get("file")) == bool((cleaned.get("text") or "").strip()):
            self.add_error("text", "Type a text, or choose a file: one of the two.")
        return cleaned


class EmbedForm(forms.Form):
    """How documents are to be embedded."""

    model = forms.ChoiceField(required=False)
    chunk_size = forms.IntegerField(
        min_value=MIN_CHUNK,
        max_value=MAX_CHUNK,
        help_text="Characters of a chunk, at most.",
    )
    chunk_overlap = forms.IntegerField(
        required=False,
        min_value=0,
        max_value=MAX_CHUNK,
        help_text="Characters that neighbours share, at most.",
    )
    dimensions = forms.IntegerField(
        required=False,
        min_value=1,
        max_value=MAX_DIMENSIONS,
        help_text="Empty: the model's own.",
    )
    priority = forms.IntegerField(
        required=False,
        min_value=-MAX_PRIORITY,
        max_value=MAX_PRIORITY,
        help_text="Higher runs earlier. Empty: 0.",
    )
    webhook_url = forms.CharField(
        label="Notice to",
        required=False,
        max_length=2000,
        help_text="An https address that is called at the end.",
    )
    force = forms.BooleanField(
        label="Also where the same vectors are stored already", required=False
    )

    def __init__(self, *given: Any, caller: Caller, **named: Any) -> None:
        super().__init__(*given, **named)
        choices = [("", "the server's default"), *_models(caller)]
        self.fields["model"].choices = choices  # type: ignore[attr-defined]
        self.initial.setdefault("chunk_size", conf().chunk_size)
        self.initial.setdefault("chunk_overlap", usual_overlap(conf().chunk_size))

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        size, overlap = cleaned.get("chunk_size"), cleaned.get("chunk_overlap")
        if size and overlap is None and "chunk_overlap" not in self.errors:
            cleaned["chunk_overlap"] = usual_overlap(size)
        elif size and overlap is not None and overlap >= size:
            self.add_error("chunk_overlap", "The overlap must be less than the size.")
        return cleaned

    def options(self) -> JobOptions:
        """Return what a valid form asks for."""
        cleaned = self.cleaned_data
        return JobOptions(
            model=cleaned["model"] or None,
            chunk_size=cleaned["chunk_size"],
            chunk_overlap=cleaned["chunk_overlap"],
            dimensions=cleaned["dimensions"],
            force=cleaned["force"],
            priority=cleaned["priority"] or 0,
            webhook_url=cleaned["webhook_url"],
        )


class SearchForm(forms.Form):
    """What is looked for, and where."""

    text = forms.CharField(
        label="Search for",
        max_length=20_000,
        widget=forms.TextInput(attrs={"type": "search", "autofocus": True}),
    )
    hybrid = forms.BooleanField(
        label="By words, too (hybrid)", required=False, initial=True
    )
    top_k = forms.IntegerField(
        label="Hits", min_value=1, max_value=MAX_HITS, initial=10
    )
    model = forms.ChoiceField(
        required=False, help_text="It must make vectors of the documents' own space."
    )
    dimensions = forms.IntegerField(
        required=False, min_value=1, max_value=MAX_DIMENSIONS
    )
    title = forms.CharField(required=False, max_length=500, help_text="A part of it.")
    language = forms.CharField(required=False, max_length=35)
    source_filename = forms.CharField(
        label="File name", required=False, max_length=255, help_text="The whole name."
    )
    created_after = forms.DateTimeField(
        required=False, widget=forms.DateTimeInput(attrs={"type": "datetime-local"})
    )
    created_before = forms.DateTimeField(
        required=False, widget=forms.DateTimeInput(attrs={"type": "datetime-local"})
    )
    metadata = MetadataField(
        required=False,
        widget=forms.Textarea(attrs={"rows": 2}),
        help_text='Paths with a value, or several: {"author.name": ["Ada", "Bob"]}.',
    )
    media_ids = forms.CharField(
        label="Documents",
        required=False,
        max_length=20_000,
        help_text="Their numbers, such as 3, 17.",
    )

    def __init__(self, *given: Any, caller: Caller, **named: Any) -> None:
        super().__init__(*given, **named)
        choices = [("", "the one that embedded the documents"), *_models(caller)]
        self.fields["model"].choices = choices  # type: ignore[attr-defined]

    def main_fields(self) -> list[forms.BoundField]:
        return [self[name] for name in ("hybrid", "top_k")]

    def filter_fields(self) -> list[forms.BoundField]:
        shown = ("text", "hybrid", "top_k")
        return [self[name] for name in self.fields if name not in shown]

    def clean_metadata(self) -> dict[str, Any]:
        wanted: dict[str, Any] = self.cleaned_data["metadata"] or {}
        if problem := filter_problem(wanted):
            raise ValidationError(f"Metadata {problem}")
        return wanted

    def clean_media_ids(self) -> Sequence[int] | None:
        words = self.cleaned_data["media_ids"].replace(",", " ").split()
        if not all(word.isdecimal() and len(word) < 19 for word in words):
            raise ValidationError("Give whole numbers, with commas between them.")
        if len(words) > MAX_BATCH:
            raise ValidationError(f"Give {MAX_BATCH} documents at most.")
        return [int(word) for word in words] or None

    def query(self) -> SearchQuery:
        """Return what a valid form asks for."""
        cleaned = self.cleaned_data
        return SearchQuery(
            text=cleaned["text"],
            hybrid=cleaned["hybrid"],
            top_k=cleaned["top_k"],
            model=cleaned["model"] or None,
            dimensions=cleaned["dimensions"],
            media_ids=cleaned["media_ids"],
            filters=Filters(
                title=cleaned["title"] or None,
                language=cleaned["language"] or None,
                source_filename=cleaned["source_filename"] or None,
                created_after=cleaned["created_after"],
                created_before=cleaned["created_before"],
                metadata=cleaned["metadata"],
            ),
        )


def _models(caller: Caller) -> list[tuple[str, str]]:
    return [(_name(one.target), _name(one.target)) for one in ready_models(caller)]


def _name(target: Target) -> str:
    return f"{target.provider.name}:{target.model.name}"
