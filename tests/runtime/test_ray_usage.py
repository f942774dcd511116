"""Ray is told to load nothing that asks a cloud's metadata address."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from ovs_edge.runtime.threads.ray_usage import without_metadata_requests


def test_the_part_that_asks_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    services = pytest.importorskip("ray._private.services", reason="the extra 'ray' is not installed")
    assert "--modules-to-load=UsageStatsHead" in inspect.getsource(services.start_api_server)  # else look again
    started: list[list[str]] = []

    def start(command: list[str], *arguments: Any, **options: Any) -> None:
        started.append(command)

    monkeypatch.setattr(services, "start_ray_process", start)
    without_metadata_requests()
    without_metadata_requests()  # the second time changes nothing
    services.start_ray_process(["dashboard", "--modules-to-load=UsageStatsHead"], "dashboard")
    services.start_ray_process(["raylet", "--port=1"], "raylet")
    assert started == [["dashboard", "--modules-to-load=PlatformEventsHead"], ["raylet", "--port=1"]]
