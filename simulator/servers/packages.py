"""The distribution's packages, unpacked without root."""

from __future__ import annotations

__all__ = ["UnpackedPackages", "library_path", "made_once", "run_installer", "unpack_debian"]

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from config.server_settings import server_environment
from simulator.servers.errors import ServerUnavailable

#: Seconds that an installer may take.
_TIMEOUT = 900.0
#: What dpkg knows to be installed.
_INSTALLED = "/var/lib/dpkg/status"
#: Hooks of apt that would want root.
_HOOKS = ("APT::Update::Pre-Invoke", "APT::Update::Post-Invoke", "APT::Update::Post-Invoke-Success")


class UnpackedPackages:
    """Sets of Debian packages in directories of their own.

    Parameters
    ----------
    root : `pathlib.Path`
        Directory for all of them.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def get(self, name: str, packages: Sequence[str]) -> Path:
        """Return the directory that packages are unpacked in.

        What they depend on and is not installed on this machine is there too.

        Parameters
        ----------
        name : `str`
            Of the directory.
        packages : sequence of `str`

        Raises
        ------
        simulator.servers.errors.ServerUnavailable
            Raised if they cannot be had.
        """
        return made_once(self._root / name, lambda aside: unpack_debian(packages, aside, self._root / "apt"))


def made_once(place: Path, make: Callable[[Path], None]) -> Path:
    """Return a directory, making it first if it is not there.

    Parallel runs wait for each other, and one that is interrupted leaves
    nothing that looks complete.

    Parameters
    ----------
    place : `pathlib.Path`
    make : callable
        Fills an empty directory.
    """
    if place.is_dir():
        return place
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(place.parent / "lock"):
            if not place.is_dir():
                with _aside(place) as directory:
                    make(directory)
                    directory.rename(place)
    except OSError as error:
        raise ServerUnavailable(
            f"cannot write {place}: {error}; name a directory that can be written with PP_SERVERS_DIR"
        ) from error
    return place


@contextmanager
def _aside(place: Path) -> Iterator[Path]:
    holder = Path(tempfile.mkdtemp(prefix=f".{place.name}-", dir=place.parent))
    directory = holder / place.name
    directory.mkdir()
    try:
        yield directory
    finally:
        shutil.rmtree(holder, ignore_errors=True)


def unpack_debian(packages: Sequence[str], directory: Path, state: Path) -> None:
    """Download packages and unpack them.

    Parameters
    ----------
    packages : sequence of `str`
    directory : `pathlib.Path`
        An empty directory.
    state : `pathlib.Path`
        Where apt keeps its lists for us.

    Raises
    ------
    simulator.servers.errors.ServerUnavailable
        Raised if this is no Debian, or a download fails.
    """
    apt, dpkg = shutil.which("apt-get"), shutil.which("dpkg")
    wanted = " ".join(packages)
    if apt is None or dpkg is None:
        raise ServerUnavailable(
            f"{wanted} is not installed, and without apt-get and dpkg it cannot be unpacked here; install it"
        )
    archives = directory.parent / "archives"
    for place in (state / "lists" / "partial", archives / "partial"):
        place.mkdir(parents=True, exist_ok=True)
    configuration = directory.parent / "apt.conf"
    configuration.write_text(
        f'Dir::State "{state}";\nDir::State::status "{_INSTALLED}";\n'
        f'Dir::State::lists "{state}/lists";\nDir::Cache "{state}";\nDir::Cache::archives "{archives}";\n'
        'Debug::NoLocking "true";\nAPT::Sandbox::User "root";\nAPT::Install-Recommends "false";\n'
        + "".join(f"#clear {hook};\n" for hook in _HOOKS)
    )
    update = [apt, "-qq", "-c", str(configuration), "update"]
    download = [apt, "-qq", "-y", "-c", str(configuration), "--download-only", "install", *packages]
    fresh = not any((state / "lists").glob("*_Packages*"))
    if fresh:
        run_installer(update, wanted)
    try:
        run_installer(download, wanted)
    except ServerUnavailable:
        if fresh:
            raise
        # Old lists name packages that mirrors no longer have.
        run_installer(update, wanted)
        run_installer(download, wanted)
    for archive in sorted(archives.glob("*.deb")):
        run_installer([dpkg, "-x", str(archive), str(directory)], archive.name)
    shutil.rmtree(archives)
    _keep_links_inside(directory)


def run_installer(command: Sequence[str], what: str, *, variables: Mapping[str, str] | None = None) -> None:
    """Run a program that installs something.

    Raises
    ------
    simulator.servers.errors.ServerUnavailable
        Raised if it fails; the message ends with what it printed.
    """
    try:
        done = subprocess.run(
            list(command),
            env=server_environment({"LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive", **(variables or {})}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ServerUnavailable(f"{what} is not installed and cannot be unpacked: {error}") from error
    if done.returncode != 0:
        printed = "\n".join(done.stdout.decode(errors="replace").splitlines()[-12:])
        raise ServerUnavailable(
            f"{what} is not installed and cannot be unpacked: `{' '.join(command[:2])} ...` failed with "
            f"{done.returncode}:\n{printed}\nInstall it, or see that the package registries are reached."
        )


def library_path(tree: Path) -> str:
    """Return the ``LD_LIBRARY_PATH`` for programs in an unpacked tree."""
    return ":".join(
        sorted(
            {str(lib.parent) for top in ("lib", "usr/lib") for lib in (tree / top).glob("*-linux-*/*.so*")}
        )
    )


def _keep_links_inside(tree: Path) -> None:
    """Turn absolute links into ones within the tree that holds their target."""
    for parent, directories, files in os.walk(tree):
        for name in (*directories, *files):
            link = Path(parent, name)
            if link.is_symlink() and (target := os.readlink(link)).startswith("/"):
                inside = tree / target.lstrip("/")
                if os.path.lexists(inside):
                    link.unlink()
                    link.symlink_to(os.path.relpath(inside, parent))
