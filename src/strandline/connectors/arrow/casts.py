"""Arrow arrays from one type to another and back, without loss, also where Arrow itself has no cast."""

from strandline.errors import TaskError
from strandline.lazy import pa, pc

__all__ = ["MEND_VALUE", "cast_back", "cast_to", "castable_inside", "digits", "whole_micros"]

MEND_VALUE = "nothing of this window was written; fix the value at the source, or leave its column out by `columns`"


def cast_to(array: "pa.Array", kind: "pa.DataType", *, where: str) -> "pa.Array":
    """``array`` in the type in which it is stored.

    Raises:
        TaskError: a value has no place there, or there is no cast.
    """
    if array.type == kind:
        return array
    if isinstance(array, pa.ExtensionArray) and array.type.storage_type == kind:
        return array.storage
    try:
        if pa.types.is_run_end_encoded(array.type):
            array = pc.run_end_decode(array)
        elif _is_view(array.type):
            array = _listed(array)
        if pa.types.is_decimal(array.type) and pa.types.is_string(kind):
            return digits(array)
        return array.cast(kind, safe=True)
    except pa.ArrowNotImplementedError as error:
        raise TaskError(f"{where}: {array.type} cannot be stored ({error})") from error
    except pa.ArrowInvalid as error:
        raise TaskError(f"{where}: a value cannot be stored ({error})", hint=MEND_VALUE) from error


def digits(array: "pa.Array") -> "pa.Array":
    """Decimals as texts with all digits of their scale, where Arrow would write 1E-10."""
    texts = array.cast(pa.string())
    if not pc.any(pc.match_substring(texts, "E")).as_py():
        return texts
    return pa.array([None if value is None else format(value, "f") for value in array.to_pylist()], pa.string())


def cast_back(array: "pa.Array", kind: "pa.DataType", *, where: str) -> "pa.Array":
    """A stored array in the type of its table.

    Raises:
        TaskError: a stored value has no place in it, or there is no cast.
    """
    if array.type == kind:
        return array
    if isinstance(kind, pa.BaseExtensionType) and kind.storage_type == array.type:
        return pa.ExtensionArray.from_storage(kind, array)
    try:
        return _back(array, kind)
    except pa.ArrowNotImplementedError as error:
        raise TaskError(f"{where}: what is stored cannot be read as {kind} ({error})") from error
    except pa.ArrowInvalid as error:
        raise TaskError(f"{where}: a stored value cannot be read as {kind} ({error})") from error


def _back(array: "pa.Array", kind: "pa.DataType") -> "pa.Array":
    types = pa.types
    if types.is_null(kind):
        return pa.nulls(len(array))
    if types.is_run_end_encoded(kind):
        return pc.run_end_encode(array.cast(kind.value_type), run_end_type=kind.run_end_type)
    if types.is_dictionary(kind):
        encoded = array.cast(kind.value_type).dictionary_encode()
        return pa.DictionaryArray.from_arrays(
            encoded.indices.cast(kind.index_type), encoded.dictionary, ordered=kind.ordered
        )
    if _is_view(kind):
        large = types.is_large_list_view(kind)
        listed = array.cast(pa.large_list(kind.value_field) if large else pa.list_(kind.value_field))
        view = pa.LargeListViewArray if large else pa.ListViewArray
        sizes = pc.fill_null(pc.list_value_length(listed), 0)
        return view.from_arrays(listed.offsets[:-1], sizes, listed.values, type=kind, mask=listed.is_null())
    return array.cast(kind, safe=True)


def _is_view(kind: "pa.DataType") -> bool:
    return bool(pa.types.is_list_view(kind) or pa.types.is_large_list_view(kind))


def _listed(array: "pa.Array") -> "pa.Array":
    """A list view as a list. Arrow's own cast (26.0) leaves out the last offset."""
    sizes = pc.fill_null(pc.list_value_length(array), 0).cast(pa.int64())
    offsets = pa.concat_arrays([pa.array([0], pa.int64()), pc.cumulative_sum(sizes)])
    return pa.LargeListArray.from_arrays(offsets, array.flatten(), mask=array.is_null())


def castable_inside(kind: "pa.DataType") -> bool:
    """Whether everything inside a nested type can be cast to and fro; only its outermost level is done by hand here."""
    types = pa.types
    for inner in (kind.field(at).type for at in range(kind.num_fields)):
        if _is_view(inner) or types.is_run_end_encoded(inner) or not castable_inside(inner):
            return False
        if types.is_dictionary(inner):
            try:
                pa.nulls(1, inner.value_type).cast(inner)
            except pa.ArrowNotImplementedError:
                return False
    return True


def whole_micros(array: "pa.Array", *, where: str) -> None:
    """Check that the intervals in ``array``, nested ones too, have no part below a microsecond.

    Raises:
        TaskError: one has.
    """
    kind = array.type
    if pa.types.is_struct(kind):
        for child in array.flatten():
            whole_micros(child, where=where)
    elif pa.types.is_map(kind):
        whole_micros(array.keys, where=where)
        whole_micros(array.items, where=where)
    elif pa.types.is_nested(kind):
        whole_micros(array.flatten(), where=where)
    elif pa.types.is_interval(kind):
        pairs = pa.Array.from_buffers(pa.int64(), 2 * (array.offset + len(array)), [None, array.buffers()[1]])
        nanos = pc.list_element(pa.FixedSizeListArray.from_arrays(pairs, 2).slice(array.offset), 1)
        odd = pc.not_equal(nanos, pc.multiply(pc.divide(nanos, 1000), 1000))
        if pc.any(pc.and_(odd, array.is_valid())).as_py():
            raise TaskError(
                f"{where}: an interval has nanoseconds, which the destination cannot keep",
                hint="nothing of this window was written; send a duration, or whole microseconds",
            )
