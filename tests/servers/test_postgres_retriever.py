"""A retriever on PostgreSQL: what it does, beside others, and what goes wrong."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path

import numpy as np
import pytest

psycopg = pytest.importorskip("psycopg", reason="PostgreSQL: pip install 'imgret[postgres]'")

from imgret import Retriever, images  # noqa: E402  # after the check
from imgret.errors import (  # noqa: E402
    DuplicateKeyError,
    InvalidInputError,
    StoreCorruptError,
    StoreError,
    StoreExistsError,
    StoreMismatchError,
    StoreNotFoundError,
    StoreReadOnlyError,
    StoreVersionError,
    UnsupportedError,
)
from imgret.filters import parse_filter  # noqa: E402
from imgret.galleries.postgres import PostgresGallery  # noqa: E402
from imgret.galleries.postgres.database import PooledConnection  # noqa: E402
from imgret.testing.data import clustered  # noqa: E402
from imgret.testing.galleries import check_answer, new_spec  # noqa: E402
from imgret.types import Item, Part  # noqa: E402

COLORS = {"red": (200, 30, 40), "green": (40, 190, 30), "blue": (20, 50, 210)}


@pytest.fixture
def colors(tmp_path):
    """Twelve images of each of three colours, in a folder each."""
    rng = np.random.default_rng(0)
    for name, color in COLORS.items():
        (tmp_path / name).mkdir()
        for n in range(12):
            image = np.clip(np.array(color) + rng.normal(0, 25, (24, 32, 3)), 0, 255)
            data = images.encode(image.astype(np.uint8), "png")
            (tmp_path / name / f"{n:02d}.png").write_bytes(data)
    return tmp_path


@pytest.fixture(params=["flat", "hnsw"])
def retriever(request, pg_uri, colors, mean_color):
    with Retriever.open(pg_uri, "a", embedder=mean_color, index=request.param) as made:
        assert len(made.add_folder(colors, labels="parent").ok) == 36
        yield made


def _run(uri, statement, parameters=()):
    """Run a statement as an administrator would."""
    plain, _, schema = uri.partition("&schema=")
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute(f'SET search_path TO "{schema}", public')
        cursor = connection.execute(statement, parameters)
        return cursor.fetchall() if cursor.description else None


# -- what it does ----------------------------------------------------------------------------------


def test_a_folder_is_searched_and_followed(retriever, colors):
    hits = retriever.search(colors / "red" / "03.png", k=5)
    assert hits[0].key == "red/03.png"
    assert hits[0].score == pytest.approx(1, abs=1e-6)
    assert {hit.label for hit in hits} == {"red"}
    where = {"label": {"$ne": "red"}}
    assert len(retriever.search(colors / "red" / "03.png", k=30, where=where)) == 24
    many = retriever.search_many([colors / "red" / "03.png", colors / "blue" / "01.png"], k=3)
    assert [hits.label for hits in many] == ["red", "blue"]
    assert len(retriever.search_vectors(retriever.embeddings(["blue/01.png"]), k=10**9)[0]) == 36
    assert retriever.add_folder(colors, labels="parent").summary().startswith("36 unchanged; ")
    (colors / "red" / "03.png").rename(colors / "red" / "new.png")
    (colors / "red" / "04.png").unlink()
    (colors / "blue" / "copy.png").write_bytes((colors / "blue" / "01.png").read_bytes())
    report = retriever.add_folder(colors, labels="parent", prune=True)
    assert [line.key for line in report.renamed] == ["red/new.png"]
    assert "red/04.png" not in retriever
    retriever.update("red/01.png", label="scarlet", metadata={"year": 2020})
    assert retriever.search_key("red/02.png", where={"year": 2020})[0].key == "red/01.png"
    with pytest.raises(InvalidInputError, match="did you mean 'year'"):
        retriever.search_key("red/02.png", where={"yaer": 2020})


def test_the_gallery_as_a_whole(retriever, colors):
    assert retriever.evaluate().metrics["top1"] == 1
    assert retriever.classify(colors / "green" / "03.png").label == "green"
    assert retriever.recall(10).value == pytest.approx(1, abs=0.02)
    retriever.calibrate(k=30)
    assert retriever.search(colors / "red" / "03.png", k=3, precision=0.9)
    assert retriever.duplicates(threshold=0.9999) is not None
    assert retriever.clusters(3).sizes.tolist() == [12, 12, 12]
    assert retriever.outliers(k=3)
    assert retriever.mislabelled(k=3) == []
    assert len(retriever.search(colors / "red" / "03.png", k=3, rerank="average-qe")) == 3
    for call in (
        lambda: retriever.project("pca", dim=3),
        retriever.adapt,
        lambda: retriever.reindex("hnsw"),
        lambda: retriever.save(colors / "copy.imgret"),
        retriever.check,
        retriever.compact,
    ):
        with pytest.raises(UnsupportedError, match="postgresql://"):
            call()


def test_a_graph_may_be_dropped_for_a_load_and_created_again(pg_uri, mean_color):
    schema = pg_uri.rpartition("=")[2]
    rows, _ = clustered(300, 48)
    with (
        psycopg.connect(pg_uri.partition("&schema=")[0], autocommit=True) as connection,
        Retriever.open(pg_uri, "a", embedder=mean_color, index="hnsw") as retriever,
    ):
        ((statement,),) = connection.execute(
            "SELECT pg_get_indexdef(%s::regclass)", (f"{schema}.items_embedding",)
        ).fetchall()
        connection.execute(f"DROP INDEX {schema}.items_embedding")
        retriever.add_vectors(rows, keys=map(str, range(300)), labels=["a", "b"] * 150)
        for _ in range(2):
            for where in (None, {"label": "b"}):
                (hits,) = retriever.search_vectors(rows[1:2], k=3, where=where)
                assert (hits[0].key, len(hits)) == ("1", 3)
            connection.execute("SET search_path TO public")
            connection.execute(statement.replace("INDEX items", "INDEX IF NOT EXISTS items"))


def test_what_the_server_has_instead_is_said(pg_uri, mean_color):
    name = pg_uri.rpartition("=")[2]
    with Retriever.open(pg_uri, "a", embedder=mean_color) as retriever:
        with pytest.raises(UnsupportedError, match=f"was checked. .pg_amcheck .*={name} "):
            retriever.check()
        with pytest.raises(UnsupportedError, match="nothing was done") as refused:
            retriever.compact()
    with psycopg.connect(pg_uri.partition("&schema=")[0], autocommit=True) as connection:
        connection.execute(re.search("`(VACUUM.*)`", str(refused.value))[1])


def test_a_graph_is_tuned_for_all(pg_uri, mean_color):
    rows = np.random.default_rng(0).normal(size=(800, 48))
    with Retriever.open(pg_uri, "a", embedder=mean_color, index="hnsw") as retriever:
        retriever.add_vectors(rows, keys=[str(n) for n in range(800)])
        chosen = retriever.tune(0.9, 5).chosen
        assert chosen.settings["ef_search"] < 1000
        with Retriever.open(pg_uri, embedder=mean_color) as other:
            assert other._gallery.spec.tuned["settings"] == chosen.settings
            assert len(other.search_vectors(rows[:2], k=700)[1]) == 700


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
def test_a_graph_with_a_filter_is_never_short(pg_uri, metric, dtype):
    spec = new_spec(metric, dim=16).with_(index=Part("hnsw", {"M": 4}), dtype=dtype)
    gallery = PostgresGallery.create(pg_uri, spec)
    vectors, _ = clustered(3000, 16, seed=1)
    if metric == "cosine":
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    items = [Item(str(n), label="rare" if n % 500 == 0 else "common") for n in range(3000)]
    gallery.add(items, vectors)
    rare = gallery.view(parse_filter({"label": "rare"}))
    check_answer(rare, vectors[::500], vectors[7:9], 6)
    check_answer(gallery.view(), vectors, vectors[7:9] + 0.01, 2500)
    gallery.close()


def test_a_graph_of_which_most_was_deleted_is_never_short(pg_uri):
    gallery = PostgresGallery.create(pg_uri, new_spec("l2", dim=8).with_(index=Part("hnsw")))
    vectors = np.random.default_rng(0).normal(size=(400, 8)).astype(np.float32)
    gallery.add([Item(str(n)) for n in range(400)], vectors)
    near = np.argsort(((vectors - vectors[0]) ** 2).sum(axis=1))[:300]
    gallery.remove([str(n) for n in near])
    check_answer(gallery.view(), np.delete(vectors, near, axis=0), vectors[:1], 10)
    gallery.close()


def test_a_filter_that_most_items_pass_is_answered_by_the_graph(pg_uri, monkeypatch):
    monkeypatch.setattr("imgret.galleries.postgres.view._LISTED", 5)
    gallery = PostgresGallery.create(pg_uri, new_spec("l2", dim=8).with_(index=Part("hnsw")))
    vectors = np.random.default_rng(0).normal(size=(2000, 8)).astype(np.float32)
    gallery.add([Item(str(n), metadata={"n": n}) for n in range(2000)], vectors)
    where = parse_filter({"n": {"$gte": 100}})
    check_answer(gallery.view(where), vectors[100:], vectors[:3], 10)
    gallery._rows("SELECT pg_stat_force_next_flush()")
    ((scans,),) = gallery._rows(
        "SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = 'items_embedding' "
        "AND schemaname = current_schema()"
    )
    assert scans
    assert gallery._rows("SHOW enable_sort") == [("on",)]
    gallery.close()


def test_options_of_a_snapshot_do_not_outlive_it(pg_uri):
    part = Part("hnsw", {"ef_search": 77})
    gallery = PostgresGallery.create(pg_uri, new_spec(dim=4).with_(index=part))
    gallery.add([Item(str(n)) for n in range(50)], np.ones((50, 4), np.float32))
    with gallery.viewed() as view:
        view.search(np.ones((1, 4)), 5)
    gallery.view().search(np.ones((1, 4)), 5)
    assert gallery._rows("SHOW hnsw.ef_search") == [("77",)]
    gallery.close()


def test_a_search_is_planned_once(pg_uri):
    gallery = PostgresGallery.create(pg_uri, new_spec(dim=4).with_(index=Part("hnsw")))
    gallery.add([Item(str(n)) for n in range(50)], np.ones((50, 4), np.float32))
    for _ in range(20):
        gallery.view().search(np.ones((1, 4)), 5)
    ((planned,),) = gallery._rows(
        "SELECT generic_plans FROM pg_prepared_statements WHERE statement LIKE %s", ("%LIMIT 5",)
    )
    assert planned
    gallery.close()


def test_scores_are_those_of_a_local_gallery(pg_uri, mean_color):
    rows = np.random.default_rng(0).normal(size=(300, 48)).astype(np.float32)
    keys = [str(n) for n in range(300)]
    local = Retriever(embedder=mean_color)
    local.add_vectors(rows, keys=keys)
    with Retriever.open(pg_uri, "a", embedder=mean_color) as remote:
        remote.add_vectors(rows, keys=keys)
        queries = np.random.default_rng(1).normal(size=(20, 48))
        for here, there in zip(
            local.search_vectors(queries, k=20), remote.search_vectors(queries, k=20), strict=True
        ):
            assert [hit.key for hit in here] == [hit.key for hit in there]
            for one, other in zip(here, there, strict=True):
                assert one.score == pytest.approx(other.score, abs=1e-6)


def test_many_dimensions(pg_uri, tmp_path):
    vectors, _ = clustered(50, 3000, seed=1)
    spec = new_spec(dim=3000).with_(index=Part("hnsw"))  # float32, indexed as halfvec
    gallery = PostgresGallery.create(pg_uri, spec)
    gallery.add([Item(str(n)) for n in range(50)], vectors)
    check_answer(gallery.view(), vectors, vectors[:3], 10)
    gallery.close()
    with pytest.raises(InvalidInputError, match="at most 4,000 dimensions"):
        PostgresGallery.create(f"{pg_uri}b", new_spec(dim=5000).with_(index=Part("hnsw")))
    with pytest.raises(UnsupportedError, match="expected 'hnsw', or 'flat'"):
        PostgresGallery.create(f"{pg_uri}b", new_spec().with_(index=Part("ivf-pq")))
    with pytest.raises(InvalidInputError, match="takes M, ef_construction"):
        PostgresGallery.create(f"{pg_uri}b", new_spec().with_(index=Part("hnsw", {"m": 3})))
    assert not PostgresGallery.is_taken(f"{pg_uri}b")


# -- beside others ---------------------------------------------------------------------------------


_INDEXER = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("conftest", sys.argv[1])
conftest = importlib.util.module_from_spec(spec)
spec.loader.exec_module(conftest)
from imgret import Retriever
with Retriever.open(sys.argv[2], "r+", embedder=conftest.MeanColor()) as retriever:
    print("ready", flush=True)
    sys.stdin.readline()
    report = retriever.add_folder(sys.argv[3], labels="parent", progress=False)
    assert not report.failed, report.failed
"""


