"""What the routes are, in OpenAPI's words: said at each handler, put together here."""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, TypeVar

from aiohttp import web
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from voxroute_gateway.answers import JSON, TEXT
from voxroute_gateway.errors import Wording, wording

H = TypeVar("H", bound=Callable[..., Any])
Schema = dict[str, Any]
Contents = Mapping[str, Schema]
"""Schemas by content type; none where there is no body."""

STRING: Schema = {"type": "string"}
BOOLEAN: Schema = {"type": "boolean"}
INTEGER: Schema = {"type": "integer"}
NUMBER: Schema = {"type": "number"}
BINARY: Schema = {"type": "string", "format": "binary"}
EVENTS: Contents = {
    "text/event-stream": {
        "type": "object",
        "properties": {"id": STRING, "event": STRING, "data": STRING},
        "required": ["data"],
    }
}
SERVICES = (403, 422, 429, 503, 504)
"""Statuses of what asks a service."""
_ALWAYS = (400, 401, 413, 500)
_WITH_BODY = (408, 415)
_MESSAGES: dict[str, Schema] = {
    "google.protobuf.Duration": {"type": "string", "pattern": r"^[0-9]+(\.[0-9]{1,9})?s$"},
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
}
_SCALARS: dict[int, Schema] = {
    FieldDescriptor.CPPTYPE_STRING: STRING,
    FieldDescriptor.CPPTYPE_BOOL: BOOLEAN,
    FieldDescriptor.CPPTYPE_INT32: INTEGER,
    FieldDescriptor.CPPTYPE_UINT32: {**INTEGER, "minimum": 0},
    # as JSON has them in protobuf: they are larger than what JavaScript counts
    FieldDescriptor.CPPTYPE_INT64: STRING,
    FieldDescriptor.CPPTYPE_UINT64: STRING,
    FieldDescriptor.CPPTYPE_FLOAT: NUMBER,
    FieldDescriptor.CPPTYPE_DOUBLE: NUMBER,
}


@dataclass(frozen=True, slots=True)
class Operation:
    """What a handler is asked, and what it answers."""

    answers: Mapping[int, Contents]
    errors: Collection[int] = ()
    """Statuses of errors, beside those that every route has."""
    query: Mapping[str, Schema] = field(default_factory=dict[str, Schema])
    headers: Mapping[str, Schema] = field(default_factory=dict[str, Schema])
    body: Contents = field(default_factory=dict[str, Schema])
    body_required: bool = True

    def __call__(self, handler: H) -> H:
        """As a decorator: the handler, described."""
        handler.operation = self  # pyright: ignore[reportFunctionMemberAccess] - for `document`
        return handler


def array(items: Schema) -> Schema:
    """A list of what is alike."""
    return {"type": "array", "items": items}


def one_of(*values: str) -> Schema:
    """One of some words."""
    return {"type": "string", "enum": list(values)}


def fields(required: Collection[str] = (), **properties: Schema) -> Schema:
    """An object."""
    return {"type": "object", "properties": properties, "required": list(required)}


def whole(**properties: Schema) -> Schema:
    """An object whose fields are all there."""
    return fields(tuple(properties), **properties)


def message(kind: type[Message]) -> Schema:
    """A message of the contracts, as its JSON is."""
    return _message(kind.DESCRIPTOR)


def _message(descriptor: Any) -> Schema:
    known = _MESSAGES.get(descriptor.full_name)
    return known or fields((), **{one.name: _field(one) for one in descriptor.fields})


def _field(one: Any) -> Schema:  # of a descriptor, whose types lack half of it
    if one.message_type is not None:
        schema = _message(one.message_type)
    elif one.enum_type is not None:
        schema = one_of(*one.enum_type.values_by_name)
    else:
        schema = _SCALARS[one.cpp_type]
    return array(schema) if one.is_repeated else schema


def document(app: web.Application, version: str) -> dict[str, Any]:
    """The description of all routes. Raises AttributeError for a handler without its own."""
    paths: dict[str, dict[str, Any]] = {}
    for route in app.router.routes():
        if route.resource is not None:
            path = route.resource.canonical
            paths.setdefault(path, {})[route.method.lower()] = _operation(route, path)
    return {
        "openapi": "3.1.0",
        "info": {"title": "voxroute gateway", "version": version},
        "paths": paths,
        "components": {
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "X-Api-Key"},
            },
        },
        "security": [{}, {"bearer": []}, {"key": []}],  # {}: where no tokens are asked for
    }


def _operation(route: web.AbstractRoute, path: str) -> dict[str, Any]:
    handler: Any = route.handler
    about: Operation = handler.operation
    head = route.method == "HEAD"
    found: dict[str, Any] = {
        "operationId": re.sub(r"\W+", "_", f"{route.method.lower()}{path}").strip("_"),
        "summary": (handler.__doc__ or "").partition("\n")[0],
        "parameters": [
            *(_parameter("path", name, STRING) for name in re.findall(r"\{(\w+)\}", path)),
            *(_parameter("query", name, schema) for name, schema in about.query.items()),
            *(_parameter("header", name, schema) for name, schema in about.headers.items()),
        ],
        "responses": {
            **{str(status): _response(status, of, head) for status, of in about.answers.items()},
            **{
                str(status): _response(status, _error(path), head)
                for status in sorted({*_ALWAYS, *about.errors, *(_WITH_BODY if about.body else ())})
            },
        },
    }
    if about.body:
        found["requestBody"] = {"required": about.body_required, "content": _content(about.body)}
    return found


def _parameter(place: str, name: str, schema: Schema) -> dict[str, Any]:
    required = place == "path" or bool(schema.get("x-required"))
    shown = {key: value for key, value in schema.items() if key != "x-required"}
    return {"in": place, "name": name, "required": required, "schema": shown}


def required(schema: Schema) -> Schema:
    """The schema of a parameter that has to be there."""
    return {**schema, "x-required": True}


def _response(status: int, contents: Contents, head: bool) -> dict[str, Any]:  # noqa: FBT001 - private
    found: dict[str, Any] = {"description": HTTPStatus(status).phrase}
    return found if head or not contents else {**found, "content": _content(contents)}


def _content(contents: Contents) -> dict[str, Any]:
    return {kind: {"schema": schema} for kind, schema in contents.items()}


def _error(path: str) -> Contents:
    match wording(path):
        case Wording.TEXT:
            return {TEXT: STRING}
        case Wording.SENTENCE:
            return {JSON: whole(error=STRING)}
        case Wording.OPENAI:
            maybe: Schema = {"type": ["string", "null"]}
            return {JSON: whole(error=whole(message=STRING, type=STRING, param=maybe, code=maybe))}
