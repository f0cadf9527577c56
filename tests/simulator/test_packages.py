"""Servers that are not installed: unpacked, once, whole or not at all."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from config.server_settings import ServerPlaces, server_places
from simulator.servers import java, packages, postgresql, redis
from simulator.servers.errors import ServerUnavailable
from simulator.servers.java import Java, find_java, get_jars
from simulator.servers.packages import UnpackedPackages, library_path, made_once, run_installer

#: An apt-get that "downloads" files named for packages; it notes what it was
#: asked, and fails as often as the file `failures` says.
APT = """#!{python}
import pathlib, sys
here = pathlib.Path(__file__).parent
arguments = sys.argv[1:]
with open(here / "asked", "a") as asked:
    print(*arguments, file=asked)
configuration = dict(
    line.rstrip(";").split(" ", 1)
    for line in pathlib.Path(arguments[arguments.index("-c") + 1]).read_text().splitlines()
    if not line.startswith("#")
)
place = {{name: value.strip('"') for name, value in configuration.items()}}
if arguments[-1] == "update":
    (pathlib.Path(place["Dir::State::lists"]) / "main_Packages").touch()
else:
    failures = here / "failures"
    left = int(failures.read_text()) if failures.exists() else 0
    if left:
        failures.write_text(str(left - 1))
        sys.exit("E: no such package in the mirror")
    for package in arguments[arguments.index("install") + 1:]:
        (pathlib.Path(place["Dir::Cache::archives"]) / (package + ".deb")).write_text(package)
"""
#: A dpkg that "unpacks" a program and an absolute link to it.
DPKG = """#!{python}
import pathlib, sys
_, archive, directory = sys.argv[1:]
name = pathlib.Path(archive).stem
program = pathlib.Path(directory, "usr/bin", name)
program.parent.mkdir(parents=True, exist_ok=True)
program.write_text(name)
(program.parent / (name + "-link")).symlink_to("/usr/bin/" + name)
shell = program.parent / "shell"
if not shell.is_symlink():
    shell.symlink_to("/bin/sh")
