"""The table on the terminal, and the page."""

import json
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version

ORDER = ("Strandline", "dlt, as documented", "dlt, tuned")
ASK = (
    "import json; from importlib.metadata import version as v; print(json.dumps({n: v(n) for n in ('dlt', 'duckdb')}))"
)


def versions(python_of_dlt):
    about = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "strandline": version("strandline"),
        "python": platform.python_version(),
        "duckdb": version("duckdb"),
    }
    if python_of_dlt:
        done = subprocess.run([python_of_dlt, "-c", ASK], check=True, capture_output=True, text=True)
        told = json.loads(done.stdout)
        about |= {"dlt": told["dlt"], "duckdb of dlt": told["duckdb"]}
    return about


def columns(found):
    return [name for name in ORDER if any(name in by_tool for by_tool in found.values())]


def text_of(verdict):
    return verdict.text if verdict else "–"


def terminal(chosen, found):
    names = columns(found)
    lines = [f"{'':3} {'mode':<10}" + "".join(f"{name:<30}" for name in names)]
    for one in chosen:
        lines.append(f"{one.letter:<3} {one.title}")
        lines += [
            f"{'':3} {mode:<10}" + "".join(f"{text_of(found[one.letter, mode].get(name))[:28]:<30}" for name in names)
            for mode in one.modes
        ]
    return "\n".join(lines)


HEAD = """# The hole table, run against Strandline and dlt

Each scenario makes the same rows in a source, does the same thing to both programs, and compares what is stored with
what should be. `make holes ARGS="--page docs/holes.md"` writes this page; it takes half an hour, so it can also be made in
parts, with `--only` and one `--out` file, and the results here were put together from several such runs. It installs dlt from PyPI into `.cache/dlt` and starts a PostgreSQL server of
its own where a scenario needs one. One scenario alone: `make holes ARGS="--only A"`; the code is in
[bench/holes](../bench/holes).

Strandline's own tests of the same scenarios, from more sources and into more destinations, are in
[tests/holes](../tests/holes); dlt is run here only from SQLite, PostgreSQL or files into DuckDB or PostgreSQL.
"""
WORDS = """
- **ok**: the stored rows are exactly the expected ones. In the mode *append* each version of a row is expected once.
- **LOST** n: so many ids are not stored. **stale** n: so many rows have not the value they should have.
  **duplicates** n: so many rows are stored too often. **not deleted** n: so many are stored and gone at the source.
- **stopped**: a run ended with an exit code that is not 0, and the way out that the program names did not help either.
- **–**: no option of dlt concerns this scenario, so it is run only as documented.
- F: Strandline is run with `deletes: sweep` in the mode *overwrite-delete-stale*, and reads only what changed and the keys.
- L counts from what is stored, which favours Strandline: it reads ahead of what it stores. Killed when 90 % of these 20,000
  small rows were *read*, it read 70 to 75 % of them again, and 5 to 45 % from a slowed source, the more the busier the machine.
- H is a race: with dlt it may come out differently at another time.
- V, W and AC: files are bad. A run that fails has kept its promise if nothing wrong is stored, so it is **ok**; the note says
  with which exit code, whether the file is named, and how many rows are stored then. **in no file** n: so many ids are stored
  that no file has. Each program has to read good files as well. W2: a quote that is never closed may be read as a text, too.
- V1 and V2: where dlt stops, it is since the column of the key would be empty.
- V4: dlt has a reader for JSON lines; for other JSON its pages show how to write one.
- AC2 was made by hand: in the footer of a file of 1,000 rows stands 1,010.
- After a kill there are two runs without a fault, since the first one of dlt finishes what was left and then ends.
"""
CONFIGURED = """## How dlt is configured

`sql_table` with the backend `pyarrow` and `dlt.sources.incremental` on the cursor column; the write disposition is `merge` with
the primary key for *overwrite*, `append` for *append*, `replace` for *mirror*. Two columns, since its options close
some holes and open others:

- **as documented**: what the pages show first. The primary key is the one of the source; dlt uses it to drop rows that it
  has seen, on the border of what is read again.
- **tuned**: `on_cursor_value_missing="include"`; on the border, in *overwrite*, nothing is dropped and the merge absorbs it
  (`primary_key=()`), and in *append* rows are told apart by all their columns. Beside that, for single scenarios:

{tuned}

Files are read by dlt's `filesystem` with `incremental("modification_date")`, and by `read_csv`, `read_jsonl` or `read_parquet`;
they are merged by their `id`. `read_csv_duckdb` is tuned with `use_pyarrow`, since without it dlt 1.31 fails with DuckDB 2.0.

A `lag` that is longer than any transaction delivers rows that commit late, in the mode *overwrite*: see K. That is
a matter of knowing how long transactions take. The page of dlt that each row rests on is linked in the table.
"""


def cell(verdict):
    if verdict is None:
        return "–"
    text = verdict.text.replace("|", "\\|").replace("`", "'").replace("<", "&lt;")
    note = f" ({verdict.note})" if verdict.note else ""
    return (text if verdict.is_ok else f"**{text}**") + note.replace("|", "\\|")


def page(chosen, found, about):
    names = columns(found)
    lines = [
        HEAD,
        f"Last run on {about['date']} with Strandline {about['strandline']}, dlt {about.get('dlt', '–')}, DuckDB {about['duckdb']}, Python {about['python']}.",
        WORDS,
    ]
    lines += [f"| | scenario | mode | {' | '.join(names)} | dlt's page |", "|" + "---|" * (len(names) + 4)]
    for one in chosen:
        for mode in one.modes:
            cells = [cell(found[one.letter, mode].get(name)) for name in names]
            lines.append(f"| {one.letter} | {one.title} | {mode} | {' | '.join(cells)} | [page]({one.link}) |")
    tuned = "\n".join(f"- {one.letter}: {one.tuned}" for one in chosen if one.tuned)
    lines += ["", CONFIGURED.format(tuned=tuned)]
    return "\n".join(lines).rstrip() + "\n"
