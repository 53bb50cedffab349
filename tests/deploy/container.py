"""Builds the Dockerfile of ``examples/deploy`` without a container engine, and syncs in what came out. `make container` runs it.

Each instruction is executed in a root of Debian by `chroot`, as the user that the Dockerfile names, so that its script, its
rights and its paths are tried as they are. Needs root, `debootstrap`, Debian's mirror and PyPI; about 3 minutes the first time.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "examples" / "deploy"
PLACE = ROOT / ".cache" / "container"
MIRROR = "http://deb.debian.org/debian"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")

SPEC = """\
kind: source
spec:
  name: shop
  path: sqlite
  destinations: [warehouse]
  backend_spec: {path: /state}
  spec: {path: /data/shop.db, tables: {orders: {incremental_key: id}}}
---
kind: destination
spec: {name: warehouse, path: duckdb, spec: {path: /data/warehouse.duckdb}}
"""
SHOP = """\
import sqlite3
with sqlite3.connect("/data/shop.db") as shop:
    shop.execute("CREATE TABLE IF NOT EXISTS orders (id INTEGER PRIMARY KEY)")
    shop.execute("INSERT INTO orders DEFAULT VALUES")
"""


@dataclass
class Stage:
    """An image in the making: a directory, and what instructions have said of it."""

    root: Path
    variables: dict[str, str] = field(
        default_factory=lambda: {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
    )
    user: str = "0"
    directory: str = "/"
    command: dict[str, list[str]] = field(default_factory=dict)

    def run(self, *command: str, **variables: str) -> str:
        """What it prints."""
        environment = [f"{name}={value}" for name, value in {**self.variables, "HOME": "/tmp", **variables}.items()]
        inside = ["sh", "-c", f"cd {shlex.quote(self.directory)} && exec {shlex.join(command)}"]
        whole = ["chroot", f"--userspec={self.user}:{self.user}", str(self.root), "env", "-i", *environment, *inside]
        done = subprocess.run(whole, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"{shlex.join(command)}\n{done.stdout}{done.stderr}\nexit code {done.returncode}")
        return done.stdout + done.stderr


def instructions(dockerfile: Path) -> Iterator[tuple[str, str]]:
    """Name and rest of each."""
    text = re.sub(r"^\s*#.*\n", "", dockerfile.read_text("utf-8"), flags=re.MULTILINE)
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        if line.strip():
            name, rest = line.split(maxsplit=1)
            yield name, rest


def base() -> Path:
    """Debian's stable root, made once."""
    root = PLACE / "debian"
    if not (root / "ready").exists():
        shutil.rmtree(root, ignore_errors=True)
        root.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            ["debootstrap", "--variant=minbase", "bookworm", root, MIRROR], check=True, stdout=subprocess.DEVNULL
        )
        (root / "ready").touch()
    return root


def copy(stage: Stage, stages: dict[str, Stage], rest: str) -> None:
    """COPY: from the checkout what `Dockerfile.dockerignore` lets through, or from another stage."""
    *flags, source, target = rest.split()
    options = dict(flag.removeprefix("--").split("=") for flag in flags)
    to = stage.root / target.lstrip("/")
    if "from" in options:
        subprocess.run(["cp", "-a", stages[options["from"]].root / source.lstrip("/"), to], check=True)
    else:
        for line in (DEPLOY / "Dockerfile.dockerignore").read_text("utf-8").splitlines():
            if line.startswith("!"):
                (to / line[1:]).parent.mkdir(parents=True, exist_ok=True)
                subprocess.run(["cp", "-a", ROOT / source / line[1:], to / line[1:]], check=True)
    subprocess.run(["chown", "-R", options.get("chown", "root:root"), to], check=True)


def build(dockerfile: Path) -> Stage:
    """The last stage."""
    stages: dict[str, Stage] = {}
    stage = Stage(Path())
    for name, rest in instructions(dockerfile):
        sys.stdout.write(f"{name} {rest[:100]}\n")
        if name == "FROM":
            image, _, label = rest.partition(" AS ")
            assert image == "debian:bookworm-slim"
            stage = stages[label or "last"] = Stage(PLACE / (label or "last"))
            shutil.rmtree(stage.root, ignore_errors=True)
            subprocess.run(["cp", "-a", base(), stage.root], check=True)
            shutil.copy("/etc/resolv.conf", stage.root / "etc" / "resolv.conf")
        elif name == "RUN":
            trusted = {name: str(CERTIFICATES) for name in ("PIP_CERT", "SSL_CERT_FILE") if CERTIFICATES.exists()}
            stage.run("sh", "-c", rest, DEBIAN_FRONTEND="noninteractive", **trusted)
            if CERTIFICATES.exists() and "ca-certificates" in rest:
                shutil.copy(CERTIFICATES, stage.root / "etc/ssl/certs")  # those that this machine trusts
        elif name == "COPY":
            copy(stage, stages, rest)
        elif name == "ENV":
            stage.variables |= {
                key: value.replace("$PATH", stage.variables["PATH"])
                for key, value in (one.split("=") for one in rest.split())
            }
        elif name in {"USER", "WORKDIR"}:
            setattr(stage, {"USER": "user", "WORKDIR": "directory"}[name], rest)
        else:
            stage.command[name] = json.loads(rest)
    return stage


def main() -> None:
    """Build, and sync twice from an empty directory: the state is all that is kept."""
    if os.geteuid() or not shutil.which("debootstrap"):
        sys.exit("this needs root, for chroot, and debootstrap: apt-get install debootstrap")
    image = build(DEPLOY / "Dockerfile")
    for directory in ("data", "spec"):
        (image.root / directory).mkdir()
    shutil.chown(image.root / "data", 10001, 10001)
    (image.root / "spec" / "strandline.yml").write_text(SPEC, "utf-8")
    assert image.run("id", "-u").strip() == "10001"
    image.run("sh", "-c", "test -w /state && test ! -w /opt/strandline/bin/strandline && test ! -w /opt/strandline/lib")
    for new, expected in (
        (1, "1 row"),
        (1, "2 rows"),
        (0, "1 row"),
    ):  # everything; the border and what is new; the border
        image.run("python3", "-c", SHOP * new)
        image.run("sh", "-c", "rm -rf /work/* /work/.[!.]*")
        said = image.run(*image.command["ENTRYPOINT"], *image.command["CMD"], "/spec/strandline.yml")
        sys.stdout.write(said)
        assert f"{expected} read" in said
    size = subprocess.run(["du", "-sm", image.root], capture_output=True, text=True, check=True).stdout.split()[0]
    before = subprocess.run(["du", "-sm", base()], capture_output=True, text=True, check=True).stdout.split()[0]
    sys.stdout.write(f"the image has {size} MB, of which Debian's minimal root {before}\n")


if __name__ == "__main__":
    main()