def test_two_processes_add_the_same_folder(pg_uri, colors, mean_color):
    Retriever.open(pg_uri, "a", embedder=mean_color).close()
    conftest = Path(__file__).parents[1] / "conftest.py"
    command = [sys.executable, "-c", _INDEXER, str(conftest), pg_uri, str(colors)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    writers = [subprocess.Popen(command, **pipes) for _ in range(2)]
    for writer in writers:
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        writer.stdin.write("go\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate(timeout=60)
        assert writer.returncode == 0
    with Retriever.open(pg_uri, embedder=mean_color) as retriever:
        assert len(retriever) == 36
        assert sorted(retriever) == sorted(
            f"{path.parent.name}/{path.name}" for path in colors.rglob("*.png")
        )


def test_writers_that_meet_lose_nothing(pg_uri):
    PostgresGallery.create(pg_uri, new_spec(dim=2)).close()
    added, errors = [], []

    def write(seed):
        gallery = PostgresGallery.open(pg_uri, writable=True)
        generator = np.random.default_rng(seed)
        for _ in range(15):
            keys = [str(n) for n in generator.permutation(12)[:4]]
            try:
                gallery.add([Item(key) for key in keys], np.ones((4, 2), np.float32))
                added.extend(keys)
            except DuplicateKeyError:
                pass
            except BaseException as error:  # noqa: BLE001  # shown below
                errors.append(error)
        gallery.close()

    threads = [threading.Thread(target=write, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors, errors
    gallery = PostgresGallery.open(pg_uri, writable=False)
    assert sorted(gallery) == sorted(added)
    assert len(gallery) == len(added)
    gallery.close()


def test_processes_that_create_at_once(pg_uri, mean_color):
    results = []

    def create():
        try:
            PostgresGallery.create(pg_uri, new_spec()).close()
            results.append("made")
        except StoreExistsError:
            results.append("taken")

    threads = [threading.Thread(target=create) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == ["made", "taken", "taken", "taken"]


_FORKS = """
import os, sys
import numpy as np
from imgret.galleries.postgres import PostgresGallery
from imgret.testing.galleries import new_spec
from imgret.types import Item
gallery = PostgresGallery.create(sys.argv[1], new_spec(dim=2))
gallery.add([Item("a")], np.ones((1, 2), np.float32))
child = os.fork()
if not child:
    code = 1
    try:
        gallery.add([Item("b")], np.ones((1, 2), np.float32))
        gallery.close()
        code = 0
    finally:
        os._exit(code)
assert os.waitpid(child, 0)[1] == 0
assert list(gallery) == ["a", "b"]
gallery.close()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_has_connections_of_its_own(pg_uri):
    """In a process without the threads of gRPC, beside which no child can be relied on."""
    subprocess.run([sys.executable, "-c", _FORKS, pg_uri], check=True)


# -- what goes wrong -------------------------------------------------------------------------------


def test_a_lost_connection_is_opened_again(pg_uri):
    gallery = PostgresGallery.create(pg_uri, new_spec(dim=2))
    gallery.add([Item("a")], np.ones((1, 2), np.float32))
    kill = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'imgret'"
    )
    for n in range(3):
        _run(pg_uri, kill)
        assert "a" in gallery
        _run(pg_uri, kill)
        gallery.add([Item(str(n))], np.ones((1, 2), np.float32))
    assert len(gallery) == 4
    with gallery.viewed() as view:
        _run(pg_uri, kill)
        with pytest.raises(StoreError, match="stopped answering"):
            view.keys()
    gallery.close()


_ADDER = """
import sys, numpy as np
from imgret.galleries.postgres import PostgresGallery
from imgret.types import Item
gallery = PostgresGallery.open(sys.argv[1], writable=True)
n = 0
while True:
    gallery.add([Item(f"{n}-{m}") for m in range(5)], np.ones((5, 2), np.float32))
    print(n, flush=True)
    n += 1
"""


def test_a_client_that_is_killed_leaves_whole_batches(pg_uri):
    gallery = PostgresGallery.create(pg_uri, new_spec(dim=2))
    writer = subprocess.Popen(
        [sys.executable, "-c", _ADDER, pg_uri], stdout=subprocess.PIPE, text=True
    )
    for _ in range(20):
        told = writer.stdout.readline()
    time.sleep(0.01)
    writer.send_signal(signal.SIGKILL)
    told = int((told + writer.communicate()[0]).split()[-1])
    keys = list(gallery)
    assert len(keys) % 5 == 0
    assert len(keys) // 5 in {told + 1, told + 2}
    assert len(gallery) == len(keys)
    gallery.close()


def test_a_server_that_is_killed_and_started_again(own_postgres):
    """What was reported as stored is there; what goes on is repeated, once."""
    gallery = PostgresGallery.create(own_postgres.uri, new_spec(dim=2))
    stored, stop, errors = [], threading.Event(), []

    def write():
        n = 0
        while not stop.is_set():
            try:
                gallery.add([Item(f"{n}-{m}") for m in range(3)], np.ones((3, 2), np.float32))
                stored.append(n)
            except StoreError as error:
                errors.append(str(error))
            n += 1

    def search():
        while not stop.is_set():
            try:
                gallery.view().search(np.ones((1, 2), np.float32), 3)
            except StoreError as error:
                errors.append(str(error))

    threads = [threading.Thread(target=write), threading.Thread(target=search)]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    own_postgres.stop(signal.SIGQUIT)
    time.sleep(0.5)
    own_postgres.start()
    before = len(stored)
    until = time.monotonic() + 40
    while len(stored) < before + 20 and time.monotonic() < until:
        time.sleep(0.05)
    stop.set()
    for thread in threads:
        thread.join(60)
    assert len(stored) >= before + 20, errors
    there = {key.partition("-")[0] for key in gallery}
    assert {str(n) for n in stored} <= there
    assert len(gallery) == 3 * len(there)
    assert not errors, errors
    gallery.close()


@pytest.mark.parametrize("after", [True, False])
def test_a_connection_that_is_lost_around_a_commit(pg_uri, monkeypatch, after):
    """The change is made once, whether the server had committed it or not."""
    gallery = PostgresGallery.create(pg_uri, new_spec(dim=2))
    gallery.add([Item("a")], np.ones((1, 2), np.float32))
    begin, lost = PooledConnection.transaction, []

    @contextlib.contextmanager
    def transaction(connection):
        with begin(connection):
            yield
            if not after and not lost:
                lost.append(1)
                connection.pgconn.finish()
        if after and not lost:
            lost.append(1)
            connection.close()
            raise psycopg.OperationalError("lost")

    monkeypatch.setattr(PooledConnection, "transaction", transaction)
    gallery.add([Item("b")], np.ones((1, 2), np.float32))
    assert lost
    assert list(gallery) == ["a", "b"]
    gallery.add([Item("c")], np.ones((1, 2), np.float32))
    ((tokens,),) = _run(pg_uri, "SELECT count(*) FROM commits")
    assert tokens == 1  # those of changes that were reported are dropped
    gallery.close()


def test_no_room_on_the_server(pg_uri):
    gallery = PostgresGallery.create(pg_uri, new_spec(dim=2))
    _run(
        pg_uri,
        "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION "
        "'could not extend file: No space left on device' USING ERRCODE = 'disk_full'; END $$",
    )
    _run(
        pg_uri,
        "CREATE TRIGGER no_room AFTER INSERT ON items EXECUTE FUNCTION full_disk()",
    )
    with pytest.raises(StoreError, match="no room: .*Nothing was changed"):
        gallery.add([Item("a")], np.ones((1, 2), np.float32))
    assert list(gallery) == []
    _run(pg_uri, "DROP TRIGGER no_room ON items")
    gallery.add([Item("a")], np.ones((1, 2), np.float32))
    gallery.close()


def test_tables_of_others(pg_uri, mean_color):
    schema = pg_uri.partition("&schema=")[2]
    _run(pg_uri, f"CREATE SCHEMA {schema}")
    _run(pg_uri, "CREATE TABLE items (id int)")
    with pytest.raises(StoreNotFoundError, match="something else in it; choose another"):
        PostgresGallery.open(pg_uri, writable=False)
    with pytest.raises(StoreNotFoundError, match="something else in it"):
        Retriever.open(pg_uri, "a", embedder=mean_color)
    with pytest.raises(StoreExistsError, match=r"\?schema=NAME"):
        PostgresGallery.create(pg_uri, new_spec())
    _run(pg_uri, "CREATE TABLE spec (version int, content jsonb, revision bigint)")
    with pytest.raises(StoreCorruptError, match="one row in the table spec"):
        PostgresGallery.open(pg_uri, writable=False)


def test_a_newer_version_and_a_damaged_spec(pg_uri):
    PostgresGallery.create(pg_uri, new_spec()).close()
    _run(pg_uri, "UPDATE spec SET version = 2")
    with pytest.raises(StoreVersionError, match="upgrade imgret"):
        PostgresGallery.open(pg_uri, writable=False)
    _run(pg_uri, "UPDATE spec SET version = 1, content = content - 'dim'")
    with pytest.raises(StoreCorruptError, match="the description of a gallery"):
        PostgresGallery.open(pg_uri, writable=False)


def test_another_embedder_is_refused(pg_uri, mean_color, other_embedder):
    Retriever.open(pg_uri, "a", embedder=mean_color).close()
    with pytest.raises(StoreMismatchError, match="postgresql://.*expected the embedder"):
        Retriever.open(pg_uri, embedder=other_embedder)


def test_a_server_that_is_not_there(tmp_path, mean_color):
    for call in (
        lambda uri: PostgresGallery.open(uri, writable=False),
        PostgresGallery.is_taken,
        lambda uri: Retriever.open(uri, "a", embedder=mean_color),
    ):
        with pytest.raises(StoreError, match="cannot be reached") as error:
            call("postgresql://me:secret@127.0.0.1:1/photos")
        assert "secret" not in str(error.value)
        assert "postgresql://me@127.0.0.1:1/photos" in str(error.value)


def test_a_database_that_is_not_there(pg_uri, mean_color):
    uri = pg_uri.replace("/postgres?", "/nowhere?")
    with pytest.raises(StoreError, match='database "nowhere" does not exist'):
        Retriever.open(uri, "a", embedder=mean_color)


@pytest.mark.parametrize(
    "uri",
    [
        "postgresql://me:secret@host:port/photos",
        "postgresql://me:secret@host/photos?sslmodus=require",
        "postgresql://me:secret@host/photos?schema=",
        f"postgresql://me:secret@host/photos?schema={'x' * 64}",
    ],
)
def test_a_uri_that_is_not_valid(uri):
    with pytest.raises((InvalidInputError, StoreError)) as error:
        PostgresGallery.open(uri, writable=False)
    assert "secret" not in str(error.value)
    assert "secret" not in repr(error.value.__cause__)


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("postgresql:///photos", {"dbname": "photos"}),
        ("postgres://a:1,b:2/photos?target_session_attrs=any", {"host": "a,b", "port": "1,2"}),
        ("postgresql://h/d?options=-c%20x%3D1+2&schema=a%20b", {"options": "-c x=1+2"}),
        ("postgresql://[::1]:5/d?schema=x&sslmode=require", {"host": "::1", "sslmode": "require"}),
    ],
)
def test_any_uri_of_libpq(uri, expected):
    from imgret.galleries.postgres.database import _parsed

    conninfo, schema, name = _parsed(uri)
    known = psycopg.conninfo.conninfo_to_dict(conninfo)
    assert expected.items() <= known.items()
    assert schema == {"a%20b": "a b"}.get(uri[-5:], "x" if "schema=x" in uri else "imgret")
    assert name == uri


def test_a_wrong_password_is_not_shown(own_postgres):
    uri = own_postgres.uri
    _run(f"{uri}&schema=public", "CREATE ROLE ann LOGIN PASSWORD 'right'")
    rules = own_postgres.rules
    rules.write_text("local all ann scram-sha-256\n" + rules.read_text())
    _run(f"{uri}&schema=public", "SELECT pg_reload_conf()")
    wrong = uri.replace("postgresql://postgres:@", "postgresql://ann:secret@")
    for call in (
        lambda: PostgresGallery.open(wrong, writable=False),
        lambda: PostgresGallery.create(wrong, new_spec()),
    ):
        with pytest.raises(StoreError, match='password authentication failed for user "ann"') as e:
            call()
        assert "secret" not in "".join(traceback.format_exception_only(e.value))
        assert "secret" not in "".join(traceback.format_exception_only(e.value.__cause__))
    _run(f"{uri}&schema=public", "GRANT CREATE ON DATABASE postgres TO ann")
    _run(f"{uri}&schema=public", "CREATE EXTENSION vector")
    right = uri.replace("postgresql://postgres:@", "postgresql://ann:right@")
    gallery = PostgresGallery.create(right, new_spec())
    assert "right" not in repr(gallery)
    gallery.close()


def test_a_database_without_pgvector(pg_uri, monkeypatch):
    from imgret.galleries.postgres import schema

    monkeypatch.setattr(schema, "_EXTENSION", "no_such_thing")
    with pytest.raises(StoreError, match="pgvector 0.8 or newer; install it on the server"):
        PostgresGallery.create(pg_uri, new_spec())
    monkeypatch.undo()
    monkeypatch.setattr(schema, "_PGVECTOR", (99, 0))
    with pytest.raises(StoreError, match="pgvector 99.0 or newer.*; found 0."):
        PostgresGallery.create(pg_uri, new_spec())
    assert not PostgresGallery.is_taken(pg_uri)


def test_what_passes_a_filter_is_looked_up_again_after_a_change(pg_uri):
    spec = new_spec(dim=2).with_(index=Part("hnsw"))
    gallery, other = PostgresGallery.create(pg_uri, spec), None
    items = [Item(str(n), label=f"c{n % 3}") for n in range(60)]
    gallery.add(items, np.random.default_rng(0).normal(size=(60, 2)).astype(np.float32))
    other = PostgresGallery.open(pg_uri, writable=True)
    where = parse_filter({"label": "c1"})
    query = np.ones((1, 2), np.float32)

    def found():
        view = gallery.view(where)
        ids = view.search(query, 100).ids[0]
        return {item.key for item in view.items(ids[ids >= 0])}

    expected = {item.key for item in items if item.label == "c1"}
    assert found() == expected
    other.change({"0": Item("0", label="c1")})
    assert found() == {*expected, "0"}
    other.change({key: Item(key, label="c2") for key in (*expected, "0")})
    assert found() == set()
    other.add([Item("new", label="c1")], query)
    assert found() == {"new"}
    other.close()
    gallery.close()


def test_a_reader_may_only_read(pg_uri):
    schema = pg_uri.partition("&schema=")[2]
    gallery = PostgresGallery.create(pg_uri, new_spec(dim=2))
    gallery.add([Item("a")], np.ones((1, 2), np.float32))
    _run(pg_uri, f"CREATE ROLE reader_{schema} LOGIN")
    _run(pg_uri, f"GRANT USAGE ON SCHEMA {schema} TO reader_{schema}")
    _run(pg_uri, f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO reader_{schema}")
    uri = pg_uri.replace("postgresql://postgres:@", f"postgresql://reader_{schema}@")
    reader = PostgresGallery.open(uri, writable=False)
    assert list(reader) == ["a"]
    assert reader.view().search(np.ones((1, 2), np.float32), 1).ids[0, 0] >= 0
    reader.close()
    with pytest.raises(StoreReadOnlyError, match="not allowed"):
        PostgresGallery.open(uri, writable=True)
    with pytest.raises(StoreReadOnlyError, match="not allowed"):
        PostgresGallery.create(f"{uri}b", new_spec())
    gallery.close()


def test_a_statement_that_takes_too_long(pg_uri):
    gallery = PostgresGallery.create(pg_uri, new_spec(dim=2))
    gallery.close()
    slow = PostgresGallery.open(f"{pg_uri}&options=-c%20statement_timeout%3D50ms", writable=True)
    with pytest.raises(StoreError, match="statement_timeout=60s"):
        slow._rows("SELECT pg_sleep(1)")
    assert len(slow) == 0
    slow.close()


def test_a_key_that_is_too_long(pg_uri):
    gallery = PostgresGallery.create(pg_uri, new_spec(dim=2))
    with pytest.raises(InvalidInputError, match="at most 2,600 bytes in PostgreSQL, found 3,000"):
        gallery.add([Item("ok"), Item("x" * 3000)], np.ones((2, 2), np.float32))
    assert list(gallery) == []
    gallery.close()


def test_an_administrator_may_delete(pg_uri):
    gallery = PostgresGallery.create(pg_uri, new_spec(dim=2))
    gallery.add([Item(str(n), label=str(n % 2)) for n in range(10)], np.ones((10, 2), np.float32))
    before = gallery.version
    _run(pg_uri, "DELETE FROM items WHERE label = '1'")
    assert len(gallery) == 5
    assert gallery.version != before
    _run(pg_uri, "TRUNCATE items")
    assert len(gallery) == 0
    gallery.close()


# -- pages -----------------------------------------------------------------------------------------


def test_it_is_served(retriever, pg_uri, colors, mean_color):
    pytest.importorskip("fastapi", reason="the server: pip install 'imgret[serve]'")
    httpx = pytest.importorskip("httpx", reason="pip install httpx")
    import asyncio

    from imgret.serve import Limits, Site, create_app

    site = Site(pg_uri, write=True, embedder=mean_color)
    app = create_app(site, limits=Limits())

    def ask(method, url, **options):
        async def asked():
            transport = httpx.ASGITransport(app=app)
            async with httpx.AsyncClient(
                transport=transport, base_url="http://localhost:8080"
            ) as client:
                return (await client.request(method, url, **options)).json()

        return asyncio.run(asked())

    try:
        facts = ask("GET", "/api/gallery")
        assert facts["items"] == 36
        assert facts["name"].startswith("postgresql://")
        data = (colors / "red" / "03.png").read_bytes()
        assert ask("POST", "/api/search", content=data)["hits"][0]["key"] == "red/03.png"
        fields = {each["field"] for each in ask("GET", "/api/fields")}
        assert "label" in fields
        retriever.remove("red/03.png")
        site._look(at_once=True)
        assert ask("GET", "/api/gallery")["items"] == 35
        assert ask("POST", "/api/search", content=data)["hits"][0]["key"] != "red/03.png"
    finally:
        site.close()
