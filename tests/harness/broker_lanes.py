"""RabbitMQ in a chosen version: the installed one, or one from another Debian release in a folder.

Such a folder is called a lane. debootstrap builds it once under the cache directory; later runs reuse it. Programs of a
lane run in a mount namespace in which the folder's /usr and /etc replace the machine's; all other paths, ports and
processes are the machine's. The kernel removes the mounts with the last process that uses them, however it ends, so
nothing needs to be unmounted, and nodes of several versions can run at the same time.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.harness.packages import find_program, require
from tests.harness.processes import HarnessError

#: RabbitMQ's version -> the Debian release that contains it.
RELEASES = {"3.10": "bookworm", "4.0": "trixie", "4.3": "forky"}
#: Environment variables: the version for a run without `--rabbitmq`, the folder of the lanes, a Debian mirror.
VERSION, FOLDER, MIRROR = "TURBO_TEST_RABBITMQ", "TURBO_TEST_LANES", "TURBO_TEST_DEBIAN_MIRROR"

_SERVERS = "usr/lib/rabbitmq/lib"
_SCRIPTS = Path("/usr/share/debootstrap/scripts")
#: Part of the mark of a complete lane; increment it when the steps of `_build` change.
_RECIPE = 1
_OVERLAY = 'mount --bind "$0/etc" /etc && mount --bind "$0/usr" /usr && exec "$@"'
_INSIDE = 'mount -t proc proc "$0/proc" && mount --rbind /dev "$0/dev" && exec chroot "$0" "$@"'
_INSTALL = (
    # The release file of a testing release may have expired.
    "apt-get -o Acquire::Check-Valid-Until=false -q update && "
    "apt-get install -q -y --no-install-recommends rabbitmq-server && apt-get clean && rm -rf /var/lib/apt/lists/*"
)


@dataclass(frozen=True, slots=True)
class Lane:
    """The location of one RabbitMQ's programs. `root` is None for the installed one."""

    version: str  # from the name of its folder, such as 4.0.5
    programs: Path = Path("/usr/lib/rabbitmq/bin")
    root: Path | None = None

    def command(self, *arguments: str | Path) -> list[str]:
        """Return the command line for a program of this RabbitMQ; it execs the program, without a parent process."""
        prefix = [] if self.root is None else _namespace(_OVERLAY, self.root)
        return [*prefix, *map(str, arguments)]

    def __str__(self) -> str:
        place = "the machine's own" if self.root is None else str(self.root)
        return f"RabbitMQ {self.version} ({place})"


def lane(version: str | None = None) -> Lane:
    """Return RabbitMQ in this version ("4.3"), built if necessary; None means the installed one.

    Raises HarnessError, with advice, for an unknown version or one that cannot be built or run.
    """
    if version is not None and version not in RELEASES:
        raise HarnessError(f"there is no lane of RabbitMQ {version}; there are {', '.join(RELEASES)}")
    if version is None or (find_program("rabbitmq-server") and _installed(Path("/")).startswith(f"{version}.")):
        program = require("rabbitmq-server")
        return Lane(_installed(Path("/")), program.parent)
    root = _folder() / f"rabbitmq-{version}"
    _folder().mkdir(parents=True, exist_ok=True)
    with (_folder() / f"{root.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another run may be building the same one
        if not _complete(root, version):
            _build(root, version)
    found = Lane(_installed(root), root=root)
    _run(
        found.command("/bin/true"),
        f"a mount namespace is needed to run {found}: run as root, in a container privileged",
    )
    return found


def _folder() -> Path:
    """Return the folder of the lanes, which have some 500 MB each."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get(FOLDER) or cache / "turbo-tests")


def _mark(version: str) -> str:
    return f"{RELEASES[version]} {_RECIPE}\n"


def _complete(root: Path, version: str) -> bool:
    """Return whether a folder was built completely, by the current steps."""
    mark = root / ".complete"
    return mark.exists() and mark.read_text() == _mark(version) and _installed(root).startswith(f"{version}.")


def _installed(root: Path) -> str:
    """Return the version of RabbitMQ below `root`; "" if there is none."""
    found = sorted((root / _SERVERS).glob("rabbitmq_server-*"))
    return found[-1].name.partition("-")[2] if found else ""


def _build(root: Path, version: str) -> None:
    """Build in a folder next to `root` and rename it at the end, so that an incomplete lane is never used."""
    if os.geteuid() != 0:
        raise HarnessError(f"building a lane of RabbitMQ {version} needs root: run once as root, or set {FOLDER} to a "
                           f"folder that has {root.name}")  # fmt: skip
    release, building = RELEASES[version], root.with_name(f"{root.name}.building")
    for old in (root, building):
        shutil.rmtree(old, ignore_errors=True)
    advice = f"RabbitMQ {version} could not be built in {building}; is the mirror there? {MIRROR} names another"
    # All Debian releases use the same script; an older debootstrap may not have one for a newer release.
    debootstrap = [
        str(require("debootstrap")),
        "--variant=minbase",
        release,
        str(building),
        _mirror(),
        str(_SCRIPTS / "sid"),
    ]
    _run([*_namespace('exec "$@"', building), *debootstrap], advice)
    (building / "etc" / "hosts").write_text("127.0.0.1 localhost\n")
    shutil.copyfile("/etc/resolv.conf", building / "etc" / "resolv.conf")
    services = building / "usr" / "sbin" / "policy-rc.d"
    services.write_text("#!/bin/sh\nexit 101\n")  # the installed server is not to be started as a service
    services.chmod(0o755)
    _run([*_namespace(_INSIDE, building), "sh", "-c", _INSTALL], advice)
    if not _installed(building).startswith(f"{version}."):
        raise HarnessError(f"Debian {release} has RabbitMQ {_installed(building)} now, not {version}: set {MIRROR} to "
                           f"a snapshot that has it (https://snapshot.debian.org/archive/debian/DATE)")  # fmt: skip
    (building / ".complete").write_text(_mark(version))
    building.rename(root)


def _mirror() -> str:
    """Return the Debian mirror that apt uses on this machine, or the default one."""
    if MIRROR in os.environ:
        return os.environ[MIRROR]
    sources = [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]
    text = "\n".join(source.read_text() for source in sources if source.is_file())
    found = re.search(r"^[^#\n]*?(https?://\S+/debian)/?(\s|$)", text, re.MULTILINE)
    return found[1] if found else "https://deb.debian.org/debian"


def _namespace(script: str, root: Path) -> list[str]:
    """Return a prefix that runs `script` in a private mount namespace, with `root` as $0 and the command as $@."""
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, str(root)]


def _run(command: Sequence[str], advice: str) -> None:
    proxies = {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
    run = subprocess.run(
        command,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "HOME": "/root",
             "DEBIAN_FRONTEND": "noninteractive", **proxies},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if run.returncode != 0:
        raise HarnessError(f"{advice}.\n{' '.join(command)} failed ({run.returncode}):\n"
                           f"{run.stdout[-1000:]}\n{run.stderr[-2000:]}")  # fmt: skip
