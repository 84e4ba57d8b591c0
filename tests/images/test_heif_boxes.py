"""Boxes of HEIF files in each of their versions, which differ in the width of numbers."""

from random import Random
from struct import error, pack

import pytest

from imgret.images.heif import boxes, is_film, read_items


def box(kind, *parts):
    content = b"".join(parts)
    return pack(">I4s", 8 + len(content), kind) + content


@pytest.mark.parametrize("large", [False, True], ids=["bytes", "words"])
@pytest.mark.parametrize(("version", "width", "item"), [(0, ">H", 4), (1, ">I", 70_000)])
def test_properties_are_those_of_their_items(version, width, item, large):
    def owns(number, *places):
        numbers = [pack(">H", 0x8000 | at) if large else pack("B", 0x80 | at) for at in places]
        return pack(width, number) + bytes([len(places)]) + b"".join(numbers)

    head, uncounted = bytes([version, 0, 0, large]), owns(9, 2)
    properties = box(b"ipco", box(b"ispe", bytes(12)), box(b"irot", b"\1"), box(b"imir", b"\0"))
    owned = box(b"ipma", head, pack(">I", 2), owns(3, 1), owns(item, 1, 3), uncounted)
    meta = box(
        b"meta",
        bytes(4),
        box(b"pitm", bytes([version, 0, 0, 0]), pack(width, item)),
        box(b"iprp", properties, owned),
    )
    items = read_items(box(b"ftyp", b"heic") + meta)
    assert items.primary == item
    assert items.owned == {3: [0], item: [0, 2]}
    assert [kind for kind, *_ in items.of(item)] == [b"ispe", b"imir"]


def wide(number, size):
    return number.to_bytes(size, "big")


def located(rng, items, stored):
    """Return an ``iloc`` box, and the contents that it says each item has.

    Items are stored in the file, whose bytes are ``stored[0]``, in the ``idat`` box, ``stored[1]``,
    or where they are not looked for.
    """
    version = rng.choice([0, 1, 2])
    offset_size, length_size = rng.choice([2, 4, 8]), rng.choice([0, 1, 4, 8])
    base_size, index_size = rng.choice([0, 4, 8]), rng.choice([0, 4])  # reserved in version 0
    number = 4 if version == 2 else 2
    sizes = [offset_size << 4 | length_size, base_size << 4 | index_size]
    body = bytes([version, 0, 0, 0, *sizes]) + wide(len(items), number)
    contents = {}
    for item in items:
        method = rng.choice([0, 1, 2]) if version else 0
        whole = stored[method == 1]
        base = rng.randrange(5) if base_size else 0
        extents, parts = b"", []
        for _ in range(rng.choice([1, 1, 2, 3])):
            start = rng.randrange(base, len(whole) - 20)
            length = rng.randrange(1, 20) if length_size else 0
            extents += rng.randbytes(index_size if version else 0)
            extents += wide(start - base, offset_size)
            extents += wide(length, length_size)
            parts.append(whole[start : start + length] if length else None)
        body += wide(item, number)
        if version:
            body += wide(rng.randrange(16) << 4 | method, 2)
        body += rng.randbytes(2) + wide(base, base_size)
        body += wide(len(parts), 2) + extents
        if None not in parts:
            contents[item] = b"" if method == 2 else b"".join(parts)
    uncounted = wide(items[0], number) + bytes(40)
    return box(b"iloc", body, uncounted), contents


def test_items_have_the_kinds_contents_and_references_that_the_boxes_say():
    for seed in range(400):
        rng = Random(seed)  # noqa: S311  # no secret
        numbers = rng.sample(range(1, 60_000), rng.choice([1, 2, 5]))
        kinds, infos, references = {}, b"", []
        for item in numbers:
            version, kind = rng.choice([0, 2, 3]), rng.choice([b"av01", b"hvc1", b"grid", b"Exif"])
            if version:
                kinds[item] = kind
            number = wide(item, 4 if version == 3 else 2)
            infos += box(
                b"infe", bytes([version]), rng.randbytes(3), number, bytes(2), kind + b"x\0"
            )
        infos += box(b"free", bytes([2]), rng.randbytes(20))
        version = rng.choice([0, 1])
        iinf = box(
            b"iinf", bytes([version, 0, 0, 0]), wide(len(numbers), 4 if version else 2), infos
        )
        version = rng.choice([0, 1])
        number = 4 if version else 2
        sources = b""
        for _ in range(rng.choice([0, 1, 3])):
            source, targets = rng.choice(numbers), rng.choices(numbers, k=rng.choice([0, 1, 2, 4]))
            references.append((b"thmb", source, tuple(targets)))
            targets = [wide(each, number) for each in targets]
            sources += box(b"thmb", wide(source, number), wide(len(targets), 2), *targets)
        iref = box(b"iref", bytes([version, 0, 0, 0]), sources)
        idat = rng.randbytes(90)
        ftyp = box(b"ftyp", rng.randbytes(100))
        iloc, contents = located(rng, numbers, (ftyp, idat))
        rest = [iinf, iref, iloc]
        rng.shuffle(rest)
        data = ftyp + box(b"meta", bytes(4), box(b"idat", idat), *rest)
        found = read_items(data)
        assert found.primary == 0
        assert (found.kinds, found.references) == (kinds, references), seed
        for item, content in contents.items():
            assert found.contents(data, item) == content, seed
        assert found.contents(data, 60_001) == b""


