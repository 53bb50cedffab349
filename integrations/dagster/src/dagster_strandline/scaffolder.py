"""``dg scaffold defs dagster_strandline.StrandlineSpecComponent NAME``."""

from dagster.components import Scaffolder, ScaffoldRequest, scaffold_component

__all__ = ["StrandlineSpecScaffolder"]

_SPEC = """\
kind: source
spec:
  name: shop
  path: postgresql
  destinations: [warehouse]
  backend: destination  # the cursors lie beside the rows
  spec:
    connection_string: ${SHOP_URL}
---
kind: destination
spec:
  name: warehouse
  path: duckdb
  spec:
    path: warehouse.duckdb
"""


class StrandlineSpecScaffolder(Scaffolder):
    """A definition, and a spec beside it to begin with."""

    def scaffold(self, request: ScaffoldRequest) -> None:
        """See ``Scaffolder``."""
        scaffold_component(request, {"spec": "strandline.yml"})
        (request.target_path / "strandline.yml").write_text(_SPEC, "utf-8")
