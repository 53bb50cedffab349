"""One tool, one source, one destination, in a folder of their own: what a scenario does things to."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from places import DuckDBStore, PostgreSQLOrigin, PostgreSQLStore, SQLiteOrigin

from .judge import compare

HERE = Path(__file__).parent
TIMEOUT_S = 600
KILLED = -9


class FilesOrigin:
    """A folder `t` of files. All of them look finished: nobody has written to them for a long time."""

    def __init__(self, path):
        self.path = path
        self.spec = {"path": "files", "spec": {"path": str(path)}}
        self.reader, self.options = "", {}
        """dlt's, and its options."""

    def write(self, name, content, hours_ago=2):
        path = self.path / "t" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        written = (datetime.now(UTC) - timedelta(hours=hours_ago)).timestamp()
        os.utime(path, (written, written))


def stamp(**ago):
    # SQLAlchemy compares texts with six digits, so that is what is stored
    return (datetime.now(UTC) - timedelta(**ago)).strftime("%Y-%m-%d %H:%M:%S.%f")


@dataclass
class Outcome:
    code: int
    said: str

    @property
    def last_words(self):
        lines = [line.strip() for line in self.said.splitlines() if line.strip()]
        errors = [line for line in lines if "rror" in line or "Exception" in line]
        return (errors or lines or [""])[-1][:160]


