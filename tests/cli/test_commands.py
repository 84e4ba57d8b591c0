"""What the commands do when all is well."""

import json
import shutil

import pytest

from imgret import Retriever, registry


def gallery_keys(path):
    with Retriever.open(path) as retriever:
        return list(retriever)


def test_without_a_command_it_explains_itself(run):
    ended = run()
    assert ended.code == 0
    assert ended == run("--help")
    assert "Usage: imgret" in ended.out
    for command in ("index", "search", "info", "remove", "reindex", "plugins", "demo", "models"):
        assert f"\n  {command} " in ended.out


@pytest.mark.parametrize("command", ["index", "search", "models check", "demo"])
def test_every_command_has_help(run, command):
    ended = run(*command.split(), "-h")
    assert ended.code == 0
    assert f"Usage: imgret {command}" in ended.out


# -- index -----------------------------------------------------------------------------------


def test_index_makes_a_gallery_with_relative_keys(work, run):
    assert run("index", "photos", "-o", "new.imgret", "--labels", "parent").code == 0
    with Retriever.open("new.imgret") as retriever:
        assert sorted(retriever) == sorted(
            f"{species}/{n}.jpg" for species in ("daisy", "rose", "tulip") for n in range(4)
        )
        assert retriever["rose/2.jpg"].label == "rose"
        assert retriever["rose/2.jpg"].path == str(work / "photos" / "rose" / "2.jpg")


def test_index_twice_adds_nothing(work, run):
    first = run("index", "photos", "-o", "new.imgret")
    second = run("index", "photos", "-o", "new.imgret")
    assert first.err.startswith("12 added; ")
    assert second.err.startswith("12 unchanged; ")
    assert "seconds" not in first.err
    assert second.out == first.out == "new.imgret: 12 images\n"


def test_index_again_takes_in_what_has_changed(work, run):
    shutil.copy("query.jpg", "photos/rose/new.jpg")
    shutil.copy("query.jpg", "photos/rose/0.jpg")
    ended = run("index", "photos", "-o", "photos.imgret")
    assert ended.out == "photos.imgret: 13 images\n"
    assert ended.err.startswith("1 updated, 11 unchanged, 1 identical to another image; ")
    hits = json.loads(run("search", "photos.imgret", "query.jpg", "-k2", "--json").out)["hits"]
    assert {hit["key"] for hit in hits} == {"rose/new.jpg", "rose/0.jpg"}


def test_index_removes_what_has_vanished_on_request(work, run):
    run("index", "photos", "-o", "photos.imgret")
    first, second, *others = sorted(gallery_keys(work / "photos.imgret"))
    (work / "photos" / first).unlink()
    (work / "photos" / second).rename(work / "photos" / "renamed.jpg")
    told = run("index", "photos", "-o", "photos.imgret")
    assert "10 unchanged, 1 renamed, 1 missing" in told.err
    assert set(gallery_keys(work / "photos.imgret")) == {first, "renamed.jpg", *others}
    told = run("index", "photos", "-o", "photos.imgret", "--prune")
    assert "11 unchanged, 1 removed" in told.err
    assert set(gallery_keys(work / "photos.imgret")) == {"renamed.jpg", *others}


def test_index_keeps_two_folders_apart_by_a_prefix(work, run):
    shutil.copytree("photos/rose", "other")
    assert run("index", "other", "-o", "photos.imgret", "--prefix", "other/").code == 0
    keys = gallery_keys("photos.imgret")
    assert len(keys) == 16
    assert "other/0.jpg" in keys


def test_index_takes_cropper_index_and_metric_by_name(work, run):
    arguments = ("--cropper", "center", "--index", "hnsw", "--metric", "l2", "--threads", "1")
    assert run("index", "photos", "-o", "new.imgret", *arguments).code == 0
    facts = json.loads(run("info", "new.imgret", "--json").out)
    assert facts["cropper"] == {"name": "center", "fraction": 0.8}
    assert facts["index"]["name"] == "hnsw"
    assert facts["metric"] == "l2"


# -- search ----------------------------------------------------------------------------------


def test_search_says_what_it_found_and_what_it_looks_like(work, run):
    ended = run("search", "photos.imgret", "photos/tulip/1.jpg", "-k", "3")
    first, *hits = ended.out.splitlines()
    assert first.startswith("photos/tulip/1.jpg")
    assert hits[0].split() == ["1", "1.0000", "tulip", "tulip/1.jpg"]
    assert [line.split()[0] for line in hits] == ["1", "2", "3"]
    assert ended.err == ""