def test_an_extent_without_a_length_is_the_rest_of_the_file():
    ftyp = box(b"ftyp", b"heic")
    sizes = bytes([0x40, 0x00])  # of offsets, lengths, the base and the index
    for extents in (1, 3):  # which would be the file again and again
        places = wide(3, 4) * extents
        iloc = box(
            b"iloc", bytes(4), sizes, wide(1, 2), wide(7, 2), bytes(2), wide(extents, 2), places
        )
        data = ftyp + box(b"meta", bytes(4), iloc)
        content = (data[3:] + data[3:])[: len(data)] if extents > 1 else data[3:]
        assert read_items(data).contents(data, 7) == content


def test_an_exif_item_begins_with_an_offset():
    ftyp = box(b"ftyp", b"heic")
    for junk in (b"", b"four"):
        block = wide(len(junk) + 6, 4) + junk + b"Exif\0\0" + b"II*\0rest"
        infe = box(b"infe", bytes([2, 0, 0, 0]), wide(7, 2), bytes(2), b"Exif\0")
        iinf = box(b"iinf", bytes(4), wide(1, 2), infe)
        iloc = box(
            b"iloc", bytes(4), bytes([0x44, 0]), wide(1, 2), wide(7, 2), bytes(2), wide(1, 2),
            wide(len(ftyp) + 8, 4), wide(len(block), 4),
        )  # fmt: skip
        data = ftyp + box(b"mdat", block) + box(b"meta", bytes(4), iinf, iloc)
        assert read_items(data).exif(data) == b"II*\0rest"
        assert read_items(data.replace(b"Exif\0", b"mime\0")).exif(data) == b""


def test_properties_without_an_owner_are_those_of_all():
    iprp = box(b"iprp", box(b"ipco", box(b"ispe", bytes(12)), box(b"irot", b"\1")))
    found = read_items(box(b"meta", bytes(4), iprp))
    assert [kind for kind, *_ in found.of(1)] == [b"ispe", b"irot"]
    assert found.shown == set()
    found.owned |= {1: [-1, 0, 1, 2], 2: [], 3: [1], 4: [1], 5: [1]}
    assert [kind for kind, *_ in found.of(1)] == [b"ispe", b"irot"]  # there are two
    assert (found.of(2), len(found.of(9))) == ([], 2)
    found.references += [(b"auxl", 3, (1,)), (b"thmb", 4, (1,)), (b"cdsc", 5, (1,))]
    assert found.shown == {1, 2, 5}


def test_boxes_in_a_row():
    data = (
        b"skip" + box(b"aaaa", b"one") + box(b"bbbb") + wide(1, 4) + b"cccc" + wide(20, 8) + b"four"
    )
    last = len(data) + 8
    data += wide(0, 4) + b"dddd" + b"to the end"
    contents = [(b"aaaa", b"one"), (b"bbbb", b""), (b"cccc", b"four"), (b"dddd", b"to the end")]
    assert [(kind, data[a:b]) for kind, a, b in boxes(data, 4, len(data))] == contents
    assert [(kind, data[a:b]) for kind, a, b in boxes(data, 4, last)][-1] == (b"dddd", b"")
    assert [(kind, data[a:b]) for kind, a, b in boxes(data, 4, last - 1)] == contents[:3]
    cut = box(b"aaaa", b"one")
    assert [(kind, cut[a:b]) for kind, a, b in boxes(cut, 0, 10)] == [(b"aaaa", b"on")]
    for length in range(2, 8):
        with pytest.raises(ValueError, match="^$"):
            list(boxes(wide(length, 4) + b"aaaa" + bytes(20), 0, 28))
    with pytest.raises(ValueError, match="^$"):
        list(boxes(wide(1, 4) + b"aaaa" + wide(15, 8) + bytes(9), 0, 25))
    with pytest.raises(error):
        list(boxes(wide(1, 4) + b"aaaa", 0, 8))


def test_a_film_has_tracks_and_no_image():
    ftyp, moov, meta = box(b"ftyp", b"avis"), box(b"moov"), box(b"meta", bytes(4))
    assert is_film(ftyp + moov)
    for data in (ftyp, ftyp + moov + meta, ftyp + meta, ftyp + moov + wide(3, 4) + b"free"):
        assert not is_film(data)


def test_an_endless_list_ends():
    """What is announced is read as far as there are bytes, and no further than is sensible."""
    many = [box(b"free")] * 10_001
    iprp = box(b"iprp", box(b"ipco", *many))
    assert len(read_items(box(b"meta", bytes(4), iprp)).properties) == 10_000
    for version in (0, 1):
        number = 4 if version else 2
        targets = bytes(number * 10_001)
        iref = box(
            b"iref", bytes([version, 0, 0, 0]), box(b"thmb", wide(9, number), bytes(2), targets)
        )
        ((_, source, found),) = read_items(box(b"meta", bytes(4), iref)).references
        assert (source, len(found)) == (9, 10_000)
