"""What starts ovs-edge with the machine: the unit of systemd, the compose file and its image."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

import yaml

CONTAINERS = Path(__file__).parents[2] / "containers"


def test_the_unit_starts_and_reloads_ovs_run() -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(CONTAINERS / "ovs-edge.service")
    service = unit["Service"]
    assert service["ExecStart"].endswith("ovs-run --config /etc/ovs-edge/cameras.toml")
    assert service["ExecReload"] == "/bin/kill -HUP $MAINPID"
    assert service["Restart"] == "on-failure"
    assert service["ProtectSystem"] == "strict"  # so whatever is written lies in the folders below
    for variable in ("XDG_CACHE_HOME", "XDG_STATE_HOME"):
        (folder,) = re.findall(rf"{variable}=(\S+)", service["Environment"])
        assert folder in ("/var/cache/ovs-edge", "/var/lib/ovs-edge")
    assert service["StateDirectory"] == service["CacheDirectory"] == "ovs-edge"


def test_the_compose_file_builds_what_it_runs() -> None:
    compose = yaml.safe_load((CONTAINERS / "compose.yaml").read_text(encoding="utf-8"))
    service = compose["services"]["ovs-edge"]
    image = (CONTAINERS / service["build"]["context"] / service["build"]["dockerfile"]).resolve()
    recipe = image.read_text(encoding="utf-8")
    (command,) = re.findall(r'CMD \["--config", "(.+)"\]', recipe)
    # The folder: a mount of the file itself would show the old one once an editor has replaced it.
    assert f"./config:{Path(command).parent}:ro" in service["volumes"]
    assert 'ENTRYPOINT ["ovs-run"]' in recipe
    (port,) = re.findall(r"EXPOSE (\d+)", recipe)
    assert service["ports"] == [f"{port}:{port}"]
    assert "OVS_TOKEN" in service["environment"]
