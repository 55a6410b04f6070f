"""A systemd of its own: the first process in namespaces of processes, mounts and control groups.

It sees no unit but those that it is given, so it starts, stops and cleans nothing of this machine,
and its files of ``/etc``, ``/run``, ``/opt``, ``/srv`` and ``/var/lib`` lie in memory.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.system.command import ROOT
from tests.system.namespaces import mounts_permitted

SYSTEMD = Path("/lib/systemd/systemd")
USER, NUMBER = "sheafalign", 64100
_TARGETS = ("sysinit", "basic", "shutdown", "network-online", "multi-user")
"""Units that others name; here they are empty."""
_PYTHON = Path("/opt/python")
_BOOT = """\
set -e
mount -t cgroup2 none /sys/fs/cgroup
for folder in /run /opt /srv /var/lib; do mount -t tmpfs none $folder; done
mkdir -p /run/etc/upper /run/etc/work /run/units {python} /opt/sheafalign/bin
mount -t overlay none -o lowerdir=/etc,upperdir=/run/etc/upper,workdir=/run/etc/work /etc
mount --bind {base} {python}
cp -r {units}/* /run/units/
cp {program} /opt/sheafalign/bin/sheafalign
echo '{user}:x:{number}:{number}::/var/lib/sheafalign:/usr/sbin/nologin' >> /etc/passwd
echo '{user}:x:{number}:' >> /etc/group
. {prepare}
exec env -i container=test SYSTEMD_UNIT_PATH=/run/units PATH=$PATH \\
    {systemd} --system --unit=all.target --log-target=console --show-status=no
"""


def unable() -> str | None:
    """Return why no systemd of its own can run here; None if one can."""
    if not SYSTEMD.is_file() or shutil.which("nsenter") is None:
        return "systemd is not installed here"
    if _hierarchy() is None:
        return "this machine has no second version of control groups"
    hidden = [path for path in _importable() if path.is_relative_to("/root")]
    if hidden or ROOT.is_relative_to("/home"):
        return f"a service sees no home, and {(hidden or [ROOT])[0]} lies in one"
    return mounts_permitted()


@dataclass(frozen=True)
class ServiceManager:
    """A running systemd."""

    pid: int

    @property
    def root(self) -> Path:
        """The root of the file systems as its services see them."""
        return Path(f"/proc/{self.pid}/root")

    def systemctl(self, *words: str) -> str:
        """Return what a command of systemctl prints."""
        done = subprocess.run(
            ["nsenter", "-t", str(self.pid), "-a", "systemctl", "--no-pager", *words],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        return done.stdout + done.stderr

    def show(self, unit: str, name: str) -> str:
        """Return a property of a unit."""
        return self.systemctl("show", unit, "--value", "-p", name).strip()


@contextmanager
def booted(folder: Path, units: Sequence[Path], prepare: str) -> Iterator[ServiceManager]:
    """Yield a systemd that has started `units`, and end all of it.

    Parameters
    ----------
    folder
        For what is needed to start it.
    prepare
        Shell commands that put files where the units expect them.
    """
    given = folder / "units"
    given.mkdir(parents=True)
    for unit in units:
        shutil.copy(unit, given)
    for name in _TARGETS:
        (given / f"{name}.target").write_text("[Unit]\nDefaultDependencies=no\n")
    wanted = " ".join(unit.name for unit in units)
    (given / "all.target").write_text(f"[Unit]\nWants={wanted}\n")
    (given / "service.d").mkdir()  # there is no journal
    (given / "service.d" / "output.conf").write_text(
        "[Service]\nStandardOutput=append:/run/output\nStandardError=inherit\n"
    )
    (folder / "prepare").write_text(prepare)
    (folder / "program").write_text(_program())
    (folder / "program").chmod(0o755)
    boot = folder / "boot"
    boot.write_text(
        _BOOT.format(
            python=_PYTHON, base=sys.base_prefix, units=given, program=folder / "program",
            prepare=folder / "prepare", user=USER, number=NUMBER, systemd=SYSTEMD,
        )
    )  # fmt: skip
    with _group() as group, (folder / "systemd.log").open("wb") as log:
        enter = 'echo $$ > "$0/cgroup.procs" && exec unshare -p -f --kill-child -m -C -u -i '
        process = subprocess.Popen(
            ["sh", "-c", enter + '--mount-proc sh "$1"', str(group), str(boot)],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
        try:
            yield ServiceManager(_first_child(process.pid))
        finally:
            process.send_signal(signal.SIGKILL)  # --kill-child: all the others go with it
            process.wait()


def _first_child(pid: int) -> int:
    """Return the process that `unshare` has started."""
    path = Path(f"/proc/{pid}/task/{pid}/children")
    limit = time.monotonic() + 30
    while time.monotonic() < limit:
        if children := path.read_text().split():
            return int(children[0])
        time.sleep(0.05)
    raise TimeoutError("unshare has started nothing")


@contextmanager
def _group() -> Iterator[Path]:
    """Yield a control group of its own, which is gone afterwards."""
    hierarchy = _hierarchy()
    assert hierarchy is not None
    group = hierarchy / f"sheafalign-{os.getpid()}"
    group.mkdir()
    try:
        yield group
    finally:
        limit = time.monotonic() + 30
        while group.is_dir() and time.monotonic() < limit:
            try:
                for path, _, _ in os.walk(group, topdown=False):
                    Path(path).rmdir()
            except OSError:  # its last process has not quite ended
                time.sleep(0.1)


def _hierarchy() -> Path | None:
    """Return where the second version of control groups is mounted."""
    for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines():
        _, place, kind, *_ = line.split()
        if kind == "cgroup2" and os.access(place, os.W_OK):
            return Path(place)
    return None


def _importable() -> list[Path]:
    """Return where what this process imports lies, the standard library aside."""
    found = [Path(entry) for entry in sys.path if entry and Path(entry).is_dir()]
    return [path for path in found if not path.is_relative_to(sys.base_prefix)]


def _program() -> str:
    """Return the command as it would be installed: this one's code by a Python outside any home."""
    path = os.pathsep.join(map(str, [ROOT, *_importable()]))
    python = _PYTHON / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    return (
        f"#!/bin/sh\nexport PYTHONHOME={_PYTHON} PYTHONPATH={path} PYTHONDONTWRITEBYTECODE=1\n"
        f"export LD_LIBRARY_PATH={_PYTHON}/lib OMP_NUM_THREADS=1\n"
        f'exec {python} -m sheafalign_fl.cli "$@"\n'
    )
