"""Values in the type in which a column is stored, where that is not the source's: exactly, or not at all."""

from strandline.decimals import decimals
from strandline.errors import TaskError
from strandline.lazy import pa, pc

__all__ = ["as_stored"]


def as_stored(array: "pa.Array", kind: "pa.DataType", where: str) -> "pa.Array":
    """The values as they are, as text where the column is stored as text, and otherwise in the type that the spec names.

    Raises:
        TaskError: one of them is no such value.
    """
    if array.type == kind or pa.types.is_string(kind):
        return array if pa.types.is_string(array.type) or array.type == kind else pc.cast(array, kind)
    try:
        return _exact(array, kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise TaskError(
            f"{where}: a value of type {array.type} cannot be stored as {kind}, which `types` names: {error}",
            hint="name a type that holds all of them, such as string; or fix the value",
        ) from error


def _exact(array: "pa.Array", kind: "pa.DataType") -> "pa.Array":
    values = array.storage if isinstance(array, pa.ExtensionArray) else array
    if pa.types.is_decimal(kind):
        return decimals(pc.cast(values, pa.string()), kind)
    found = pc.cast(values, kind)
    # Arrow drops the hours of a moment that becomes a day; of a double, the user has asked for what it can hold
    if not (pa.types.is_string(values.type) or pa.types.is_floating(kind)) and not pc.cast(found, values.type).equals(
        values
    ):
        raise pa.ArrowInvalid("it would be another one")
    return found
