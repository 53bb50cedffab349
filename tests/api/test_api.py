"""The Python API beside the command line: the same syncs, states, errors and exit codes."""

import subprocess
import sys

import pyarrow as pa
import pytest

import strandline as sl
from strandline.plugins import KINDS, plugin_names
from strandline.spec import load


@pytest.fixture(autouse=True)
def directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path
    for name in ("our_tables", "broken"):
        sys.modules.pop(name, None)


def table(pages, name="items", **declared):
    if "incremental_key" in declared:
        return sl.table(name=name, **declared)(lambda cursor: iter(pages))
    return sl.table(name=name, **declared)(lambda: iter(pages))


def python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_importing_it_is_cheap_and_contracts_stay_modules():
    heavy = "{'pyarrow', 'pydantic', 'click', 'rich', 'strandline.api', 'strandline.errors'} & sys.modules.keys()"
    assert python(f"import sys, strandline; print({heavy})") == "set()"
    assert python(
        "import strandline.table, strandline as sl; from strandline.table import Table; "
        "print(sl.table.Table is Table, callable(sl.table), callable(sl.source), strandline.table.SYNC_TIME)"
    ) == "True True True _cq_sync_time"  # fmt: skip


def test_every_plugin_is_a_function_and_nothing_else_is():
    for kind in KINDS:
        for name in plugin_names(kind):
            assert name in dir(sl)
            if name not in {"source", "table"}:
                assert getattr(sl, name)().name == name
    assert sl.UsageError.exit_code == 2
    with pytest.raises(AttributeError, match="did you mean 'duckdb'"):
        _ = sl.dukdb


def test_a_sync_is_that_of_the_command_line(directory):
    (directory / "our_tables.py").write_text(
        "import strandline as sl\n@sl.table(primary_key='id')\ndef items():\n    yield [{'id': 1}]\n"
    )
    (directory / "strandline.yml").write_text(
        "kind: source\nspec: {name: ours, registry: python, path: our_tables, destinations: [store]}\n---\n"
        "kind: destination\nspec: {name: store, path: sqlite, spec: {path: store.db}}\n"
    )
    project = sl.load("strandline.yml")
    assert str(project) == "ours → store"
    first = project.sync()
    shown = subprocess.run([sys.executable, "-m", "strandline", "sync"], capture_output=True, text=True, check=True)
    assert "items  completed     1" in shown.stdout
    states = subprocess.run(
        [sys.executable, "-m", "strandline", "state", "list"], capture_output=True, text=True, check=True
    )
    assert "items" in states.stdout
    runs = subprocess.run([sys.executable, "-m", "strandline", "runs"], capture_output=True, text=True, check=True)
    assert first.runs[0].run_id[:8] in runs.stdout
    assert "items" in str(sl.plan(project))
    assert sl.plan(project).exit_code == 0


def test_rows_are_there_as_arrow_with_columns_that_came_in_mid_stream():
    pages = [[{"id": n}] for n in range(1200)] + [[{"id": 2000, "more": {"a": [1]}}]]
    items = table(pages, primary_key="id")
    report = sl.sync(items, to=sl.duckdb("w.duckdb"), name="t")
    rows = report.arrow("items")
    assert rows.num_rows == 1201
    assert [one for one in rows["more"].to_pylist() if one] == [{"a": [1]}]
    with pytest.raises(sl.UsageError, match="no table 'itemz'") as caught:
        report.arrow("itemz")
    assert "items" in caught.value.hint


@pytest.mark.parametrize("mode", ["append", "overwrite"])
def test_sparse_columns_behind_many_rows_lose_and_repeat_nothing(mode):
    sizes = sl.destination(sl.sqlite("s.db"), write_mode=mode, settings={"batch_size": 2})
    pages = [[{"id": n, "at": n} | ({f"c{n % 7}": n} if n > 3 else {})] for n in range(1, 30)]
    items = table(pages, primary_key="id", incremental_key="at")
    report = sl.sync(items, to=sizes, name="t")
    rows = report.arrow().sort_by("id").to_pylist()
    assert [row["id"] for row in rows] == [*range(1, 30)]
    assert all(row[f"c{row['id'] % 7}"] == row["id"] for row in rows if row["id"] > 3)


def test_what_fails_is_an_exception_with_the_exit_code_and_the_report(directory):
    with pytest.raises(sl.UsageError, match="sync where to"):
        sl.sync(table([[{"id": 1}]]))
    with pytest.raises(sl.UsageError, match="paht") as caught:
        sl.sync(table([[{"id": 1}]]), to=sl.sqlite(paht="x"))
    assert caught.value.exit_code == 2

    @sl.table
    def items():
        yield [{"id": 1}]
        raise KeyError("gone")

    @sl.table
    def unreachable():
        raise ConnectionResetError("gone")
        yield []

    with pytest.raises(sl.SyncError, match="ConnectionResetError: gone"):
        sl.sync(unreachable, to=sl.sqlite("s.db"), name="v")
    empty = sl.sync(table([]), table([[{"id": 1}]], name="others", primary_key="id"), to=sl.sqlite("s.db"), name="w")
    assert empty.ok
    assert "there is no record yet" in str(empty)

    with pytest.raises(sl.SyncError, match="KeyError") as failed:
        sl.sync(items, table([[{"id": 1}]], name="more", primary_key="id"), to=sl.sqlite("s.db"), name="t")
    assert failed.value.exit_code == failed.value.report.exit_code == 1
    assert sorted(task.status for task in failed.value.report.tasks) == ["completed", "failed"]
    assert not sl.sync(items, to=sl.sqlite("s.db"), name="u", check=False).ok


