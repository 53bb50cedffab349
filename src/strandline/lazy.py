"""Heavy modules, imported at their first use.

``strandline --help``, ``validate-config`` and ``state list`` must not pay for Arrow or a driver, yet the settings of a
connector stand in the connector's own file. So built-in modules write ``from strandline.lazy import pa`` and the real
module is imported when an attribute is first read. ``importlib`` serialises that between threads. The drivers of one system
are made lazy in its own room, by ``Lazy``.
"""

import importlib
from types import ModuleType
from typing import TYPE_CHECKING, Any

__all__ = ["Lazy", "pa", "pa_csv", "pa_json", "pc", "pq"]


class Lazy(ModuleType):
    """The module of this name, once an attribute of it is read.

    For a type checker, import the real one under ``if TYPE_CHECKING``.
    """

    def __getattr__(self, name: str) -> Any:
        value = getattr(importlib.import_module(self.__name__), name)
        setattr(self, name, value)
        return value


if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.csv as pa_csv
    import pyarrow.json as pa_json
    import pyarrow.parquet as pq
else:
    pa = Lazy("pyarrow")
    pa_csv = Lazy("pyarrow.csv")
    pa_json = Lazy("pyarrow.json")
    pc = Lazy("pyarrow.compute")
    pq = Lazy("pyarrow.parquet")