def test_search_json_is_one_object_a_line(work, run):
    ended = run("search", "photos.imgret", "query.jpg", "photos/rose/0.jpg", "-k", "2", "--json")
    first, second = map(json.loads, ended.out.splitlines())
    assert (first["query"], second["query"]) == ("query.jpg", "photos/rose/0.jpg")
    assert set(first) == {"query", "hits"}
    for answer in (first, second):
        assert [hit["rank"] for hit in answer["hits"]] == [1, 2]
        assert answer["hits"][0]["score"] >= answer["hits"][1]["score"]
    best = second["hits"][0]
    assert best.pop("score") == pytest.approx(1, abs=1e-3)
    assert best == {
        "key": "rose/0.jpg",
        "rank": 1,
        "label": "rose",
        "path": str(work / "photos" / "rose" / "0.jpg"),
        "box": [0, 0, 120, 90],
        "metadata": {},
    }


@pytest.mark.slow
@pytest.mark.parametrize("k", [99999999999, 2**63, 10**30])
def test_a_k_far_above_the_gallery_gives_all_there_are(work, run, k):
    n = len(list((work / "photos").rglob("*.jpg")))
    ended = run("search", "photos.imgret", "query.jpg", "--json", "-k", k)
    assert (ended.code, ended.err) == (0, "")
    assert len(json.loads(ended.out)["hits"]) == n
    assert len(run("search", "photos.imgret", "query.jpg", "-k", k).out.splitlines()) == n + 1
    ended = run("tune", "photos.imgret", "-k", k)
    assert ended.code == 1
    assert ended.err.startswith("imgret: error: ")


@pytest.mark.slow
def test_search_leaves_out_hits_below_the_threshold(work, run):
    def scores(*arguments):
        out = run("search", "photos.imgret", "query.jpg", "--json", *arguments).out
        return [hit["score"] for hit in json.loads(out)["hits"]]

    everything = scores("-k", "100")
    assert len(everything) == 12
    limit = everything[4]
    assert scores("--threshold", str(limit)) == everything[:5]
    assert scores("--threshold", "2") == []


def test_a_query_that_cannot_be_read_costs_only_itself(work, run):
    (work / "broken.jpg").write_bytes(b"no picture")
    ended = run("search", "photos.imgret", "query.jpg", "broken.jpg", "lost.jpg", "--json")
    assert ended.code == 3
    assert [json.loads(line)["query"] for line in ended.out.splitlines()] == ["query.jpg"]
    broken, lost = ended.err.splitlines()
    assert "broken.jpg: expected an image" in broken
    assert "lost.jpg: there is no such file" in lost
    assert run("search", "photos.imgret", "broken.jpg").code == 1


# -- the others ------------------------------------------------------------------------------


def test_info_tells_what_a_gallery_is_made_of(work, run):
    facts = json.loads(run("info", "photos.imgret", "--json").out)
    assert facts["items"] == 12
    assert facts["labels"] == 3
    assert facts["removed"] == 0
    assert facts["embedder"] == {"name": "general"}
    assert facts["index"] == {"name": "flat"}
    assert facts["projection"] is None
    assert facts["bytes"] > 12 * facts["dim"] * 2
    lines = dict(line.split(maxsplit=1) for line in run("info", "photos.imgret").out.splitlines())
    assert lines["items"] == "12"
    assert lines["embedder"] == "general"
    assert set(lines) == set(facts)


def test_remove_takes_out_pictures_and_leaves_files(work, run):
    ended = run("remove", "photos.imgret", "rose/0.jpg", "rose/1.jpg")
    assert ended.out == "removed 2; 10 images left\n"
    assert (work / "photos" / "rose" / "0.jpg").exists()
    assert "rose/0.jpg" not in gallery_keys("photos.imgret")
    assert json.loads(run("info", "photos.imgret", "--json").out)["removed"] == 2


def test_remove_is_all_or_nothing(work, run):
    ended = run("remove", "photos.imgret", "rose/0.jpg", "rose/9.jpg")
    assert ended.code == 1
    assert "'rose/9.jpg'" in ended.err
    assert len(gallery_keys("photos.imgret")) == 12


@pytest.mark.slow
def test_reindex_changes_the_index_and_not_the_answers(work, run):
    def keys():
        out = run("search", "photos.imgret", "query.jpg", "-k5", "--json").out
        return [hit["key"] for hit in json.loads(out)["hits"]]

    before = keys()
    ended = run("reindex", "photos.imgret", "--index", "hnsw")
    assert ended.out.startswith("HNSWIndex(dim=")
    assert json.loads(run("info", "photos.imgret", "--json").out)["index"]["name"] == "hnsw"
    assert keys() == before
    assert run("reindex", "photos.imgret").out.startswith("HNSWIndex(")


