"""Boxes of HEIF files in each of their versions, which differ in the width of numbers."""

from struct import pack

import pytest

from imgret.images.heif import read_items


def box(kind, *parts):
    content = b"".join(parts)
    return pack(">I4s", 8 + len(content), kind) + content


@pytest.mark.parametrize("large", [False, True], ids=["bytes", "words"])
@pytest.mark.parametrize(("version", "width", "item"), [(0, ">H", 4), (1, ">I", 70_000)])
def test_properties_are_those_of_their_items(version, width, item, large):
    def owns(number, *places):
        numbers = [pack(">H", 0x8000 | at) if large else pack("B", 0x80 | at) for at in places]
        return pack(width, number) + bytes([len(places)]) + b"".join(numbers)

    head = bytes([version, 0, 0, large])
    properties = box(b"ipco", box(b"ispe", bytes(12)), box(b"irot", b"\1"), box(b"imir", b"\0"))
    owned = box(b"ipma", head, pack(">I", 2), owns(3, 1), owns(item, 1, 3))
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
