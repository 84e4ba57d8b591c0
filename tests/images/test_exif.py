"""Tags of TIFF files and EXIF blocks that are written entry by entry."""

from struct import calcsize, pack

import pytest

from imgret.images import exif_facts
from imgret.images.exif import exif_orientation, is_tiff, tiff_profile, tiff_tags

BYTE, ASCII, SHORT, LONG, RATIONAL, UNDEFINED, IFD, LONG8, IFD8 = 1, 2, 3, 4, 5, 7, 13, 16, 18
CODES = {BYTE: "B", SHORT: "H", LONG: "I", UNDEFINED: "B", IFD: "I", LONG8: "Q", IFD8: "Q"}


def directory(entries, start, order="<", *, big=False):
    """Return a directory that stands at an offset, with its values behind it.

    An entry is a tag, a kind, and a text, a list of numbers or a list of pairs; or a tag, a kind, a
    count and the bytes of the field.
    """
    word = 8 if big else 4
    head = pack(order + ("Q" if big else "H"), len(entries))
    behind = start + len(head) + (4 + 2 * word) * len(entries) + word
    table, values = b"", b""
    for tag, kind, *given in entries:
        if len(given) == 2:
            count, field = given
        else:
            (value,) = given
            if kind == ASCII:
                count, field = len(value), value
            elif kind == RATIONAL:
                count = len(value)
                field = b"".join(pack(order + "II", *pair) for pair in value)
            else:
                count, field = len(value), pack(f"{order}{len(value)}{CODES[kind]}", *value)
            if len(field) > word:
                values, field = (
                    values + field,
                    pack(order + ("Q" if big else "I"), behind + len(values)),
                )
        table += pack(order + ("HHQ" if big else "HHI"), tag, kind, count) + field.ljust(
            word, b"\0"
        )
    return head + table + bytes(word) + values


def tiff(entries, order="<", *, big=False, gap=b""):
    mark = b"II" if order == "<" else b"MM"
    if big:
        head = mark + pack(order + "HHHQ", 43, 8, 0, 16 + len(gap)) + gap
    else:
        head = mark + pack(order + "HI", 42, 8 + len(gap)) + gap
    return head + directory(entries, len(head), order, big=big)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("gap", [b"", b"some bytes"])
def test_numbers_of_every_kind_and_count(order, big, gap):
    for kind, code in CODES.items():
        for count in range(1, 10):
            numbers = [256 ** calcsize("<" + code) - 1 - n for n in range(count)]
            data = tiff(
                [(3, SHORT, [9]), (7, kind, numbers), (8, LONG, [5])], order, big=big, gap=gap
            )
            wanted = frozenset({7, 8})
            assert tiff_tags(data, wanted) == {7: tuple(numbers), 8: (5,)}


def test_fractions_are_those_of_a_few_tags():
    pairs = [(299, 1000), (0, 7), (114, 1000)]
    entries = [(529, RATIONAL, pairs), (532, RATIONAL, [(5, 2)]), (533, RATIONAL, pairs)]
    wanted = frozenset({529, 532, 533})
    assert tiff_tags(tiff(entries), wanted) == {529: (0.299, 0.0, 0.114), 532: (2.5,)}
    for place in range(3):
        zero = [(1, 0) if n == place else pair for n, pair in enumerate(pairs)]
        entries = [(529, RATIONAL, zero), (532, RATIONAL, [(5, 2)])]
        assert tiff_tags(tiff(entries), wanted) == {532: (2.5,)}


def test_entries_that_are_passed_over():
    entries = [
        (7, ASCII, b"text"),
        (7, 99, 1, bytes(4)),
        (7, SHORT, 0, bytes(4)),
        (7, BYTE, 4000, bytes(4)),  # more than there are bytes
        (7, SHORT, [1]),
        (7, SHORT, [2]),
        (8, SHORT, [3]),
    ]
    assert tiff_tags(tiff(entries), frozenset({7, 8})) == {7: (1,), 8: (3,)}
    assert tiff_tags(tiff([(0x0112, SHORT, [6]), (7, SHORT, [1])])) == {0x0112: (6,)}


def test_4096_entries_are_read():
    for at, read in ((4095, True), (4096, False)):
        entries = [(3, SHORT, [0])] * at
        assert (tiff_tags(tiff([*entries, (0x0112, SHORT, [6])])) != {}) is read
        assert tiff_profile(tiff([*entries, (0x8773, UNDEFINED, list(b"colours"))])) == (
            b"colours" if read else b""
        )
        made = exif_facts(tiff([*entries, (0x010F, ASCII, b"Maker")]))
        assert made == ({"make": "Maker"} if read else {})


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("big", [False, True])
def test_a_profile_is_the_bytes_of_its_tag(order, big):
    profile = bytes(range(50))
    entries = [(256, SHORT, [9]), (0x8773, UNDEFINED, list(profile)), (0x8774, SHORT, [1])]
    data = tiff(entries, order, big=big, gap=b"gap") + b"more"
    assert tiff_profile(data) == profile
    assert tiff_profile(tiff(entries[::2], order, big=big)) == b""
    for damaged in (b"", b"II", data[:20], b"XX" + data[2:]):
        assert tiff_profile(damaged) == b""


def test_a_block_begins_with_its_order():
    for begin in (b"II*\0", b"MM\0*"):
        assert is_tiff(begin)
        assert is_tiff(begin + b"more")
    for begin in (b"II", b"II+\0", b"MM*\0", b"II\0*", b"Exif"):
        assert not is_tiff(begin)


