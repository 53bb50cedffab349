"""``.env`` beside a spec: variables that the environment lacks, in the grammar of python-dotenv.

Only ``${NAME}`` sees them. The process's own environment, which drivers and child processes read, stays as it is.
"""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from strandline.errors import Problem
from strandline.lazy import Lazy

if TYPE_CHECKING:
    from dotenv import parser
else:
    parser = Lazy("dotenv.parser")

__all__ = ["with_env_file"]

_ENV_FILE = ".env"
_BYTES_MAX = 256 << 10
_HINT = "correct it, or leave it aside by --no-env-file"


def with_env_file(environment: Mapping[str, str], spec: Path, problems: list[Problem]) -> Mapping[str, str]:
    """``environment``, and what ``.env`` beside ``spec`` says of variables that it lacks.

    What is set to nothing is set. A value is taken literally: ``${NAME}`` in it is not replaced. What is wrong with the
    file goes to ``problems``, without the line, which may hold a secret.
    """
    place = spec.with_name(_ENV_FILE)
    if not place.is_file():  # where it is a directory, it is something else
        return environment
    return {**_read(place, problems), **environment}


def _read(place: Path, problems: list[Problem]) -> dict[str, str]:
    try:
        with place.open("rb") as stream:
            data = stream.read(_BYTES_MAX + 1)
        text = data.decode("utf-8-sig")
    except OSError as error:
        problems.append(Problem(f"it cannot be read: {error.strerror}", str(place), hint=_HINT))
        return {}
    except UnicodeDecodeError:
        problems.append(Problem("it is not UTF-8", str(place), hint=_HINT))
        return {}
    if len(data) > _BYTES_MAX:
        problems.append(Problem(f"it is larger than {_BYTES_MAX >> 10} KiB", str(place), hint=_HINT))
        return {}
    found = {}
    for binding in parser.parse_stream(io.StringIO(text, newline=None)):
        if binding.error:
            where = f"{place}:{binding.original.line}:1"
            problems.append(Problem("this line is not NAME=value, or a quote is not closed", where, hint=_HINT))
        elif binding.key is not None and binding.value is not None:
            found[binding.key] = binding.value
    return found