@pytest.mark.slow
def test_every_command_answers_in_json(work, run):
    """What is done is told, and nothing else is printed."""

    def told(*words):
        ended = run(*words, "--json")
        assert ended.code == 0, ended.err
        return json.loads(ended.out)

    indexed = told("index", "photos", "-o", "new.imgret", "--labels", "parent")
    assert (indexed["gallery"], indexed["items"], indexed["total"]) == ("new.imgret", 12, 12)
    assert len(indexed["ok"]) == 12
    assert told("remove", "new.imgret", indexed["ok"][0]) == {"removed": 1, "left": 11}
    built = told("reindex", "new.imgret", "--index", "hnsw")
    assert (built["index"], built["items"], built["reason"]) == ("hnsw", 11, None)
    assert told("map", "new.imgret", "-o", "map.html") == {
        "page": "map.html",
        "method": "tsne",
        "items": 11,
    }
    shown = told("demo", "--folder", "photos", "-o", "out")
    assert shown["items"] + len(shown["queries"]) == 12
    assert shown["report"]["failed"] == []
    assert told("adapt", "new.imgret", "--off") == {"projection": None}
    assert told("models", "check", "general")["ok"] is True
    assert told("evaluate", "photos.imgret", "--save", "report.json")["n_queries"] == 12
    assert told("compare", "report.json", "report.json")["better"] is None


KINDS = ("embedders", "croppers", "indexes", "rerankers", "galleries")


def test_plugins_lists_all_registered_names(run):
    listed = json.loads(run("plugins", "--json").out)
    assert listed == {k: registry.names(k) for k in KINDS}
    text = run("plugins").out
    for names in listed.values():
        starts = set()
        for name, home in names.items():
            (line,) = (row for row in text.splitlines() if row.split(maxsplit=1) == [name, home])
            starts.add(line.index(home))
        assert len(starts) == 1  # one under the other


@pytest.mark.slow
def test_models_list_and_check(run):
    facts = [json.loads(line) for line in run("models", "list", "--json").out.splitlines()]
    general = next(fact for fact in facts if fact["name"] == "general")
    assert general["kind"] == "embedder"
    assert general["dim"] == 1280
    lines = dict(line.split(maxsplit=1) for line in run("models", "list").out.splitlines())
    assert lines["general"].startswith("embedder, 1280-d")
    ended = run("models", "check")
    assert ended.code == 0
    assert all(": ok, cosine " in line for line in ended.out.splitlines())
    assert len(ended.out.splitlines()) == len(facts)


def test_models_check_fails_a_model_that_answers_otherwise(run, monkeypatch):
    from imgret.models.golden_check import Check

    monkeypatch.setattr("imgret.models.check", lambda name: Check(name, 0.5, 0.99))
    ended = run("models", "check", "general")
    assert ended.code == 3
    assert ended.out == "general: DIFFERENT, cosine 0.5000 (at least 0.99)\n"


def test_warnings_are_lines_of_the_command(work, run):
    import warnings

    run("reindex", "photos.imgret", "--index", "hnsw")
    with (work / "photos.imgret" / "index" / "state" / "ids.npy").open("ab") as file:
        file.write(b"damage")
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        ended = run("search", "photos.imgret", "query.jpg", "-k1")
    assert ended.code == 0
    assert ended.err.startswith("imgret: warning: photos.imgret: the stored index is unusable")
    assert ended.err.count("\n") == 1


# -- evaluate --------------------------------------------------------------------------------


def test_evaluate_prints_the_four_numbers_people_read(work, run):
    ended = run("evaluate", "photos.imgret")
    metrics = json.loads(run("evaluate", "photos.imgret", "--json").out)
    lines = ended.out.splitlines()[1:5]
    expected = {
        "top-1 accuracy": metrics["top1"],
        "top-5 accuracy": metrics["top5"],
        "mAP@5": metrics["map5"]["min_k_r"],
        "mAP@R": metrics["map_r"],
    }
    for line, (title, value) in zip(lines, expected.items(), strict=True):
        assert line.startswith(f"{title} ")
        assert f"  {value:.4f}  [" in line
    assert "mrr" not in ended.out
    assert ended.err == "means over the queries, with 95 % intervals; --all prints all 23\n"
    whole = run("evaluate", "photos.imgret", "--all")
    assert {"ndcg10", "mrr", "map_r"} <= {line.split()[0] for line in whole.out.splitlines()}
    assert "--all" not in whole.err


@pytest.mark.slow
def test_stage_seconds_on_request(work, command):
    ended = command(["index", "photos", "-o", "new.imgret", "-v"])
    assert "\nseconds over all threads: read 0." in ended.stderr
