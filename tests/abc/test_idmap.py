"""The map from ids to positions against a plain list."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from imgret.support.idmap import IdMap
from imgret.testing import strategies


@given(strategies.ids(count=st.integers(0, 60)), st.booleans(), st.data())
def test_against_a_list(ids, in_order, data):
    if in_order:
        ids = np.sort(ids)
    map_, model = IdMap(), []
    cuts = sorted(data.draw(st.lists(st.integers(0, len(ids)), max_size=4)))
    for part in np.split(ids, cuts):
        map_.append(part)
        model.extend(part.tolist())
        if model and data.draw(st.booleans()):
            gone = data.draw(st.lists(st.sampled_from(range(len(model))), unique=True))
            map_.remove(np.array(gone, dtype=np.intp))
            model = [id_ for place, id_ in enumerate(model) if place not in gone]
        assert len(map_) == len(model)
        assert map_.ids.tolist() == model
        asked = np.append(ids, [int(ids.max(initial=0)) - 1, 0])
        expected = [model.index(id_) if id_ in model else -1 for id_ in asked.tolist()]
        assert map_.positions(asked).tolist() == expected
    assert not map_.ids.flags.writeable


def test_a_view_of_the_ids_outlives_changes():
    map_ = IdMap(np.array([5, 2, 9]))
    before = map_.ids
    map_.append(np.array([1]))
    map_.remove(np.array([0]))
    assert before.tolist() == [5, 2, 9]
    assert map_.ids.tolist() == [2, 9, 1]
