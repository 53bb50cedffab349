"""The demonstration behind `make demo`: two sources, two syncs, one warehouse. Usage: demo.py [DIRECTORY]"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import duckdb

HERE = Path(__file__).parent
# The command that belongs to this Python, whatever is on the PATH.
STRANDLINE = (sys.executable, "-m", "strandline")

QUERY = """
SELECT time::DATE AS day, count(*) AS earthquakes, max(magnitude) AS strongest,
       arg_max(place, magnitude) AS place
FROM earthquakes GROUP BY ALL ORDER BY day
"""


def say(text: str) -> None:
    print(f"\n# {text}", flush=True)


def run(directory: Path, *command: str, as_typed: str = "") -> None:
    """Run a command in the demo's directory, and stop where it fails."""
    print(f"$ {as_typed or ' '.join(command)}", flush=True)
    done = subprocess.run(command, cwd=directory, check=False, env=os.environ | {"PYTHONIOENCODING": "utf-8"})
    if done.returncode:
        sys.exit(f"`{as_typed}` failed with exit code {done.returncode}")


def strandline(directory: Path, *arguments: str) -> None:
    run(directory, *STRANDLINE, *arguments, as_typed=" ".join(["strandline", *arguments]))


def script(directory: Path, name: str) -> None:
    run(HERE.parents[1], sys.executable, str(HERE / name), str(directory), as_typed=f"python examples/demo/{name}")


def show(directory: Path) -> None:
    with duckdb.connect(str(directory / "warehouse.duckdb"), read_only=True) as warehouse:
        print(QUERY)
        print(warehouse.sql(QUERY))


def main(directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)
    say("A database of earthquakes and two directories of weather files, as they were on 4 February 2018.")
    script(directory, "prepare.py")
    say(f"The first sync, in {directory.name}/, reads everything into a DuckDB file.")
    strandline(directory, "sync")
    say("What Strandline remembers of each table: the cursor from which the next sync starts.")
    strandline(directory, "state", "list")
    say("Days pass: 777 new earthquakes, 176 revised ones, a file that has grown, two new files.")
    script(directory, "advance.py")
    say("The second sync reads only that, and the earthquake on the border once more: another might share its moment.")
    strandline(directory, "sync")
    strandline(directory, "state", "list")
    say("Nothing has changed since: the third sync reads the border again, and nothing else.")
    strandline(directory, "sync")
    say("The warehouse is an ordinary DuckDB file, for anything that speaks SQL.")
    show(directory)
    say(f"Look around in {directory.name}/: strandline.yml is the whole configuration, .cq/ holds the state.")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else ".demo").absolute())
