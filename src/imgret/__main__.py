"""``python -m imgret`` is the ``imgret`` command."""

from imgret.cli import main

if __name__ == "__main__":
    main()
