"""Rendered services, against systemd's own checker and the compose specification's structure."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Annotated, Literal

import pytest
import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from sheafalign_fl.deploy.render import render
from sheafalign_fl.flower.address import Address

ANALYZE = shutil.which("systemd-analyze")
COMPOSE = shutil.which("docker-compose")
MOST_EXPOSURE = 3.0
needs_systemd = pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not installed here")


@pytest.fixture
def rendered(tmp_path: Path) -> Path:
    render(tmp_path / "services", ["camera", "lidar"], Address("relay.lan", 9092))
    return tmp_path / "services"


def analyze(*words: str) -> "subprocess.CompletedProcess[str]":
    assert ANALYZE is not None
    return subprocess.run(
        [ANALYZE, *words], capture_output=True, text=True, check=False,
        env={**os.environ, "LC_ALL": "C", "SYSTEMD_COLORS": "0"},
    )  # fmt: skip


def units(folder: Path) -> list[Path]:
    found = sorted((folder / "systemd").glob("*.service"))
    assert len(found) == 3
    return found


@needs_systemd
def test_systemd_finds_each_unit_little_exposed(rendered: Path) -> None:
    for unit in units(rendered):
        done = analyze("security", "--offline=true", "--no-pager", str(unit))
        found = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
        assert found is not None, done.stdout + done.stderr
        assert float(found[1]) <= MOST_EXPOSURE, done.stdout


@needs_systemd
def test_systemd_finds_nothing_wrong_in_each_unit(rendered: Path, tmp_path: Path) -> None:
    program = shutil.which("true")
    for unit in units(rendered):
        here = tmp_path / unit.name  # the program lies elsewhere on this machine
        here.write_text(unit.read_text().replace("/opt/sheafalign/bin/sheafalign", str(program)))
        done = analyze("verify", "--man=no", "--recursive-errors=no", str(here))
        told = [line for line in done.stderr.splitlines() if unit.name in line]
        assert done.returncode == 0, done.stderr
        assert not told
        broken = tmp_path / f"broken-{unit.name}"
        broken.write_text(here.read_text().replace("UMask=0077", "UMask=private\nUMaks=1"))
        assert "UMaks" in analyze("verify", "--man=no", str(broken)).stderr  # the checker does look


def test_what_a_unit_makes_is_its_users_alone(rendered: Path) -> None:
    for unit in units(rendered):
        assert "\nUMask=0077\n" in unit.read_text()
        assert "\nStateDirectoryMode=0700\n" in unit.read_text()


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


Name = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9._-]+$")]
Mount = Annotated[str, StringConstraints(pattern=r"^(\./[\w./-]+|[\w.-]+):/[\w/]+(:ro)?$")]
Ports = Annotated[str, StringConstraints(pattern=r"^\d{1,5}:\d{1,5}$")]


class Service(Strict):
    """As much of compose-spec's `service` as is rendered; types and patterns are the schema's."""

    image: Annotated[str, StringConstraints(min_length=1)]
    command: list[str]
    volumes: list[Mount]
    ports: list[Ports] = []
    depends_on: list[Name] = []
    restart: Literal["no", "always", "on-failure", "unless-stopped"]
    read_only: bool = False
    cap_drop: list[str] = []
    security_opt: list[str] = []
    tmpfs: list[str] = []


class Compose(Strict):
    """The compose specification.

    https://github.com/compose-spec/compose-spec/blob/main/schema/compose-spec.json
    """

    services: Annotated[dict[Name, Service], Field(min_length=1)]
    volumes: dict[Name, dict[str, str]]


@pytest.mark.skipif(COMPOSE is None, reason="docker-compose is not installed here")
def test_docker_compose_reads_the_compose_file_as_it_is_meant(rendered: Path) -> None:
    assert COMPOSE is not None
    words = [COMPOSE, "-f", str(rendered / "compose.yaml"), "config"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    read, written = (
        yaml.safe_load(text) for text in (done.stdout, (rendered / "compose.yaml").read_text())
    )
    assert set(read["services"]) == set(written["services"]) == {
        "relay", "node-camera", "node-lidar",
    }  # fmt: skip
    for name, service in read["services"].items():
        own = written["services"][name]
        assert {key: service[key] for key in ("command", "image", "cap_drop", "restart")} == {
            key: own[key] for key in ("command", "image", "cap_drop", "restart")
        }
        assert service["read_only"] is True
        kept = [mount for mount in service["volumes"] if mount.endswith(":rw")]
        assert all(str(rendered) not in mount or "/runs:" in mount for mount in kept)
        assert list(service.get("depends_on", {})) == own.get("depends_on", [])
    assert set(read["volumes"]) == set(written["volumes"])
    broken = rendered / "broken.yaml"
    broken.write_text((rendered / "compose.yaml").read_text().replace("cap_drop", "cap_dorp"))
    done = subprocess.run([COMPOSE, "-f", str(broken), "config"], capture_output=True, check=False)
    assert done.returncode != 0  # it does look


def test_the_compose_file_has_the_structure_of_the_specification(rendered: Path) -> None:
    compose = Compose.model_validate(yaml.safe_load((rendered / "compose.yaml").read_text()))
    for service in compose.services.values():
        assert set(service.depends_on) <= set(compose.services)
        named = {mount.partition(":")[0] for mount in service.volumes if mount[0] != "."}
        assert named <= set(compose.volumes)
        assert service.cap_drop == ["ALL"]
        assert service.read_only
