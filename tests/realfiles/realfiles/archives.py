"""The packages that the files come from: pinned, fetched by each registry's own client, and checked.

The manifest is a list of packages: ``registry`` (pypi, npm, debian, crates), ``name``, ``version``, ``archive`` (its file's
name), ``sha256``, perhaps ``options`` (arguments for the client) and ``licence``, and ``files`` (paths in the archive).
"""

import hashlib
import json
import os
import shutil
import subprocess
import tarfile
import zipfile
from dataclasses import dataclass
from fnmatch import fnmatchcase
from io import BytesIO
from pathlib import Path

MANIFEST = Path(__file__).with_name("manifest.json")
FILES_MAX = 20
"""Of one package, so that no single maker of files decides."""


class FetchError(Exception):
    """A package is not to be had, or is another one than it was."""


@dataclass(frozen=True)
class Package:
    registry: str
    name: str
    version: str
    archive: str
    sha256: str
    files: tuple[str, ...]
    options: tuple[str, ...] = ()
    licence: str = ""

    def __str__(self):
        return f"{self.registry}/{self.name}-{self.version}"


def packages(manifest=MANIFEST):
    entries = json.loads(manifest.read_text("utf-8"))
    return [
        Package(**(entry | {name: tuple(entry.get(name, ())) for name in ("files", "options")})) for entry in entries
    ]


def chosen(of, pattern):
    return [one for one in of if fnmatchcase(str(one), f"*{pattern}*")]


def fetched(package, cache):
    """The package's archive, from the cache or its registry.

    Raises:
        FetchError: it cannot be had, or its digest is another one.
    """
    path = cache / package.registry / package.archive
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        _CLIENTS[package.registry](package, path.parent)
    if not path.exists():
        raise FetchError(f"{package}: the registry gave no {package.archive}")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != package.sha256:
        raise FetchError(f"{package}: the SHA-256 is {digest}, not {package.sha256}; remove {path} to fetch it again")
    return path


def contents(path):
    """The bytes of a member of the archive, by its path."""
    if path.suffix in {".whl", ".zip"}:
        with zipfile.ZipFile(path) as archive:
            return {name: archive.read(name) for name in archive.namelist() if not name.endswith("/")}
    packed = path.read_bytes()
    if path.suffix == ".deb":
        packed = subprocess.run(["dpkg-deb", "--fsys-tarfile", path], check=True, capture_output=True).stdout
    with tarfile.open(fileobj=BytesIO(packed)) as archive:
        return {one.name: archive.extractfile(one).read() for one in archive if one.isfile()}


def _run(*command, folder, **env):
    if shutil.which(command[0]) is None:
        raise FetchError(f"{command[0]} is not installed")
    done = subprocess.run(command, cwd=folder, env=os.environ | env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise FetchError(f"{' '.join(command)}: {done.stderr.strip()[-500:]}")


def _pypi(package, folder):
    pinned = f"{package.name}=={package.version}"
    _run("pip", "download", "--quiet", "--no-deps", *package.options, "--dest", ".", pinned, folder=folder)


def _npm(package, folder):
    _run("npm", "pack", "--silent", f"{package.name}@{package.version}", folder=folder)


def _debian(package, folder):
    _run("apt-get", "download", f"{package.name}={package.version}", folder=folder)


def _crates(package, folder):
    project = folder / "project"
    (project / "src").mkdir(parents=True, exist_ok=True)
    (project / "src" / "lib.rs").touch()
    wanted = (
        f'[package]\nname = "realfiles"\nversion = "0.0.0"\n[dependencies]\n{package.name} = "={package.version}"\n'
    )
    (project / "Cargo.toml").write_text(wanted, "utf-8")
    home = project / "home"
    _run("cargo", "fetch", "--quiet", folder=project, CARGO_HOME=str(home))
    for path in home.glob(f"registry/cache/*/{package.archive}"):
        path.replace(folder / package.archive)


_CLIENTS = {"pypi": _pypi, "npm": _npm, "debian": _debian, "crates": _crates}
