"""What decoders may take: scans, and the memory that is counted before they begin."""

import os
from dataclasses import replace
from pathlib import Path
from threading import Thread

import pytest

from imgret.errors import ImageTooLargeError
from imgret.images import limits
from imgret.images.headers import Header
from imgret.images.limits import DecodingMemory, check_scans, decoding_bytes, decoding_memory

HEAD = Header("PNG", 400, 300)


@pytest.mark.parametrize(
    ("size", "most"),
    [((1, 1), 1000), ((3000, 1000), 1000), ((2000, 2000), 750), ((10_000, 10_000), 30)],
)
def test_as_many_scans_as_a_decoder_goes_over_in_two_seconds(size, most):
    head = Header("JPEG", *size, scans=most)
    check_scans(head, "a.jpg")
    with pytest.raises(ImageTooLargeError, match=f"a.jpg: .* at most {most} scans.*{most + 1};"):
        check_scans(replace(head, scans=most + 1), "a.jpg")


@pytest.mark.parametrize(
    ("told", "factor", "per_pixel"),
    [
        ({}, 1, 6),
        ({"bits": 8, "alpha": "straight"}, 1, 6 + 4),
        ({"transparent": 0}, 1, 6 + 4),
        ({"bits": 9}, 1, 6 + 8),
        ({"bits": 16, "alpha": "straight"}, 1, 6 + 8),
        ({"format": "JPEG"}, 2, 6 / 4),
        ({"format": "JPEG", "buffered": True}, 1, 6 + 2 * 3),
        ({"format": "JPEG", "buffered": True, "channels": 4}, 2, 6 / 4 + 2 * 4),
        ({"format": "AVIF"}, 1, 6 + 4),
        ({"format": "AVIF", "bits": 10}, 1, 6 + 8 + 8),
        ({"format": "HEIC", "alpha": "straight"}, 1, 6 + 4 + 4),
        ({"format": "AVIF", "coded": (800, 600)}, 1, 6 + 4 * 4),
        ({"format": "AVIF", "coded": (40, 30)}, 1, 6 + 4),
    ],
)
def test_bytes_that_decoding_takes(told, factor, per_pixel):
    assert decoding_bytes(replace(HEAD, **told), factor) == per_pixel * 400 * 300


def test_sides_that_are_reduced_are_rounded_up():
    assert decoding_bytes(Header("JPEG", 401, 299), 4) == 6 * 101 * 75


# -- memory of all threads -------------------------------------------------------------------------

LARGE = 64 << 20


def enters(memory, wanted):
    """Whether another thread may begin at once; it is let in afterwards."""
    entered = []

    def take():
        with memory.use(wanted):
            entered.append(memory.used)

    thread = Thread(target=take)
    thread.start()
    thread.join(0.2)
    return thread, entered


def test_what_is_in_use_is_not_given_twice():
    memory = DecodingMemory(3 * LARGE)
    with memory.use(2 * LARGE):
        assert memory.used == 2 * LARGE
        thread, entered = enters(memory, LARGE)  # it fits exactly
        thread.join(10)
        assert entered == [3 * LARGE]
        assert memory.used == 2 * LARGE
        thread, entered = enters(memory, LARGE + 1)
        assert entered == []
    thread.join(10)
    assert entered == [LARGE + 1]
    assert memory.used == 0


def test_a_part_of_an_image_is_counted_with_it():
    memory = DecodingMemory(LARGE)
    with memory.use(LARGE):
        with memory.use(5 * LARGE):
            assert memory.used == LARGE
        assert memory.used == LARGE
    for wanted, counted in ((LARGE - 1, 0), (LARGE, LARGE), (9 * LARGE, 9 * LARGE)):
        with memory.use(wanted):
            assert memory.used == counted
    with pytest.raises(KeyError), memory.use(LARGE):
        raise KeyError
    assert memory.used == 0


def test_a_child_forgets_the_threads_of_its_parent():
    memory = DecodingMemory(2 * LARGE)
    with memory.use(LARGE):
        memory._used[-1] = LARGE  # another thread, which a fork leaves behind
        memory.renew()
        assert memory.used == LARGE
    assert memory.used == 0


@pytest.mark.skipif(not hasattr(os, "sysconf"), reason="Windows does not say")
def test_a_quarter_of_the_memory_is_for_decoders(monkeypatch, tmp_path):
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path(tmp_path / "memory.max")
    monkeypatch.setattr(limits, "_CGROUP", limit)
    assert limits._memory_of_machine() == machine
    for text, expected in (("max\n", machine), ("4096\n", 4096), (f"{machine + 1}\n", machine)):
        limit.write_text(text)
        assert limits._memory_of_machine() == expected
    monkeypatch.undo()
    assert decoding_memory.most == max(1 << 30, limits._memory_of_machine() // 4)
    monkeypatch.delattr(os, "sysconf")
    assert limits._memory_of_machine() == 0