@pytest.mark.parametrize("orientation", range(11))
def test_an_orientation_is_one_of_eight(orientation):
    known = orientation if 1 <= orientation <= 8 else 1
    for prefix in (b"", b"Exif\0\0"):
        assert exif_orientation(prefix + tiff([(0x0112, SHORT, [orientation])])) == known
    for text in (b"tiff:Orientation='%d'", b'tiff:Orientation="%d"', b"<tiff:Orientation>%d<"):
        xmp = b"<x " + text % (orientation % 10)
        for none in (b"", b"junk", tiff([(7, SHORT, [3])])):
            assert exif_orientation(none, xmp) == (orientation % 10 if 1 <= orientation <= 8 else 1)
        assert exif_orientation(tiff([(0x0112, SHORT, [3])]), xmp) == 3


# -- facts -----------------------------------------------------------------------------------------


def block(main=(), taken=(), place=(), order="<", *, link=LONG):
    """Return an EXIF block with the directories of the photograph and of the place."""
    links = [(0x8769, LONG, 1, bytes(4)), (0x8825, IFD, 1, bytes(4))]
    start = 8 + len(directory([*main, *links], 8, order))
    second = directory(taken, start, order)
    third = directory(place, start + len(second), order)
    links = [
        (0x8769, link, 1, pack(order + "I", start)),
        (0x8825, IFD, 1, pack(order + "I", start + len(second))),
    ]
    return tiff([*main, *links], order) + second + third


def degrees(latitude, longitude, sides=(b"N\0", b"E\0")):
    return [
        (1, ASCII, sides[0]),
        (2, RATIONAL, latitude),
        (3, ASCII, sides[1]),
        (4, RATIONAL, longitude),
    ]


@pytest.mark.parametrize("order", "<>")
def test_facts_of_a_photograph(order):
    made = block(
        [(0x010F, ASCII, b"Ma\x01ker \0x"), (0x0110, ASCII, b"M1\0")],
        [(0x9003, ASCII, b"2024:05:01 12:30:15\0"), (0x9011, ASCII, b"-03:30\0")],
        degrees([(48, 1), (61, 2), (100, 3)], [(22, 2), (15, 1), (7, 1)], (b"S\0", b"East\0")),
        order,
    )
    assert (
        exif_facts(made)
        == exif_facts(b"Exif\0\0" + made)
        == {
            "date": "2024-05-01T12:30:15-03:30",
            "make": "Maker",
            "model": "M1",
            "latitude": -48.5175926,
            "longitude": 11.2519444,
        }
    )


def test_dates_in_their_order():
    date = b"20%02d:05:01 12:30:15\0"
    main = [(0x0132, ASCII, date % 3)]
    digitized = [(0x9004, ASCII, date % 2), (0x9012, ASCII, b"+02:00\0")]
    taken = [(0x9003, ASCII, date % 1), (0x9011, ASCII, b"+01:00\0")]
    for given, expected in (
        (taken + digitized, "2001-05-01T12:30:15+01:00"),
        (digitized, "2002-05-01T12:30:15+02:00"),
        (taken[1:] + digitized[:1], "2002-05-01T12:30:15"),
        ([], "2003-05-01T12:30:15"),
    ):
        assert exif_facts(block(main, given)) == {"date": expected}


def test_texts_of_256_bytes_are_read():
    for length, read in ((1, True), (4, True), (5, True), (256, True), (257, False)):
        found = exif_facts(block([(0x010F, ASCII, b"m" * length), (0x0110, ASCII, b"M1")]))
        assert found == ({"make": "m" * length} if read else {}) | {"model": "M1"}


def test_what_cannot_be_read_hides_nothing():
    model = (0x0110, ASCII, b"M1")
    for wrong in (
        (0x010F, ASCII, 9, b"\xff\xff\xff\x7f"),  # beyond the end
        (0x010F, SHORT, [77]),
        (0x010F, LONG, [77]),
        (0x010F, RATIONAL, [(1, 0)] * 3),
        (0x010F, ASCII, b"\0"),
    ):
        assert exif_facts(block([wrong, model])) == {"model": "M1"}
    for link in ((0x8769, LONG, [9999]), (0x8769, LONG, [9, 9]), (0x8769, ASCII, b"text")):
        assert exif_facts(tiff([model, link])) == {"model": "M1"}
    taken = [(0x9003, ASCII, b"2024:05:01 12:30:15\0"), (0x9011, ASCII, b"?")]
    assert exif_facts(block(taken=taken)) == {"date": "2024-05-01T12:30:15"}
    assert exif_facts(block(taken=taken, link=SHORT)) == {}  # which holds no offset
    assert exif_facts(tiff([model]).replace(b"*", b"+", 1)) == {}
    assert exif_facts(tiff([model], big=True)) == {}


def test_a_place_is_on_earth():
    def found(latitude, longitude, sides=(b"N\0", b"E\0")):
        facts = exif_facts(block(place=degrees(latitude, longitude, sides)))
        return tuple(facts.values())

    zero = [(0, 1)] * 3
    assert found(zero, zero) == (0, 0)
    assert found([(90, 1), *zero[1:]], [(180, 1), *zero[1:]], (b"S\0", b"W\0")) == (-90, -180)
    assert found([(90, 1), (1, 100), (0, 1)], zero) == ()
    assert found(zero, [(180, 1), (0, 1), (1, 100)]) == ()
    for sides in ((b"E\0", b"N\0"), (b"\0", b"E\0"), (b"N\0", b"")):
        assert found(zero, zero, sides) == ()
    assert found(zero[:2], zero) == ()
