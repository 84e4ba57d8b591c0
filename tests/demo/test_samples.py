"""The drawn sample images."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PillowImage

from imgret.demo import samples
from imgret.errors import InvalidInputError, UnknownNameError


@pytest.mark.parametrize("name", samples.species())
def test_every_species_can_be_drawn(name):
    image = samples.draw(name, 3)
    assert image.dtype == np.uint8
    assert image.shape[2] == 3
    assert min(image.shape[:2]) >= 320
    assert max(image.shape[:2]) <= 640
    assert 25 < image.mean() < 230
    assert image.std() > 15  # there is something to see


def test_there_are_enough_species_in_order():
    assert len(samples.species()) >= 8
    assert list(samples.species()) == sorted(samples.species())


def test_seed_and_species_decide():
    first = samples.draw("daisy", 7, size=(160, 120))
    np.testing.assert_array_equal(first, samples.draw("daisy", 7, size=(160, 120)))
    for other in (("daisy", 8), ("tulip", 7)):
        difference = np.abs(samples.draw(*other, size=(160, 120)).astype(int) - first)
        assert difference.mean() > 5


@settings(max_examples=25, deadline=None)
@given(
    name=st.sampled_from(samples.species()),
    seed=st.integers(0, 2**40),
    size=st.tuples(st.integers(1, 90), st.integers(1, 90)),
)
def test_any_size_can_be_drawn(name, seed, size):
    image = samples.draw(name, seed, size=size)
    assert image.shape == (size[1], size[0], 3)
    assert image.dtype == np.uint8


def test_pictures_are_upright_and_wide():
    shapes = {samples.draw("lily", seed).shape[:2] for seed in range(12)}
    assert any(height > width for height, width in shapes)
    assert any(height < width for height, width in shapes)


@pytest.mark.slow
def test_gallery_is_a_folder_a_species(tmp_path):
    gallery = samples.write_gallery(tmp_path / "flowers", per_species=2)
    assert len(gallery) == 2 * len(samples.species())
    assert gallery[1] == tmp_path / "flowers" / samples.species()[0] / "bluebell-002.jpg"
    assert sorted(gallery) == sorted((tmp_path / "flowers").glob("*/*.jpg"))
    with PillowImage.open(gallery[0]) as picture:
        assert picture.format == "JPEG"
        drawn = samples.draw("bluebell", 0).astype(int)
        assert np.abs(np.asarray(picture) - drawn).mean() < 12


@pytest.mark.slow
def test_writing_again_gives_the_same_bytes(tmp_path):
    first = samples.write_gallery(tmp_path / "a", per_species=1, seed=5)
    again = samples.write_gallery(tmp_path / "b", per_species=1, seed=5)
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]


@pytest.mark.slow
def test_queries_are_in_no_gallery(tmp_path):
    gallery = samples.write_gallery(tmp_path, per_species=2)
    queries = samples.write_queries(tmp_path, per_species=2)
    assert queries[0].name == "bluebell-query-001.jpg"
    files = {path.read_bytes() for path in gallery + queries}
    assert len(files) == len(gallery) + len(queries)


@pytest.mark.slow
def test_galleries_of_two_seeds_differ(tmp_path):
    first = samples.write_gallery(tmp_path / "a", per_species=1, seed=0)
    other = samples.write_gallery(tmp_path / "b", per_species=1, seed=1)
    assert {p.read_bytes() for p in first}.isdisjoint(p.read_bytes() for p in other)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        (("dandelion", 1), {}, UnknownNameError, "no 'dandelion'; known: bluebell, daffodil"),
        (("daisy", -1), {}, InvalidInputError, "seed: expected .* found -1"),
        (("daisy", 1.5), {}, InvalidInputError, "seed: expected .* found 1.5"),
        (("daisy", 1), {"size": (0, 5)}, InvalidInputError, "size: expected .* found 0"),
    ],
)
def test_bad_arguments_are_told(arguments, options, error, message):
    with pytest.raises(error, match=message):
        samples.draw(*arguments, **options)
