"""The spec: what is read from where, and stored where. CloudQuery's documents, as typed values.

::

    config = load([Path("strandline.yml")])    # UsageError with every problem at once
    for source in config.sources:
        reader = source.open()                 # cls(cls.Spec(...)) of the plugin; touches nothing outside

YAML is parsed first (``document``), then ``${…}`` is replaced inside texts (``variables``), then everything is checked
against models (``check``, ``models``, ``tables``), the plugins' own included. Nothing here imports Arrow or a driver.
"""

from strandline.spec.models import Batch, DestinationBackend, DestinationSpec, SourceSpec
from strandline.spec.notification import Notification
from strandline.spec.reading import FILE_NAME, Config, Written, discover, load

__all__ = [
    "FILE_NAME",
    "Batch",
    "Config",
    "DestinationBackend",
    "DestinationSpec",
    "Notification",
    "SourceSpec",
    "Written",
    "discover",
    "load",
]
