"""The description of the HTTP interface, as OpenAPI 3.1 (https://spec.openapis.org/oas/v3.1.0)."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Any

_CLASSES = (
    "Classes to look for: person,bike|bicycle,cup:0.2. | separates synonyms, :0.2 is a class's own confidence "
    'threshold. Or a JSON list, ["sofa, couch", "cat"], whose names may hold commas.'
)
_FORMAT = "png: an index PNG; coco: JSON with COCO's compressed run lengths."
_ERRORS = {
    "400": "The request cannot be met: a damaged picture, no classes, a damaged form.",
    "401": "The token is missing or wrong.",
    "403": "A browser sent the request for another site.",
    "408": "The body did not arrive in time.",
    "413": "The body or the picture is larger than the server takes.",
    "415": "The body is no picture that is read: JPEG, PNG, WebP or BMP.",
    "421": "The Host header is no name of the server; see --allow-host.",
    "500": "The server failed.",
    "503": "The queue is full, or a replica was lost. Retry-After tells after how many seconds to try again.",
}


def openapi(most_bytes: int, *, token: bool) -> dict[str, Any]:
    """The document. `most_bytes` is the limit of a body; `token` tells that one is required."""
    try:
        number = version("ovs-edge")
    except PackageNotFoundError:
        number = "0"
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "ovs-serve",
            "version": number,
            "description": "Open-vocabulary segmentation: every request brings its own classes.",
        },
        "paths": {
            "/segment": {"post": _segment(most_bytes)},
            "/healthz": {
                "get": {
                    "summary": "Whether a replica can answer",
                    "security": [],
                    "responses": {"200": _json("Yes.", _HEALTH), "503": _json("No.", _HEALTH)},
                }
            },
            "/metrics": {
                "get": {
                    "summary": "Metrics in Prometheus' text format",
                    "responses": {"200": {"description": "Metrics.", "content": {"text/plain": {}}}},
                }
            },
        },
    }
    if token:
        document["components"] = {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}}
        document["security"] = [{"token": []}]
    return document


_HEALTH = {"type": "object", "properties": {"replicas": {"type": "integer"}, "of": {"type": "integer"}}}
_RLE = {
    "type": "object",
    "properties": {
        "size": {"type": "array", "items": {"type": "integer"}, "description": "height, width"},
        "counts": {"type": "string"},
    },
}
_COCO = {
    "type": "object",
    "properties": {
        "width": {"type": "integer"},
        "height": {"type": "integer"},
        "categories": {"type": "array", "items": {"type": "object"}, "description": "id and name of each class"},
        "annotations": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "image_id": {"type": "integer"},
                    "category_id": {"type": "integer"},
                    "segmentation": _RLE,
                    "bbox": {"type": "array", "items": {"type": "number"}, "description": "x, y, width, height"},
                    "area": {"type": "integer"},
                    "score": {"type": "number", "description": "mean confidence, 0 to 1"},
                },
            },
        },
        "untrained": {
            "type": "array",
            "items": {"type": "object"},
            "description": "classes none of whose names the model was trained with: the nearest trained name",
        },
    },
}


def _json(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _segment(most_bytes: int) -> dict[str, Any]:
    query = [
        {"name": "classes", "in": "query", "description": _CLASSES, "schema": {"type": "string"}},
        {
            "name": "format",
            "in": "query",
            "description": _FORMAT,
            "schema": {"type": "string", "enum": ["png", "coco"], "default": "png"},
        },
    ]
    binary = {"schema": {"type": "string", "format": "binary"}}
    form = {
        "type": "object",
        "required": ["image", "classes"],
        "properties": {
            "image": {"type": "string", "format": "binary"},
            "classes": {"type": "string", "description": _CLASSES},
            "format": {"type": "string", "enum": ["png", "coco"], "description": _FORMAT},
        },
    }
    error = {"type": "object", "properties": {"error": {"type": "string"}}}
    found = {
        "description": "png: an index PNG of the picture's size. A pixel is its class's number, counted from 0 in the "
        "order asked for; 255 (65535 in a 16-bit PNG, used from 256 classes on) is none of them.",
        "headers": {"OVS-Classes": {"description": "JSON list of the classes in order.", "schema": {"type": "string"}}},
        "content": {"image/png": binary, "application/json": {"schema": _COCO}},
    }
    return {
        "summary": "Find classes in a picture",
        "description": f"A picture of at most {most_bytes} bytes as the body, or a form.",
        "parameters": query,
        "requestBody": {
            "required": True,
            "content": {
                "image/jpeg": binary,
                "image/png": binary,
                "image/webp": binary,
                "image/bmp": binary,
                "application/octet-stream": binary,
                "multipart/form-data": {"schema": form},
            },
        },
        "responses": {"200": found, **{status: _json(text, error) for status, text in _ERRORS.items()}},
    }
