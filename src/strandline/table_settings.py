"""Settings of single tables, by name or glob: the one parser of them, for the spec and for every source.

::

    class Spec(BaseModel):
        tables: PerTable[OurTable] = Field(default_factory=partial(PerTable, OurTable), description="…")

    settings = spec.tables.resolve({"orders": "", "sales_orders": "sales.orders"}, where="our database")
    settings["sales_orders"].incremental_key

Settings under a glob apply in the order of the file, those under the exact name of a table last; ``defaults`` of a source come
before all. A setting that is itself a mapping (``types``, ``mask``) is merged by its keys, and ``columns`` that begin with what
they leave out go on from those before. What is written under a glob for many tables and means nothing for one of them is left
out there, as the model's ``NEEDS`` says.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar, get_args

from pydantic import BaseModel, GetCoreSchemaHandler, ValidationError
from pydantic_core import CoreSchema, core_schema

from strandline.errors import Problem, UsageError, did_you_mean, raise_problems
from strandline.selection import column_glob, matches, near, spoken

__all__ = ["Entry", "PerTable"]

Settings = TypeVar("Settings", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Entry:
    """What a spec says of the tables that ``key`` means."""

    key: str
    """A name or a glob, as it was written."""
    settings: Mapping[str, Any]
    """As they were written; checked against the model one by one."""
    place: Problem = Problem("")  # noqa: RUF009  it is frozen
    """Where it stands, with an empty message."""
    is_default: bool = False
    """Whether it holds for every table, and stands in no block of tables."""

    @property
    def shown(self) -> str:
        """The key for a person."""
        return "`defaults`" if self.is_default else repr(self.key)

    def is_named(self, names: Iterable[str]) -> bool:
        """Whether the key is one of these names, and no glob that matches them."""
        return self.key in names and not self.is_default

    def fits(self, names: Iterable[str]) -> bool:
        """Whether the key means a table that has these names."""
        return any(self.key == name or matches(self.key, name) for name in names)


class PerTable(Generic[Settings]):
    """Settings of the tables of one source. Immutable; in a spec it is a mapping from names and globs to ``Settings``."""

    def __init__(self, model: type[Settings], entries: Iterable[Entry] = ()) -> None:
        self.model = model
        self.entries = tuple(replace(entry, settings=_as_written(entry.settings)) for entry in entries)
        self._made: dict[tuple[int, ...], Settings] = {}
        """By the entries that mean a table, below 0 by its own name: of ten thousand tables, most have the same settings."""

    def check(
        self, names: Mapping[str, str], *, where: str, columns: Mapping[str, Collection[str]] | None = None
    ) -> None:
        """Whether each key means a table, and each pattern of ``columns`` a column of a table that the key means.

        Args:
            names: of each table its name, and the other name that a spec may use, or an empty text.
            where: what has the tables, for the error.
            columns: of each table, whether chosen or not; where ``columns`` is a setting.

        Raises:
            UsageError: one does not; every such key or pattern is told, with its place.
        """
        tables = [_names(*both) for both in names.items()]
        wrong = [entry for entry in self.entries if not entry.is_default and not any(map(entry.fits, tables))]
        if not wrong:
            self._check_columns(names, columns or {})
            return
        shown = [spoken(*both) for both in names.items()]
        problems = [
            replace(
                entry.place,
                message=f"{where} has no table {'that matches ' * ('*' in entry.key)}{entry.key!r}",
                hint=near(entry.key, shown),
            )
            for entry in wrong
        ]
        raise_problems(
            problems, f"{where} lacks tables that the spec has settings of: {', '.join(one.key for one in wrong)}"
        )

    def _check_columns(self, names: Mapping[str, str], columns: Mapping[str, Collection[str]]) -> None:
        """A pattern that means nothing anywhere was mistyped, and one that leaves columns out may be there to hide them."""
        problems = []
        for entry in self.entries:
            there = [
                columns[name] for name, other in names.items() if name in columns and entry.fits(_names(name, other))
            ]
            known = dict.fromkeys(name for one in there for name in one)
            for pattern in (entry.settings.get("columns") or ()) if there else ():
                glob, leaves_out = column_glob(pattern, known)
                if (leaves_out or "*" in glob) and not any(matches(glob, name) for name in known):
                    hint = did_you_mean(glob.replace("*", ""), known, f"the columns are {', '.join(known)}")
                    message = f"`columns` of {entry.shown}: no column matches {glob!r}"
                    problems.append(replace(entry.place, message=message, hint=hint))
        if problems:
            raise_problems(problems, "`columns` names columns that no table has")

    def resolve(self, names: Mapping[str, str], *, where: str) -> dict[str, Settings]:
        """The settings of every table, by its name. Arguments and errors as of ``check`` and ``of``."""
        self.check(names, where=where)
        return {name: self.of(name, spec_name) for name, spec_name in names.items()}

    def of(self, name: str, spec_name: str = "") -> Settings:
        """The settings of one table, defaults where there are none.

        Raises:
            UsageError: two spellings of its name set the same, or what applies to it does not fit together.
        """
        names = _names(name, spec_name)
        which = tuple(
            -at if entry.is_named(names) else at for at, entry in enumerate(self.entries, 1) if entry.fits(names)
        )
        if which in self._made:
            return self._made[which]
        written = self.written(name, spec_name)
        try:
            return self._made.setdefault(which, self.model.model_validate(written))
        except ValidationError as error:
            wrong = [
                ": ".join([*map(str, detail["loc"]), detail["msg"]]) for detail in error.errors(include_input=False)
            ]
            raise UsageError(
                f"table {name!r}: its settings do not fit: {'; '.join(wrong)}",
                hint="look at every glob that matches it",
            ) from None

    def written(self, name: str, spec_name: str = "") -> dict[str, Any]:
        """The settings of one table as they stand in the spec, merged. Errors as of ``of``."""
        names = _names(name, spec_name)
        named = [entry for entry in self.entries if entry.is_named(names)]
        merged: dict[str, Any] = {}
        for entry in self.entries:
            if entry.fits(names) and entry not in named:
                _merge(merged, entry.settings)
        exact: dict[str, Entry] = {}
        for entry in named:
            for setting in entry.settings:
                if (first := exact.setdefault(setting, entry)) is not entry:
                    raise_problems([_twice(setting, first, entry)], f"`{setting}` of table {name!r} is set twice")
            _merge(merged, entry.settings)
        return _without_meaningless(self.model, merged, exact)

    def by_key(self) -> dict[str, dict[str, Any]]:
        """As written, each key once."""
        found: dict[str, dict[str, Any]] = {}
        for entry in self.entries:
            _merge(found.setdefault(entry.key, {}), entry.settings)
        return found

    def names(self, name: str, spec_name: str = "") -> bool:
        """Whether the table has settings under its own name, and not only under globs."""
        return any(entry.is_named(_names(name, spec_name)) for entry in self.entries)

    def says(self, setting: str, name: str, spec_name: str = "") -> bool:
        """Whether the table has this setting under its own name, and not only under globs."""
        names = _names(name, spec_name)
        return any(setting in entry.settings for entry in self.entries if entry.is_named(names))

    def under_globs(self, error: UsageError, name: str, spec_name: str = "") -> UsageError:
        """``error`` about a table with the place of its settings; where it has settings under globs only, with the globs."""
        found = [entry for entry in self.entries if entry.fits(_names(name, spec_name))]
        named = [entry for entry in found if entry.is_named(_names(name, spec_name))]
        if named and (error.problems or not named[-1].place.where):
            return error
        if named:
            return UsageError(
                error.message,
                hint=error.hint,
                problems=[replace(named[-1].place, message=error.message, hint=error.hint)],
            )
        if not found:
            return error
        globs = ", ".join(f"{one.shown} ({one.place.where})" if one.place.where else one.shown for one in found)
        hint = f"{error.hint}; its settings are those of {globs}: write others under its own name, or skip the table"
        return UsageError(error.message, hint=hint.removeprefix("; "))

    def __repr__(self) -> str:
        return f"PerTable({self.model.__name__}, {', '.join(entry.key for entry in self.entries)})"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        (model,) = get_args(source)
        settings = handler(model)
        mapping = core_schema.dict_schema(core_schema.str_schema(min_length=1), settings)

        def validated(value: Any, check: core_schema.ValidatorFunctionWrapHandler) -> "PerTable[Any]":
            if isinstance(value, PerTable):
                for entry in value.entries:
                    check({entry.key: entry.settings})
                return cls(model, value.entries)
            check(value)
            return cls(model, [Entry(key, settings) for key, settings in value.items()])

        return core_schema.no_info_wrap_validator_function(
            validated, mapping, serialization=core_schema.plain_serializer_function_ser_schema(cls.by_key)
        )


def _as_written(value: Any) -> Any:
    """An object of the model as a mapping of what was set in it; anything else as it is."""
    return {name: getattr(value, name) for name in value.model_fields_set} if isinstance(value, BaseModel) else value


def _names(name: str, spec_name: str) -> tuple[str, ...]:
    return (name, spec_name) if spec_name else (name,)


def _merge(into: dict[str, Any], settings: Mapping[str, Any]) -> None:
    for name, value in settings.items():
        before = into.get(name)
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            into[name] = {**before, **value}
        elif name == "columns" and before and value and value[0].startswith("-"):
            into[name] = [*before, *value]  # or what a glob leaves out in all would come back in one
        else:
            into[name] = value


def _without_meaningless(model: type[BaseModel], merged: dict[str, Any], exact: Collection[str]) -> dict[str, Any]:
    needs: Mapping[str, str] = getattr(model, "NEEDS", {})
    return {
        name: value
        for name, value in merged.items()
        if name in exact or name not in needs or merged.get(needs[name]) is not None
    }


def _twice(setting: str, first: Entry, second: Entry) -> Problem:
    before = f"{first.key!r}{f' at {first.place.where}' if first.place.where else ''}"
    message = f"`{setting}` of one table is set twice: under {before} and under {second.key!r}"
    return replace(second.place, message=message, hint="remove one of the two")
