"""What requests bring and what they are answered with: JSON bodies, one-line errors, results of other threads."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

from ...bundle.errors import UsageError, require

if TYPE_CHECKING:
    from aiohttp import web
else:
    web = require("aiohttp.web", "web")

IDLE = 20.0  # seconds that a connection may stay without a request, and a body may take
ANSWER = 60.0  # seconds for the classes to be encoded, or a region to be looked at

Result = TypeVar("Result")


def error_reply(status: int, reason: str) -> web.Response:
    """`{"error": reason}` with an HTTP status."""
    return web.json_response({"error": reason}, status=status)


async def json_body(request: web.Request) -> dict[str, Any]:
    """The object that a request's body is. Raises `UsageError`, `HTTPRequestTimeout`."""
    try:
        body = json.loads(await asyncio.wait_for(request.read(), IDLE))
    except asyncio.TimeoutError as error:
        raise web.HTTPRequestTimeout from error
    except (ValueError, RecursionError) as error:
        raise UsageError("the body is not JSON; send an object") from error
    if not isinstance(body, dict):
        raise UsageError("the body is JSON but not an object; send one")
    return body


async def result_of(future: Future[Result]) -> Result:
    """What another thread's `future` gives; raises what it raises, and `TimeoutError`."""
    # Shielded: a client that disconnects or times out does not cancel the work.
    return await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(future)), ANSWER)
