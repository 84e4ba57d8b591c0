"""``imgret check``: what is damaged, and its repair."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing


def damage(gallery):
    with closing(sqlite3.connect(gallery / "catalog.sqlite")) as db, db:
        db.execute("UPDATE items SET label = 'thistle' WHERE key = 'rose/1.jpg'")


def test_sound(run, work):
    ended = run("check", "photos.imgret")
    assert ended.code == 0
    assert ended.out.endswith("photos.imgret: 12 items are sound, nothing is damaged\n")
    facts = json.loads(run("check", "photos.imgret", "--json").out)
    assert (facts["ok"], facts["items"], facts["damages"]) == (True, 12, [])


def test_damaged_then_repaired(run, work):
    damage(work / "photos.imgret")
    listed = run("list", "photos.imgret")
    assert listed.code == 1
    assert "imgret check" in listed.err
    ended = run("check", "photos.imgret")
    assert ended.code == 3
    assert "catalog: 'rose/1.jpg': row" in ended.out
    facts = json.loads(run("check", "photos.imgret", "--json").out)
    (found,) = facts["damages"]
    assert (found["part"], found["key"], found["item"]["label"]) == (
        "catalog",
        "rose/1.jpg",
        "thistle",
    )
    ended = run("check", "photos.imgret", "--repair")
    assert ended.code == 3  # an item was lost
    assert "repaired; 11 items are sound; 1 damaged one was removed" in ended.out
    assert run("check", "photos.imgret").code == 0
    assert "rose/1.jpg" not in run("list", "photos.imgret").out
    # as the report says
    assert run("index", "photos", "-o", "photos.imgret", "--labels", "parent").code == 0
    assert "rose/1.jpg" in run("list", "photos.imgret").out


def test_a_manifest_is_restored(run, work):
    manifest = work / "photos.imgret" / "manifest.json"
    manifest.write_text("{")
    ended = run("info", "photos.imgret")
    assert "imgret check" in ended.err
    assert "--repair" in ended.err
    assert run("check", "photos.imgret", "--repair").code == 0
    assert run("info", "photos.imgret").code == 0


def test_mistakes(run, work):
    assert "imgret index" in run("check", "none.imgret").err
    assert run("check", "query.jpg").code == 1


def test_compact(run, work):
    run("remove", "photos.imgret", "rose/1.jpg", "rose/2.jpg")
    ended = run("compact", "photos.imgret")
    assert ended.code == 0
    assert ended.out == "deleted what was left of 2 removed images\n"
    assert "MB now" in ended.err
    assert json.loads(run("info", "photos.imgret", "--json").out)["removed"] == 0
    assert run("compact", "photos.imgret").out == "nothing is left of removed images\n"
    assert json.loads(run("compact", "photos.imgret", "--json").out)["removed"] == 0
    assert run("check", "photos.imgret").code == 0
    assert b"rose/1.jpg" not in (work / "photos.imgret" / "catalog.sqlite").read_bytes()
