"""Ray asks cloud providers' metadata addresses which cloud it runs in, even where its usage statistics are off."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_ASKS, _OTHER = "--modules-to-load=UsageStatsHead", "--modules-to-load=PlatformEventsHead"


def without_metadata_requests() -> None:
    """A cluster that this process starts from now on asks nobody. Ray must be installed.

    The part that asks (169.254.169.254, metadata.google.internal) is all that Ray loads without its dashboard; another
    one, which is off by default, takes its place. There is no setting for it as of Ray 2.60. A Ray without these
    internals is left as it is.
    """
    try:
        services: Any = import_module("ray._private.services")
        start = services.start_ray_process
    except (ImportError, AttributeError):
        return
    if getattr(start, "asks_nobody", False):
        return

    def start_quietly(command: list[str], *arguments: Any, **options: Any) -> Any:
        return start([_OTHER if word == _ASKS else word for word in command], *arguments, **options)

    start_quietly.asks_nobody = True  # type: ignore[attr-defined]
    services.start_ray_process = start_quietly
