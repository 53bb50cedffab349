"""Arrow types without what only readers of files need to know: metadata, nullability, wide offsets."""

from strandline.lazy import pa

__all__ = ["plain_schema", "plain_type"]


def plain_schema(schema: "pa.Schema") -> "pa.Schema":
    """The columns as they are offered."""
    return pa.schema([pa.field(one.name, plain_type(one.type)) for one in schema])


def plain_type(kind: "pa.DataType") -> "pa.DataType":
    """See above."""
    types = pa.types
    if types.is_struct(kind):
        return pa.struct([pa.field(one.name, plain_type(one.type)) for one in kind])
    if types.is_map(kind):
        return pa.map_(plain_type(kind.key_type), plain_type(kind.item_type))
    if types.is_list(kind) or types.is_large_list(kind):
        return pa.list_(pa.field(kind.value_field.name, plain_type(kind.value_type)))
    if types.is_large_string(kind):
        return pa.string()
    return pa.binary() if types.is_large_binary(kind) else kind
