"""Every error is ours and a builtin's at once, and the tree in the docstring is true."""

import inspect
import pickle
import re
from pathlib import Path

import pytest

from imgret import errors

CLASSES = [getattr(errors, name) for name in errors.__all__]


@pytest.mark.parametrize("error", CLASSES)
def test_every_error_is_an_imgret_error(error):
    assert issubclass(error, errors.ImgretError)
    assert error.__doc__


def test_the_tree_in_the_docstring_is_the_tree_of_the_code():
    drawn = {}
    stack = []
    for line in inspect.getdoc(errors).splitlines():
        found = re.match(r"^([\s│├└─]*)(\w+Error)(?: \((\w+)\))?(?:\s|$)", line)
        if not found:
            continue
        depth = len(found[1]) // 4
        stack[depth - 1 :] = [found[2]]
        drawn[found[2]] = (stack[-2] if len(stack) > 1 else None, found[3])
    assert set(drawn) == set(errors.__all__)
    for name, (parent, builtin) in drawn.items():
        bases = {base.__name__ for base in getattr(errors, name).__bases__}
        assert bases == {parent, builtin} - {None} or name == "ImgretError"


@pytest.mark.parametrize("error", [errors.ImageCorruptError, errors.ImageNotFoundError])
def test_image_errors_tell_the_path_and_survive_pickling(error):
    made = error("is empty", Path("a/b.jpg"))
    again = pickle.loads(pickle.dumps(made))
    assert str(again) == str(made) == "a/b.jpg: is empty"
    assert again.path == Path("a/b.jpg")
    assert again.reason == "is empty"


def test_key_errors_are_readable():
    assert str(errors.KeyNotFoundError("key: found 'x'")) == "key: found 'x'"


def test_a_missing_extra_tells_the_command():
    message = str(errors.MissingExtraError.of("HEIC", extra="heic"))
    assert "pip install 'imgret[heic]'" in message
