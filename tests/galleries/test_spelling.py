"""Names in two Unicode spellings: found in either, told apart where both are there."""

from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgret.errors import KeyNotFoundError
from imgret.galleries.local.catalog import Catalog
from imgret.support.spelling import normal, respelled, shown
from imgret.types import Item

NFC, NFD = "caf\xe9.jpg", "cafe\u0301.jpg"
names = st.sets(st.text("e\xe9\u0301o\xf6\u0308a", max_size=4), max_size=6)


@given(names, names)
def test_only_one_of_each_form_is_matched(wanted, held):
    found = respelled(wanted, held)
    for name, other in found.items():
        assert normal(name) == normal(other)
        assert name in wanted - held
        assert other in held - wanted
        assert [w for w in wanted - held if normal(w) == normal(name)] == [name]
        assert [h for h in held - wanted if normal(h) == normal(name)] == [other]
    assert len(set(found.values())) == len(found)


def test_both_ways_and_what_is_no_name():
    assert respelled([NFC], [NFD]) == {NFC: NFD}
    assert respelled([NFD], {NFC: 1, 5: 2, None: 3}) == {NFD: NFC}
    assert respelled([NFD, NFC], [NFC]) == {}
    assert shown(NFC) == f"'{NFC}'"
    assert shown(NFD) == r"'cafe\u0301.jpg'"


def test_a_catalog_finds_a_key_by_its_other_spelling():
    with closing(Catalog()) as catalog:
        catalog.add([Item(NFD), Item("x")], [0, 0])
        assert catalog.require([NFC, "x"]) == catalog.require([NFD, "x"]) == [0, 1]
        assert NFC in catalog
        catalog.add([Item(NFC)], [0])
        assert catalog.require([NFC, NFD]) == [2, 0]
        with pytest.raises(KeyNotFoundError, match=r"found 'caf\xe8.jpg'; near it: 'caf\xe9.jpg'"):
            catalog.require(["caf\xe8.jpg"])


def test_what_two_keys_look_like_is_told_apart():
    vietnamese = "\u1ec7", "e\u0323\u0302", "\xea\u0323"  # one letter, in three spellings
    with closing(Catalog()) as catalog:
        catalog.add([Item(vietnamese[0]), Item(vietnamese[1])], [0, 0])
        assert vietnamese[2] not in catalog
        with pytest.raises(KeyNotFoundError) as caught:
            catalog.require([vietnamese[2]])
        message = str(caught.value)
        assert r"found '\xea\u0323', which looks like '\u1ec7' and 'e\u0323\u0302'" in message
