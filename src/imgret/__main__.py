"""``python -m imgret`` is the ``imgret`` command."""

from imgret.cli import run

if __name__ == "__main__":
    run()