@dataclass
class Lab:
    """What a scenario may change stands first; ``tool`` says how it is told to a program."""

    directory: Path
    mode: str
    tool: "Strandline | Dlt"
    origin: object
    store: object
    tables: tuple = ("t",)
    key: str | None = "at"
    primary_key: tuple = ()
    lag_s: int = 0
    batch_rows: int = 0
    limit: int = 0
    deletes: bool = False
    source: str = "shop"
    notes: list = field(default_factory=list)

    def create(self, rows, kind="DATETIME", id_kind="INTEGER PRIMARY KEY"):
        """A table `t` of (id, at, v)."""
        if isinstance(self.origin, PostgreSQLOrigin):
            kind = "timestamptz"
        self.origin.execute(f"CREATE TABLE t (id {id_kind}, at {kind}, v TEXT)")
        self.insert(rows)

    def insert(self, rows):
        self.origin.execute("INSERT INTO t VALUES (?, ?, ?)", rows=rows)

    def start(self, *, fault=None, **more):
        environment = {**os.environ, "HOLES_FAULT": json.dumps({**fault, "count": str(self.counted)}) if fault else ""}
        environment |= {"RUNTIME__DLTHUB_TELEMETRY": "false", **self.tool.environment(self)}
        return subprocess.Popen(
            self.tool.command(self, watched=fault is not None, **more),
            cwd=self.directory,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def end(self, process):
        try:
            said, _ = process.communicate(timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            said, _ = process.communicate()
            return Outcome(124, f"not done after {TIMEOUT_S} s\n{said}")
        return Outcome(process.returncode, said)

    def sync(self, *, must=False, **more):
        """One run; ``must``: the scenario makes no sense if it fails."""
        outcome = self.end(self.start(**more))
        if must and outcome.code:
            raise StoppedError(outcome)
        return outcome

    def kill(self, at, **more):
        """A run that is killed at a point; whether it came to that."""
        outcome = self.sync(fault={"at": at, **more})
        if outcome.code == KILLED:
            return True
        self.notes.append(f"not killed at {at} (exit {outcome.code}: {outcome.last_words})")
        return False

    @property
    def counted(self):
        return self.directory / "count"

    def rows_read(self):
        """How many rows the last watched runs took from the source; counts from nothing again."""
        total = sum(map(int, self.counted.read_text().split())) if self.counted.exists() else 0
        self.counted.unlink(missing_ok=True)
        return total

    def rows(self, columns="id, v", table="t"):
        """What is stored; nothing, where there is no table."""
        try:
            return self.store.query(f"SELECT {columns} FROM {self.tool.relation(table)}")
        except Exception as error:
            if type(error).__name__ in {"CatalogException", "UndefinedTable", "IOException"}:
                return []
            raise

    def execute(self, sql):
        """In the destination; `{t}` is the table."""
        self.store.execute(sql.format(t=self.tool.relation("t")))

    def judge(self, expected):
        return compare(expected, self.rows())

    def keep(self):
        """The folder as it is now, to be put back."""
        kept = self.directory.with_name(f"{self.directory.name}-kept")
        shutil.copytree(self.directory, kept)
        return kept

    def put_back(self, kept):
        shutil.rmtree(self.directory)
        shutil.copytree(kept, self.directory)


def with_password(uri):
    """dlt wants one; the server takes any."""
    return re.sub(r"//(\w+)@", r"//\1:any@", uri)


class StoppedError(Exception):
    """A run failed that had to work."""

    def __init__(self, outcome):
        super().__init__(f"stopped with exit {outcome.code}: {outcome.last_words}")


class Strandline:
    name = "Strandline"
    slug = "strandline"

    def relation(self, table):
        return f'"{table}"'

    def state_file(self, lab):
        return lab.directory / ".cq" / "state" / lab.source / "t@warehouse.json"

    def recover(self, lab):
        """The way out that the program itself names."""
        return lab.sync(arguments=("--full-refresh", "t"))

    def recover_state(self, lab):
        return self.recover(lab)

    def mended(self, lab):
        """After the cause of a failure was removed: run again."""
        return lab.sync()

    def refresh(self, lab):
        return lab.start(arguments=("--full-refresh", "t"))

    def environment(self, _lab):
        return {}

    def table_settings(self, lab):
        settings = {"incremental_key": lab.key} if lab.key else {}
        if lab.lag_s:
            settings["lag"] = f"{lab.lag_s}s"
        if lab.primary_key:
            settings["primary_key"] = list(lab.primary_key)
        if lab.deletes:
            settings["deletes"] = "sweep"
        return settings

    def command(self, lab, *, watched=False, arguments=()):
        mode = {"append": "append", "overwrite": "overwrite", "mirror": "overwrite-delete-stale"}[lab.mode]
        own = {"tables": {name: self.table_settings(lab) for name in lab.tables}}
        source = {"name": lab.source, "destinations": ["warehouse"], **lab.origin.spec, "tables": list(lab.tables)}
        source["spec"] = {**source["spec"], **own}
        store = {"name": "warehouse", "write_mode": mode, **lab.store.spec}
        if lab.batch_rows:
            store["spec"] = {**store["spec"], "batch_size": lab.batch_rows}
        documents = [{"kind": "source", "spec": source}, {"kind": "destination", "spec": store}]
        (lab.directory / "strandline.yml").write_text("\n---\n".join(json.dumps(one) for one in documents))
        program = [str(HERE / "with_strandline.py")] if watched else ["-m", "strandline"]
        return [sys.executable, *program, "sync", *arguments]


class Dlt:
    """``tuned``: with the options that dlt's pages offer against the scenario; else as its pages show it first.
    ``settings`` are of dlt's configuration, as variables of the environment."""

    def __init__(self, python, settings, *, tuned):
        self.python, self.tuned = python, tuned
        self.name = "dlt, tuned" if tuned else "dlt, as documented"
        self.slug = "tuned" if tuned else "dlt"
        self.settings = settings
        self.dataset = "copy"

    def relation(self, table):
        return f'"{self.dataset}"."{table}"'

    def state_file(self, lab):
        return lab.directory / "work" / "holes" / "state.json"

    def recover(self, lab):
        """dlt's way to load a table from nothing."""
        return lab.sync(drop_pending=True, refresh="drop_resources")

    def recover_state(self, lab):
        """dlt takes the state from the destination where it finds none on disk."""
        shutil.rmtree(lab.directory / "work", ignore_errors=True)
        return lab.sync()

    def mended(self, lab):
        """A package that failed is loaded again first, and the next run goes on; else it is dropped, as dlt advises."""
        outcome = lab.sync()
        return lab.sync(drop_pending=True) if outcome.code else outcome

    def refresh(self, lab):
        return lab.start(replace=True)

    def environment(self, lab):
        files = {"DATA_WRITER__FILE_MAX_ITEMS": str(lab.batch_rows), "LOAD__WORKERS": "1"} if lab.batch_rows else {}
        return {**files, **self.settings}

    def incremental(self, lab):
        options = {"cursor_path": lab.key}
        if lab.lag_s:
            options["lag"] = lab.lag_s
        if self.tuned:
            options["on_cursor_value_missing"] = "include"
            # merge absorbs what is read again on the border; append tells equal rows apart by all their columns
            # (not with a limit: the border would be read again for ever)
            if not lab.limit:
                options["primary_key"] = ("id", "at", "v") if lab.mode == "append" else ()
        if lab.limit:
            options["row_order"] = "asc"
        return options

    def command(self, lab, *, watched, replace=False, **more):
        """A fault is the script's own business, so ``watched`` makes no difference."""
        del watched
        files = None
        if isinstance(lab.origin, SQLiteOrigin):
            source = f"sqlite:///{lab.origin.path}"
        elif isinstance(lab.origin, FilesOrigin):
            source, files = str(lab.origin.path), {"reader": lab.origin.reader, "options": lab.origin.options}
        else:
            source = with_password(lab.origin.uri)
        key = lab.key and not replace
        told = {
            "source": source,
            "files": files,
            "to": lab.store.spec["path"],
            "target": str(lab.store.path) if isinstance(lab.store, DuckDBStore) else with_password(lab.store.uri),
            "work": str(lab.directory / "work"),
            "pipeline": "holes" if lab.source == "shop" else lab.source,
            "dataset": self.dataset,
            "tables": lab.tables,
            "write_disposition": "replace"
            if replace or lab.mode == "mirror"
            else "append"
            if lab.mode == "append"
            else "merge",
            "incremental": self.incremental(lab) if key else None,
            "primary_key": list(lab.primary_key) or None,
            "limit": lab.limit,
            **({"chunk_size": lab.batch_rows} if lab.batch_rows else {}),
            **more,
        }
        return [self.python, str(HERE / "with_dlt.py"), json.dumps(told)]


def make_lab(directory, mode, tool, origin, store, database):
    """``database`` makes a new one on a PostgreSQL server."""
    directory.mkdir(parents=True)
    if origin == "files":
        origin = FilesOrigin(directory / "in")
    else:
        origin = SQLiteOrigin(directory / "shop.db") if origin == "sqlite" else PostgreSQLOrigin(database())
    store = DuckDBStore(directory / "warehouse.duckdb") if store == "duckdb" else PostgreSQLStore(database())
    return Lab(directory, mode, tool, origin, store)
