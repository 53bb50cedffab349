"""Environments of their own for programs of other people."""

import subprocess
import sys
from pathlib import Path

__all__ = ["environment"]

_UV = Path(sys.executable).with_name("uv")


def environment(place: Path, *packages: str) -> Path:
    """Where the programs are of an environment that has ``packages``: as ``pip install`` takes them. Made, or brought up to date."""
    if not (place / "bin" / "python").exists():
        subprocess.run([_UV, "venv", "--quiet", "--clear", "--python", sys.executable, place], check=True)
    subprocess.run([_UV, "pip", "install", "--quiet", "--python", place, *packages], check=True)
    return place / "bin"
