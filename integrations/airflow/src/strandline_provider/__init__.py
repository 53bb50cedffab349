"""Strandline in Airflow: ``strandline_provider.operators.sync``."""

from typing import Any

__all__ = ["get_provider_info"]

__version__ = "0.1.0"


def get_provider_info() -> dict[str, Any]:
    """What Airflow lists of this provider."""
    name = "Strandline"
    return {
        "package-name": "airflow-provider-strandline",
        "name": name,
        "description": "Syncs tables incrementally, and never leaves a gap.",
        "integrations": [
            {"integration-name": name, "external-doc-url": "https://pypi.org/project/strandline", "tags": ["software"]}
        ],
        "operators": [{"integration-name": name, "python-modules": ["strandline_provider.operators.sync"]}],
        "versions": [__version__],
    }
