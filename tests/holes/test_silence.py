"""What other tools pass over in silence: each is said in the summary, and in the file of it."""


def keyed(bench, table, rows=((1, "a"), (2, "b"))):
    bench.origin.execute(f"CREATE TABLE {table} (id INTEGER PRIMARY KEY, v TEXT)")
    bench.origin.execute(f"INSERT INTO {table} VALUES (?, ?)", rows=rows)


def test_a_table_that_was_dropped_at_the_source(bench, sync):
    keyed(bench, "t")
    keyed(bench, "u")
    sync()
    bench.origin.execute("DROP TABLE u")
    outcome = sync("--summary-location", "summary.jsonl")
    assert "does not offer 'u' any more" in outcome.out
    assert "strandline state reset 'shop' 'u'" in outcome.out
    assert "'u'" in bench.summary()[-1]["warnings"][0]
    assert bench.store.rows(table="u") == [(1, "a"), (2, "b")]
    assert "'u'" not in sync("--select", "t").text
    assert bench.run("state", "reset", "--yes", "shop", "u", "--spec", "strandline.yml") == 0
    assert "'u'" not in sync().text


def test_a_plan_shows_the_statements_that_it_would_run(bench, capfd):
    keyed(bench, "t")
    assert bench.run("plan", "-v") == 0
    shown = capfd.readouterr().out
    assert 'CREATE TABLE "main"."t" (' in shown
    assert '"id" BIGINT, "v" VARCHAR)' in shown
    assert not bench.store.path.exists()