def test_a_secret_of_a_place_is_in_no_text():
    place = sl.postgresql("postgresql://ann:s3cretpass@localhost:1/shop", sslkey="k3yk3yk3y")
    with pytest.raises(sl.StrandlineError) as caught:
        sl.sync(place, to=sl.sqlite("s.db"))
    assert "s3cretpass" not in f"{place!r}{caught.value}{caught.value.hint}"


def test_a_module_that_cannot_be_imported_is_said_with_its_place(directory):
    spec = "kind: source\nspec: {name: ours, registry: python, path: PATH, destinations: [store]}\n---\nkind: destination\nspec: {name: store, path: memory}\n"
    (directory / "broken.py").write_text("import strandline\nx = 1 / 0\n")
    (directory / "our_tables.py").write_text("x = 1\n")
    found = []
    for path in ("nowhere.tables", "broken", "our_tables"):
        (directory / f"{path}.yml").write_text(spec.replace("PATH", path))
        with pytest.raises(sl.UsageError) as caught:
            load([directory / f"{path}.yml"])
        [problem] = caught.value.problems
        assert problem.where.endswith(f"{path}.yml:2:44")
        assert problem.hint
        found.append(problem.message)
    assert found[0] == "there is no module 'nowhere'"
    assert "ZeroDivisionError: division by zero (broken.py:2)" in found[1]
    assert "has no tables" in found[2]


def test_a_module_of_another_spec_is_not_taken_for_the_one_of_that_name_beside_the_spec(directory):
    for name in ("one", "other"):
        (directory / name).mkdir()
        (directory / name / "our_tables.py").write_text(
            f"import strandline as sl\n@sl.table(primary_key='id')\ndef {name}():\n    yield [{{'id': 1}}]\n"
        )
        (directory / name / "strandline.yml").write_text(
            f"kind: source\nspec: {{name: {name}, registry: python, path: our_tables, destinations: [store]}}\n---\n"
            "kind: destination\nspec: {name: store, path: memory}\n"
        )
    load([directory / "one" / "strandline.yml"])
    with pytest.raises(sl.UsageError) as caught:
        load([directory / "other" / "strandline.yml"])
    [problem] = caught.value.problems
    assert "and not the one that lies beside the spec" in problem.message


def test_a_partition_that_fails_keeps_its_rows_and_its_cursor():
    down = set()

    @sl.table(primary_key=["region", "id"], incremental_key="at", partitions=lambda: ["eu", "us"])
    def orders(cursor, region):
        if region in down:
            raise PermissionError("403")
        yield [{"region": region, "id": n, "at": n} for n in range(3) if cursor is None or n >= cursor]

    to = sl.sqlite("s.db")
    sl.sync(orders, to=to, name="t")
    down.add("us")
    report = sl.sync(orders, to=to, name="t", check=False)
    assert report.exit_code == 1
    assert report.arrow("orders").num_rows == 6
    [failed] = [task for task in report.tasks if task.status == "failed"]
    assert failed.cursor_to["since"] == "2"


def test_a_stream_that_comes_newest_first_and_dies_in_the_middle_leaves_no_gap():
    rows = [{"id": n, "at": n} for n in range(9, 0, -1)]
    dies = [True]

    @sl.table(primary_key="id", incremental_key="at")
    def items(cursor):
        for row in rows:
            if row["id"] == 4 and dies:
                raise ValueError("dead")
            if cursor is None or row["at"] >= cursor:
                yield [row]

    to = sl.destination(sl.sqlite("s.db"), settings={"batch_size": 1})
    assert not sl.sync(items, to=to, name="t", check=False).ok
    dies.clear()
    assert sl.sync(items, to=to, name="t").arrow().num_rows == 9


def test_pages_of_pandas_and_polars_need_nothing_but_their_interface():
    class Frame:
        def __arrow_c_stream__(self, requested_schema=None):
            return pa.table({"id": [1, 2]}).__arrow_c_stream__(requested_schema)

    frames = sl.table(Frame, name="frames")
    assert sl.sync(frames, to=sl.sqlite("s.db"), name="t").arrow().num_rows == 2


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"a": 1, "b": 2}, {"a": 1}),
        ([{"a": 1, "b": 2}], [{"a": 3}]),
        (1.5, 3),
        ("2026-01-01T00:00:00Z", None),
        ("soon", "2026-01-01"),
    ],
)
def test_a_first_page_that_shows_less_than_was_stored_makes_no_table_smaller(first, second):
    to = sl.destination(sl.duckdb("w.duckdb"), write_mode="append")
    rows = [{"id": 1, "at": 1, "x": first}]
    items = sl.table(primary_key="id", incremental_key="at", name="items")(lambda cursor: [rows[-1:]])
    sl.sync(items, to=to, name="t")
    rows.append({"id": 2, "at": 2, "x": second})
    stored = sl.sync(items, to=to, name="t").arrow().sort_by("id")["x"]
    assert len(stored) == 2
    assert sl.plan(items, to=to, name="t").exit_code == 0


def test_what_goes_with_no_column_fails_its_table_until_a_full_refresh():
    to = sl.destination(sl.sqlite("w.db"), write_mode="overwrite")
    rows = [{"id": 1, "at": 1, "x": "2026-01-01T00:00:00Z"}]
    items = sl.table(primary_key="id", incremental_key="at", name="items")(lambda cursor: [rows])
    sl.sync(items, to=to, name="t")
    rows.append({"id": 2, "at": 2, "x": "soon"})
    with pytest.raises(sl.SyncError, match=r"column 'x' is timestamp.* 'soon'"):
        sl.sync(items, to=to, name="t")
    stored = sl.sync(items, to=to, name="t", full_refresh="items").arrow()
    assert stored["x"].to_pylist() == ["2026-01-01T00:00:00Z", "soon"]
