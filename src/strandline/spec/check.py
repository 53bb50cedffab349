"""Checks a part of a spec against a pydantic model, and says what is wrong where it stands."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias, TypeVar, get_args

from pydantic import BaseModel, SecretBytes, SecretStr, ValidationError
from pydantic_core import ErrorDetails

from strandline.errors import Problem, did_you_mean
from strandline.spec.document import Node
from strandline.spec.variables import register_secrets

__all__ = ["check"]

Model = TypeVar("Model", bound=BaseModel)
Path: TypeAlias = tuple[str | int, ...]

_QUOTED = re.compile(r"'([^']*)'")


def check(
    model: type[Model],
    document: Node,
    problems: list[Problem],
    *,
    below: Sequence[str] = (),
    value: Mapping[str, Any] | None = None,
) -> Model | None:
    """The part of ``document`` at ``below`` as ``model``; ``None`` where it does not fit, with every reason.

    Args:
        model: pydantic's.
        document: in which the part stands; it may be missing, as if it were empty.
        problems: what is wrong is added here, one problem for each place.
        below: the path to the part.
        value: what to check in its stead, with the same keys: without what was handled before.
    """
    node, depth = document.at(below)
    if depth == len(below):
        _register_secrets(model, node)
    if value is None:
        value = node.plain() if depth == len(below) and node.value is not None else {}
    try:
        return model.model_validate(value)
    except ValidationError as error:
        found: dict[tuple[int, str], Problem] = {}
        unresolved = {problem.where for problem in problems}
        for detail in error.errors(include_url=False):
            place, problem = _problem(model, document, tuple(below), detail)
            # The branches of a union fail one by one, all at the same place.
            if place in found and problem.message not in found[place].message:
                message = f"{found[place].message}; or {problem.message.partition(': ')[2]}"
                problem = replace(found[place], message=message, hint=found[place].hint or problem.hint)
            found[place] = problem
        # A variable that is not set leaves a text that may fit nothing: said once is enough.
        problems += (problem for (_, field), problem in found.items() if field or problem.where not in unresolved)
        return None


def _problem(
    model: type[BaseModel], document: Node, below: Path, detail: ErrorDetails
) -> tuple[tuple[int, str], Problem]:
    """What is wrong, and a key that is the same for problems that are one."""
    kind, loc = detail["type"], detail["loc"]
    if kind in ("missing", "extra_forbidden"):
        last, path = str(loc[-1]), _existing(document, (*below, *loc[:-1]))
        parent, _ = document.at(path)
        if kind == "missing":
            place = _dotted(path if len(path) > len(below) else below)
            path = path[: document.at(path)[1]]
            above, _ = document.at(path[:-1])
            problem = above.problem(f"missing field {last!r} in `{place}`", key=str(path[-1]) if path else None)
            return (parent.index, last), problem
        known = sorted(_field_names(model, path[len(below) :]))
        hint = did_you_mean(last, known, f"the fields are {', '.join(known)}" if known else "remove it")
        return (parent.index, last), parent.problem(f"unknown field {last!r}", hint, key=last)
    path = _existing(document, (*below, *loc))
    node, _ = document.at(path)
    message = re.sub(r"^(Input|Value error,|Assertion failed,) ?", "", detail["msg"])
    message = "nothing is in this list" if kind == "too_short" and detail["input"] == [] else message
    return (node.index, ""), node.problem(f"`{_dotted(path)}`: {message}", _hint(detail, node))


def _existing(document: Node, path: Path) -> Path:
    """The parts of ``path`` that exist in ``document``: pydantic adds the names of a union's branches."""
    found: Path = ()
    for part in path:
        if document.at((*found, part))[1] == len(found) + 1:
            found = (*found, part)
    return found


def _dotted(path: Sequence[str | int]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


def _hint(detail: ErrorDetails, node: Node) -> str:
    if detail["type"] in ("literal_error", "enum"):
        return did_you_mean(str(detail["input"]), _QUOTED.findall(detail["ctx"]["expected"]))
    if detail["type"] == "too_short" and detail["loc"][-1] == "tables":
        return 'tables: ["*"] is every table of the source'
    if detail["type"] == "string_type" and isinstance(node.value, bool | int | float):
        return f'put it in quotes: "{node.raw}"'
    if detail["type"] == "string_type" and isinstance(node.value, dict) and node.file.text[node.index] == "{":
        return "put it in quotes, for braces without them are a mapping"
    if detail["type"] in ("list_type", "tuple_type", "set_type") and isinstance(node.value, str):
        return "write a list: [one, two]"
    return ""


def _field_names(model: type[BaseModel], path: Sequence[str | int]) -> set[str]:
    """The fields of whatever models stand at ``path`` below ``model``."""
    models = {model}
    for part in path:
        fields = [kind.model_fields[part] for kind in models if part in kind.model_fields]
        if fields:
            models = {below for field in fields for below in _models(field.annotation)}
    return {field.alias or name for kind in models for name, field in kind.model_fields.items()}


def _register_secrets(model: type[BaseModel], node: Node) -> None:
    """Register what stands in fields that pydantic keeps as secrets, whether it is valid or not."""
    for name, field in model.model_fields.items():
        below = node.get(field.alias or name)
        if below is None:
            continue
        if _is_secret(field.annotation):
            register_secrets(below, secret=True)
        items = below.value if isinstance(below.value, list) else []
        entries = below.value.values() if isinstance(below.value, dict) else []
        for inner in _models(field.annotation):
            for part in (below, *items, *(entry.node for entry in entries)):
                _register_secrets(inner, part)


def _is_secret(annotation: Any) -> bool:
    return annotation in (SecretStr, SecretBytes) or any(map(_is_secret, get_args(annotation)))


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)
