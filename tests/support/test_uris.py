"""What of a URI may be shown."""

import pytest

from imgret.support.uris import without_secrets


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("postgresql://me:secret@host:1/db", "postgresql://me@host:1/db"),
        ("postgresql://me@host/db?schema=a&password=secret", "postgresql://me@host/db?schema=a"),
        ("postgresql:///db?sslmode=require", "postgresql:///db?sslmode=require"),
        ("milvus:///folder/a.db?collection=b", "milvus:///folder/a.db?collection=b"),
        ("milvus://host/c?token=secret", "milvus://host/c"),
        ("postgresql://me:se/cret@host/db", "postgresql://..."),
        ("postgresql://me:se?cret@host/db", "postgresql://..."),
        ("postgresql://me:se@cret@host/db", "postgresql://me@host/db"),
        ("postgresql://:secret@/db", "postgresql://@/db"),
        ("postgres://me@host/db", "postgres://me@host/db"),
        ("milvus://me:secret@host/c", "milvus://me@host/c"),
        ("milvus://token@host/c", "milvus://...@host/c"),
        ("milvus://token:@host/c", "milvus://...@host/c"),
        ("https://token@host/a", "https://...@host/a"),
        ("https://token:x-oauth-basic@host/a", "https://...@host/a"),
    ],
)
def test_secrets_are_left_out(uri, shown):
    assert without_secrets(uri) == shown
