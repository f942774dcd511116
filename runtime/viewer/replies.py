"""What requests bring and what they are answered with: JSON bodies, one-line errors, results of other threads."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
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


async def within_seconds(work: Coroutine[Any, Any, Result], seconds: float) -> Result:
    """What `work` gives; raises what it raises, and `asyncio.TimeoutError`.

    `asyncio.wait_for` of Python 3.10 and 3.11 leaves a cycle of task, exception and frames behind each exception. The
    bodies of refused requests are in these frames: they would stay until the garbage collector comes, tens at a time.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait((task,), timeout=seconds)
        if not task.done():
            raise asyncio.TimeoutError
        return task.result()
    finally:
        if not task.cancel() and not task.cancelled():
            task.exception()  # of a task that failed while this one was cancelled: nobody else asks for it
        del task  # else the frame, which the exception holds, holds the task, which holds the exception


async def json_body(request: web.Request) -> dict[str, Any]:
    """The object that a request's body is. Raises `UsageError`, `HTTPRequestTimeout`."""
    try:
        body = json.loads(await within_seconds(request.read(), IDLE))
    except asyncio.TimeoutError as error:
        raise web.HTTPRequestTimeout from error
    except (ValueError, RecursionError) as error:
        raise UsageError("the body is not JSON; send an object") from error
    if not isinstance(body, dict):
        raise UsageError("the body is JSON but not an object; send one")
    return body


async def result_of(future: Future[Result] | asyncio.Future[Result]) -> Result:
    """What another thread's `future` gives; raises what it raises, and `TimeoutError`."""
    # Shielded: a client that disconnects or times out does not cancel the work.
    return await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(future)), ANSWER)