"""


@pytest.fixture
def debian(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A distribution of the test's own; its programs note what they do."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, script in (("apt-get", APT), ("dpkg", DPKG)):
        (programs / name).write_text(script.format(python=sys.executable))
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(programs))
    return programs


def asked(debian: Path) -> list[str]:
    lines = (debian / "asked").read_text().splitlines()
    return ["update" if line.endswith("update") else line.rpartition("install ")[2] for line in lines]


def test_packages_are_unpacked_once(debian: Path, tmp_path: Path) -> None:
    unpacked = UnpackedPackages(tmp_path / "servers")
    tree = unpacked.get("cache", ["redis", "tools"])
    assert (tree / "usr/bin/redis").read_text() == "redis"
    assert unpacked.get("cache", ["redis", "tools"]) == tree
    assert asked(debian) == ["update", "redis tools"]
    other = unpacked.get("base", ["postgres"])
    assert (other / "usr/bin/postgres").exists() and not (other / "usr/bin/redis").exists()
    assert asked(debian)[2:] == ["postgres"]
    # Nothing else is left behind.
    assert {path.name for path in (tmp_path / "servers").iterdir()} == {"apt", "base", "cache", "lock"}


def test_links_stay_within_what_was_unpacked(debian: Path, tmp_path: Path) -> None:
    tree = UnpackedPackages(tmp_path / "servers").get("cache", ["redis"])
    assert (tree / "usr/bin/redis-link").read_text() == "redis"
    assert (tree / "usr/bin/shell").readlink() == Path("/bin/sh")


def test_old_lists_are_renewed(debian: Path, tmp_path: Path) -> None:
    unpacked = UnpackedPackages(tmp_path / "servers")
    unpacked.get("cache", ["redis"])
    (debian / "failures").write_text("1")
    unpacked.get("base", ["postgres"])
    assert asked(debian)[2:] == ["postgres", "update", "postgres"]


def test_a_failure_is_told_and_leaves_nothing(debian: Path, tmp_path: Path) -> None:
    (debian / "failures").write_text("9")
    with pytest.raises(ServerUnavailable, match=r"redis-server is not installed(.|\n)*no such package"):
        redis.RedisServer(places=ServerPlaces(tmp_path / "servers"))
    assert not (tmp_path / "servers" / "redis").exists()
    (debian / "failures").unlink()
    assert (UnpackedPackages(tmp_path / "servers").get("redis", ["redis-server"]) / "usr/bin").is_dir()


def test_no_debian(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ServerUnavailable, match="without apt-get and dpkg"):
        UnpackedPackages(tmp_path / "servers").get("cache", ["redis"])


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ServerUnavailable, match="PP_SERVERS_DIR"):
        UnpackedPackages(tmp_path / "file" / "servers").get("cache", ["redis"])


def test_two_runs_at_once_make_it_once(tmp_path: Path) -> None:
    made = []

    def make(directory: Path) -> None:
        made.append(directory)
        (directory / "half").touch()
        time.sleep(0.2)
        (directory / "whole").touch()

    seen = []

    def get() -> None:
        place = made_once(tmp_path / "servers" / "thing", make)
        seen.append(sorted(path.name for path in place.iterdir()))

    threads = [threading.Thread(target=get) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert seen == [["half", "whole"]] * 4


def test_what_is_interrupted_is_not_taken_for_whole(tmp_path: Path) -> None:
    def fail(directory: Path) -> None:
        (directory / "half").touch()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made_once(tmp_path / "thing", fail)
    assert {path.name for path in tmp_path.iterdir()} == {"lock"}
    assert made_once(tmp_path / "thing", lambda aside: None).is_dir()


def test_an_installer_that_is_not_there() -> None:
    with pytest.raises(ServerUnavailable, match="Kafka is not installed"):
        run_installer(["/no/such/mvn"], "Kafka")


def test_libraries_of_a_tree(tmp_path: Path) -> None:
    for place in ("lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "libpq.so.5").touch()
    assert library_path(tmp_path).split(":") == [
        str(tmp_path / "lib/x86_64-linux-gnu"),
        str(tmp_path / "usr/lib/x86_64-linux-gnu"),
    ]


def test_where_servers_are_unpacked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("PP_SERVERS_DIR", raising=False)
    assert server_places(tmp_path) == ServerPlaces(tmp_path / ".servers")
    monkeypatch.setenv("PP_SERVERS_DIR", str(tmp_path / "elsewhere"))
    assert server_places(Path("/x")).unpacked == tmp_path / "elsewhere"


@pytest.mark.parametrize(("version", "installed"), [("17.0.1", True), ("21", True), ("11.0.2", False)])
def test_a_java_that_is_too_old_is_passed_over(
    version: str, installed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "java"
    program.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\"' >&2\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    unpacked = tmp_path / "servers" / "java" / "usr/lib/jvm/java-17/bin/java"
    unpacked.parent.mkdir(parents=True)
    unpacked.touch()
    assert find_java(ServerPlaces(tmp_path / "servers")).program == (program if installed else unpacked)


def test_maven_fetches_the_jars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    maven = tmp_path / "mvn"
    maven.write_text(
        '#!/bin/sh\nfor a in "$@"; do case $a in -DoutputDirectory=*) d=${a#*=};; esac; done\n'
        'echo "$JAVA_HOME $MAVEN_OPTS" > "$d/kafka.jar"\n'
    )
    maven.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    home = tmp_path / "jvm"
    (home / "bin").mkdir(parents=True)
    (home / "bin" / "java").touch()
    pom = Path(java.__file__).with_name("kafka.pom.xml")
    jars = get_jars(ServerPlaces(tmp_path / "servers"), Java(home / "bin" / "java"), pom, "kafka")
    assert [path.name for path in jars.iterdir()] == ["kafka.jar"]
    told = (jars / "kafka.jar").read_text()
    # Without a trust store of its own, Java is given what Python trusts.
    assert told.startswith(f"{home} ") and "trustStore=" in told


def test_java_reads_the_trust_store(tmp_path: Path) -> None:
    keytool = ServerPlaces(tmp_path).which("keytool")
    if keytool is None:
        pytest.skip("no keytool is installed")
    store = tmp_path / "trusted.p12"
    store.write_bytes(java._trust_store())
    done = subprocess.run(
        [keytool, "-list", "-keystore", store, "-storepass", java._PASSWORD],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("trustedCertEntry") > 0


def test_a_postgresql_of_another_version(debian: Path, tmp_path: Path) -> None:
    with pytest.raises(ServerUnavailable, match="none of 17, 16, 15"):
        postgresql.PostgreSQLServer(places=ServerPlaces(tmp_path / "servers", use_installed=False))
    assert packages.UnpackedPackages(tmp_path / "servers").get("postgresql", []).is_dir()
