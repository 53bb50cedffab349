"""The destination ``iceberg`` with Iceberg's own REST catalog, written in Java: `make lakes`, since its jars are fetched first.

The server binds every address, so it runs in a network namespace of its own, and this suite with it. Executed as a script, this only
fetches the jars, which the namespace could not.
"""

import os
import secrets
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lake_suite import LakeConformance

from strandline.connectors.iceberg.destination import IcebergDestination
from strandline.destination import Destination

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "strandline" / "iceberg-rest"
_MAVEN = "https://repo1.maven.org/maven2"
_JARS = """
org/apache/iceberg/iceberg-open-api/1.10.0/iceberg-open-api-1.10.0-test-fixtures.jar
org/apache/iceberg/iceberg-core/1.10.0/iceberg-core-1.10.0.jar
org/apache/iceberg/iceberg-core/1.10.0/iceberg-core-1.10.0-tests.jar
org/apache/iceberg/iceberg-api/1.10.0/iceberg-api-1.10.0.jar
org/apache/iceberg/iceberg-common/1.10.0/iceberg-common-1.10.0.jar
org/apache/iceberg/iceberg-bundled-guava/1.10.0/iceberg-bundled-guava-1.10.0.jar
org/xerial/sqlite-jdbc/3.46.0.0/sqlite-jdbc-3.46.0.0.jar
org/eclipse/jetty/jetty-servlet/11.0.24/jetty-servlet-11.0.24.jar
org/eclipse/jetty/jetty-server/11.0.24/jetty-server-11.0.24.jar
org/eclipse/jetty/jetty-util/11.0.24/jetty-util-11.0.24.jar
org/eclipse/jetty/jetty-http/11.0.24/jetty-http-11.0.24.jar
org/eclipse/jetty/jetty-io/11.0.24/jetty-io-11.0.24.jar
org/eclipse/jetty/jetty-security/11.0.24/jetty-security-11.0.24.jar
org/eclipse/jetty/toolchain/jetty-jakarta-servlet-api/5.0.2/jetty-jakarta-servlet-api-5.0.2.jar
org/slf4j/slf4j-api/2.0.17/slf4j-api-2.0.17.jar
org/slf4j/slf4j-simple/2.0.17/slf4j-simple-2.0.17.jar
org/apache/hadoop/hadoop-client-api/3.4.1/hadoop-client-api-3.4.1.jar
org/apache/hadoop/hadoop-client-runtime/3.4.1/hadoop-client-runtime-3.4.1.jar
com/fasterxml/jackson/core/jackson-core/2.18.3/jackson-core-2.18.3.jar
com/fasterxml/jackson/core/jackson-databind/2.18.3/jackson-databind-2.18.3.jar
com/fasterxml/jackson/core/jackson-annotations/2.18.3/jackson-annotations-2.18.3.jar
org/apache/httpcomponents/client5/httpclient5/5.4.3/httpclient5-5.4.3.jar
org/apache/httpcomponents/core5/httpcore5/5.3.4/httpcore5-5.3.4.jar
org/apache/httpcomponents/core5/httpcore5-h2/5.3.4/httpcore5-h2-5.3.4.jar
com/github/ben-manes/caffeine/caffeine/2.9.3/caffeine-2.9.3.jar
org/apache/avro/avro/1.12.0/avro-1.12.0.jar
io/airlift/aircompressor/0.27/aircompressor-0.27.jar
org/roaringbitmap/RoaringBitmap/1.3.0/RoaringBitmap-1.3.0.jar
commons-logging/commons-logging/1.3.5/commons-logging-1.3.5.jar
"""
_PORT = 8181
_START_S = 60


def fetch() -> None:
    """The jars, those that are not there."""
    CACHE.mkdir(parents=True, exist_ok=True)
    for path in _JARS.split():
        jar = CACHE / path.rpartition("/")[2]
        if not jar.exists():
            with urllib.request.urlopen(f"{_MAVEN}/{path}", timeout=60) as found:
                part = jar.with_suffix(".part")
                part.write_bytes(found.read())
            part.rename(jar)


@pytest.fixture(scope="session")
def rest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The catalog, as pyiceberg names it."""
    place = tmp_path_factory.mktemp("rest")
    settings = {
        "CATALOG_WAREHOUSE": f"file://{place}/warehouse",
        "CATALOG_URI": f"jdbc:sqlite:{place}/catalog.db",
        "CATALOG_CATALOG__IMPL": "org.apache.iceberg.jdbc.JdbcCatalog",
        "CATALOG_JDBC_SCHEMA__VERSION": "V1",
        "REST_PORT": str(_PORT),
    }
    command = ["java", "-Xmx512m", "-cp", f"{CACHE}/*", "org.apache.iceberg.rest.RESTCatalogServer"]
    with (
        (place / "log").open("w") as log,
        subprocess.Popen(command, env={**os.environ, **settings}, stderr=log) as java,
    ):
        try:
            _wait(f"http://127.0.0.1:{_PORT}")
            yield {"type": "rest", "uri": f"http://127.0.0.1:{_PORT}"}
        finally:
            java.terminate()


def _wait(uri: str) -> None:
    for _ in range(_START_S * 10):
        try:
            with urllib.request.urlopen(f"{uri}/v1/config", timeout=5):
                return
        except OSError:
            time.sleep(0.1)
    pytest.fail("the catalog does not start")


class TestRest(LakeConformance):
    plugin = "iceberg"

    @pytest.fixture
    def reopen(self, tmp_path: Path, rest: dict[str, str]) -> Callable[[], Destination]:
        namespace = f"lake.{secrets.token_hex(4)}"
        spec = IcebergDestination.Spec(path=str(tmp_path / "lake"), catalog=rest, namespace=namespace)
        return lambda: IcebergDestination(spec)


if __name__ == "__main__":
    fetch()
