"""What others may build on: public names, their documentation, and the entry points."""

import importlib
import inspect
import re
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from pydantic import BaseModel

from strandline.plugins import KINDS, load_plugin

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
PLUGINS = [(kind, name) for kind in KINDS for name in PROJECT["project"]["entry-points"][f"strandline.{kind}"]]


def public_modules() -> list[str]:
    """Every module of ours without an underscore, but for the command line, which is used and not imported."""
    src = ROOT / "src"
    found = [path.relative_to(src).with_suffix("").parts for path in sorted(src.rglob("*.py"))]
    return [".".join(parts) for parts in found if "cli" not in parts and not any(part[0] == "_" for part in parts)]


def rank(name: str) -> tuple[int, str]:
    """Constants, then classes, then the rest, as ruff sorts ``__all__``."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


@pytest.mark.parametrize("name", public_modules())
def test_a_public_module_says_what_is_public(name):
    module = importlib.import_module(name)
    assert list(module.__all__) == sorted(set(module.__all__), key=rank)
    for public in module.__all__:
        assert hasattr(module, public), f"{name}.{public} does not exist"


@pytest.mark.parametrize("name", public_modules())
def test_what_is_public_is_documented(name):
    module = importlib.import_module(name)
    for public in module.__all__:
        thing = getattr(module, public)
        if (inspect.isclass(thing) or inspect.isfunction(thing)) and thing.__module__ == name:
            text = inspect.getdoc(thing) or ""
            generated = f"{thing.__name__}("  # a dataclass without a docstring gets its signature
            assert text, f"{name}.{public} has no docstring"
            assert not text.startswith(generated), f"{name}.{public} has no docstring"


def test_the_installed_entry_points_are_those_of_the_project():
    installed = {(kind, point.name) for kind in KINDS for point in entry_points(group=f"strandline.{kind}")}
    assert installed >= set(PLUGINS)


@pytest.mark.parametrize(("kind", "name"), PLUGINS)
def test_an_entry_point_loads_a_class_with_documented_settings(kind, name):
    plugin = load_plugin(kind, name)
    spec = plugin.Spec
    assert issubclass(spec, BaseModel)
    assert spec.model_config.get("extra") == "forbid", "a misspelt setting must be an error"
    for field, info in spec.model_fields.items():
        assert info.description, f"{kind} {name}: the setting {field!r} has no description"


@pytest.mark.parametrize(("kind", "name"), PLUGINS)
def test_a_plugin_stands_in_the_room_of_its_system(kind, name):
    plugin = load_plugin(kind, name)
    assert re.fullmatch(rf"strandline\.connectors\.[a-z]+\.{kind.removesuffix('_backend')}", plugin.__module__)
    assert plugin.__name__ in importlib.import_module(plugin.__module__).__all__
