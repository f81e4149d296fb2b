"""REST framework's part of a request that is JSON: read, checked and answered with fewer objects."""

import functools
from collections.abc import Mapping
from typing import Any

from django.core.validators import ProhibitNullCharactersValidator
from django.http import HttpResponse
from rest_framework import serializers
from rest_framework.fields import empty
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.validators import ProhibitSurrogateCharactersValidator

from embeddings.fast_path import is_on

JSON = "application/json"
# They look at each character of a text.
OF_CHARACTERS = (ProhibitNullCharactersValidator, ProhibitSurrogateCharactersValidator)


class Plain:
    """A serializer all of whose fields are plain: writable, and named as they are sent. It checks nothing else."""


class PlainText:
    """A field that refuses NUL itself, of bodies whose parser refuses lone surrogates."""


def validated(
    serializer_class: type[serializers.Serializer[Any]], request: Request
) -> dict[str, Any]:
    """Return the checked body. Raises ValidationError, ParseError, UnsupportedMediaType."""
    if is_on():
        return _checker(serializer_class).checked(_body(request))
    serializer = serializer_class(data=request.data)
    serializer.is_valid(raise_exception=True)
    return dict(serializer.validated_data)


def answer(request: Request, data: Any, *, headers: Mapping[str, str]) -> HttpResponse:
    """Return what the view answers. REST framework's own Response would render it in five more steps."""
    if not is_on():
        return Response(data, headers=dict(headers))
    renderer = request.accepted_renderer
    return HttpResponse(
        renderer.render(data), content_type=renderer.media_type, headers=headers
    )


def _body(request: Request) -> Any:
    """Return `request.data`, without the search for a parser where the body is what the first one reads."""
    parser, stream = next(iter(request.parsers or ()), None), request.stream
    is_json = request._request.content_type == JSON
    if is_json and stream is not None and parser and parser.media_type == JSON:
        return parser.parse(stream, parser_context={"request": request})
    return request.data


class _Checker:
    """Checks with one instance of a serializer: to copy all fields takes most of a validation, and none of them keeps
    anything.
    """

    def __init__(self, serializer_class: type[serializers.Serializer[Any]]) -> None:
        self._serializer = serializer_class(data={})
        self._one_pass = issubclass(serializer_class, Plain)
        fields = self._fields = dict(self._serializer.fields)
        self._required = {name for name in fields if fields[name].required}
        defaults = {name: field.default for name, field in fields.items()}
        self._defaults = {n: one for n, one in defaults.items() if one is not empty}
        for field in fields.values():
            if isinstance(field, PlainText):
                kept = [v for v in field.validators if not isinstance(v, OF_CHARACTERS)]
                field.validators = kept

    def checked(self, data: Any) -> dict[str, Any]:
        """Return the body, checked in one pass over what was sent if its fields are plain. What does not pass goes
        the long way, which says what is wrong and in which order.
        """
        fields = self._fields
        is_whole = isinstance(data, dict) and self._required <= data.keys()
        if not (self._one_pass and is_whole):
            return self._at_length(data)
        try:
            checked = {name: fields[name].run_validation(data[name]) for name in data}
        except (KeyError, serializers.ValidationError):
            return self._at_length(data)
        # An optional field may be null, which is as if it were not sent.
        sent = {name: value for name, value in checked.items() if value is not None}
        return self._defaults | sent

    def _at_length(self, data: Any) -> dict[str, Any]:
        checked: dict[str, Any] = self._serializer.run_validation(data)
        return checked


_checker = functools.cache(_Checker)
