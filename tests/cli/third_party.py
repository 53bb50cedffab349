"""A plugin package as a third party would install it, made of files: found by its entry points."""

import shutil
from pathlib import Path

SOURCE = """
from typing import Literal
from pydantic import BaseModel, ConfigDict, Field, SecretStr
from strandline.lazy import pa
from strandline.table import Table


class Below(BaseModel):
    model_config = ConfigDict(extra="forbid")
    incremental_key: str | None = Field(default=None, description="Grows.")
    start: int | str | None = Field(default=None, description="Where the first sync starts.")
    opener: list[SecretStr] = Field(default=[], description="Opens it, though its name does not say so.")


class Acme:
    class Spec(BaseModel):
        model_config = ConfigDict(extra="forbid")
        url: str = Field(description="Where it is.")
        port: int = Field(default=5432, description="Its port.")
        ratio: float = Field(default=0.5, description="Some share.")
        fast: bool = Field(default=False, description="Whether to hurry.")
        mode: Literal["slow", "quick"] = Field(default="slow", description="How.")
        api_key: SecretStr | None = Field(default=None, description="Opens it.")
        label: str = Field(default="", description="Any text.")
        tables: dict[str, Below] = Field(default={}, description="Settings of tables.")

    def __init__(self, spec):
        self.spec = spec

    def tables(self):
        if self.spec.url == "broken":
            raise KeyError(f"no such place: {self.spec.label}")
        orders = pa.schema([("id", pa.int64()), ("at", pa.timestamp("us", tz="UTC"))])
        lines = pa.schema([("id", pa.int64()), ("text", pa.string())])
        return [
            Table("orders", orders, ("id",), ("at",), incremental=True, description="What was bought."),
            Table("Lines/../x", lines, ("id",), parent="orders"),
            Table("audit", lines),
        ]

    def close(self):
        pass
"""

DESTINATION = """
from pydantic import BaseModel, ConfigDict, Field
from strandline.destination import Capabilities, Delivery, WriteMode


class Log:
    class Spec(BaseModel):
        model_config = ConfigDict(extra="forbid")
        path: str = Field(description="Where it is.")

    def __init__(self, spec):
        self.spec = spec

    @property
    def capabilities(self):
        return Capabilities(write_modes=frozenset({WriteMode.APPEND}), delivery=Delivery.PLAIN)

    def close(self):
        pass


class Store(Log):
    @property
    def capabilities(self):
        return Capabilities(write_modes=frozenset(WriteMode), delivery=Delivery.ATOMIC)
"""

ENTRY_POINTS = """
[strandline.source]
acme = acme_strandline.source:Acme
absent = acme_absent:Absent

[strandline.destination]
store = acme_strandline.destination:Store
log = acme_strandline.destination:Log
"""


def install(site: Path) -> None:
    """Put the package where ``site`` is searched for modules."""
    package, info = site / "acme_strandline", site / "acme_strandline-3.1.dist-info"
    package.mkdir(parents=True)
    info.mkdir()
    (package / "__init__.py").touch()
    (package / "source.py").write_text(SOURCE)
    (package / "destination.py").write_text(DESTINATION)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-strandline\nVersion: 3.1\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)


KIOSK = """
[strandline.source]
kiosk = kiosk_strandline:KioskSource

[strandline.destination]
kiosk = kiosk_strandline:KioskDestination

[strandline.state_backend]
kiosk = kiosk_strandline:KioskState
"""


def install_kiosk(site: Path) -> None:
    """Put the package of ``kiosk.py`` where ``site`` is searched for modules: plugins that work."""
    info = site / "kiosk_strandline-1.2.dist-info"
    info.mkdir(parents=True)
    shutil.copy(Path(__file__).with_name("kiosk.py"), site / "kiosk_strandline.py")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: kiosk-strandline\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(KIOSK)
