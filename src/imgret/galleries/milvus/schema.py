"""The two collections of a gallery, and what a server can do.

=================== ==============================================================================
collection          contents
=================== ==============================================================================
``NAME``            one row an item: what is known of it, and its embedding
``NAME_imgret``     two rows: ``spec``, the version of the collections and what the gallery is made
                    of, as JSON; ``state``, a text that is another one after every change
=================== ==============================================================================
"""

from __future__ import annotations

import json
import math
import secrets
from contextlib import suppress
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
from pymilvus import DataType, MilvusClient

from imgret.abc import GallerySpec
from imgret.errors import (
    InvalidInputError,
    StoreCorruptError,
    StoreError,
    StoreExistsError,
    StoreNotFoundError,
    StoreVersionError,
    UnsupportedError,
)
from imgret.galleries.milvus.address import Address
from imgret.galleries.milvus.connection import LOADING, MilvusConnection
from imgret.galleries.milvus.rows import KEY_BYTES, LABEL_BYTES, PATH_BYTES, vectors_of
from imgret.galleries.server import spec_of
from imgret.support.metric import DistanceMetric
from imgret.types import Embeddings, Json

__all__ = [
    "MilvusLayout",
    "change_state",
    "create",
    "drop",
    "exists",
    "need",
    "nothing",
    "prepare",
    "read_spec",
    "read_state",
    "write_spec",
]

VERSION = 1
_METRICS = {"cosine": "COSINE", "ip": "IP", "l2": "L2"}
_DIMS = (2, 32768)
# Milvus needs a vector in every collection; the one beside the items has this one.
_NO_VECTOR = [0.0, 1.0]
_SPEC_BYTES = 65535
# An index of an empty collection is there at once; the client would look after half a second.
_NO_WAIT = {"sync": False}
_LARGEST_HALF = 65504.0
# The largest `ef` of a search in Milvus.
_WIDEST = 32_768
# How much wider a search with a filter is than the share of items that pass asks for.
_SPREAD = 8


class _Kind(NamedTuple):
    """An index of Milvus: its name there, and imgret's options by name with range and default."""

    name: str
    build: dict[str, tuple[str, int, int, int]]
    search: tuple[str, str, int, int, int] | None
    sweep: list[int]


_KINDS: dict[str, _Kind] = {
    "flat": _Kind("FLAT", {}, None, []),
    "hnsw": _Kind(
        "HNSW",
        {"M": ("M", 2, 2048, 16), "ef_construction": ("efConstruction", 1, 2**31 - 1, 200)},
        ("ef_search", "ef", 1, _WIDEST, 64),
        [16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024],
    ),
    "ivf": _Kind(
        "IVF_FLAT",
        {"nlist": ("nlist", 1, 65536, 1024)},
        ("nprobe", "nprobe", 1, 65536, 16),
        [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024],
    ),
}


class MilvusLayout(NamedTuple):
    """How vectors of a gallery are stored, compared and indexed.

    Attributes
    ----------
    name : str
        Name of the index: ``"flat"``, ``"hnsw"`` or ``"ivf"``.
    metric : str
        Name of the metric in Milvus.
    build : dict
        Parameters of the index in Milvus.
    option : str or None
        Option of a search that trades recall for speed.
    value : int
        Its present value.
    half : bool
        Whether the server keeps float16.
    """

    name: str
    metric: str
    build: Json
    option: str | None
    value: int
    half: bool

    @classmethod
    def of(cls, spec: GallerySpec, *, half: bool = False) -> MilvusLayout:
        """Return the layout for a spec.

        Raises
        ------
        InvalidInputError, UnsupportedError
            Milvus cannot keep such vectors, or has no such index.
        """
        if not _DIMS[0] <= spec.dim <= _DIMS[1]:
            raise InvalidInputError(
                f"dim: expected {_DIMS[0]} to {_DIMS[1]:,} in Milvus, found {spec.dim:,}"
            )
        name = "flat" if spec.index.name == "exact" else spec.index.name
        if name not in _KINDS:
            raise UnsupportedError(
                f"index: expected 'hnsw', 'ivf', or 'flat', which is exact, for a gallery in "
                f"Milvus, found {spec.index.name!r}"
            )
        kind, config = _KINDS[name], {**spec.index.config}
        known = {**kind.build} | ({kind.search[0]: kind.search[1:]} if kind.search else {})
        if name != "flat" and (unknown := sorted(set(config) - set(known))):
            raise InvalidInputError(
                f"index: {name!r} in Milvus takes {', '.join(known)}, found {unknown[0]!r}"
            )
        values = {
            option: _within(option, config.get(option), *limits[1:])
            for option, limits in known.items()
        }
        tuned = spec.tuned
        if kind.search and tuned is not None and tuned.get("index") == name:
            values |= tuned["settings"]
        build = {there: values[option] for option, (there, *_) in kind.build.items()}
        option = kind.search[0] if kind.search else None
        metric = _METRICS[str(DistanceMetric(spec.metric))]
        return cls(name, metric, build, option, values[option] if option else 0, half)

    @property
    def type(self) -> str:
        """Name of the index in Milvus."""
        return _KINDS[self.name].name

    @property
    def sweep(self) -> list[int]:
        """Values of the option to try, fastest first."""
        most = self.build.get("nlist", 2**31)
        steps = [step for step in _KINDS[self.name].sweep if step < most]
        return [*steps, most] if self.name == "ivf" else steps

    def wide(self, value: int, passing: int, items: int) -> int:
        """Return the value of the option for a search among the items that pass a filter.

        The nearest of these are among as many more of all items as fewer pass. A graph loses paths
        where it passes items that do not, so it is searched more widely than that.
        """
        return math.ceil(_SPREAD * value * items / max(passing, 1))

    def sees_all(self, value: int, passing: int) -> bool:
        """Whether a search with this value looks at as many items as pass, or at all of them."""
        return bool(value >= self.build.get("nlist", passing))

    def cost(self, value: int, items: int) -> int:
        """Return what a search with this value costs, in items that a graph looks at.

        Comparing the items of a list in their order costs a hundredth of that.
        """
        if self.name == "hnsw":
            return max(1, value)
        nlist: int = self.build["nlist"]
        return max(1, min(value, nlist) * items // nlist // 100)

    def parameters(self, value: int, k: int) -> Json:
        """Return the parameters of a search for ``k`` items."""
        params = {}
        if self.name == "hnsw":
            params["ef"] = max(min(value, _WIDEST), k)
        elif self.name == "ivf":
            params["nprobe"] = min(value, self.build["nlist"])
        return {"metric_type": self.metric, "params": params}

    def wire(self, vectors: Embeddings) -> list[Any]:
        """Return vectors as the client takes them."""
        if self.half:
            return list(np.clip(vectors, -_LARGEST_HALF, _LARGEST_HALF).astype(np.float16))
        return list(np.asarray(vectors, dtype=np.float32))


def exists(connection: MilvusConnection) -> bool:
    """Whether there is a collection of the gallery's name, whatever is in it."""
    return bool(connection.ask("has_collection", connection.address.collection))


def need(connection: MilvusConnection) -> None:
    """Raise if there is no collection of the gallery's name."""
    if not exists(connection):
        raise nothing(connection.address)


def nothing(address: Address) -> StoreNotFoundError:
    """Return the error for a gallery that is not there."""
    return StoreNotFoundError(
        f"{address.name}: expected a gallery, found no collection {address.collection!r}; "
        f"`imgret index FOLDER -o {address.name}` makes one"
    )


def create(connection: MilvusConnection, spec: GallerySpec) -> MilvusLayout:
    """Create the collections of an empty gallery.

    That of the items comes last, so that there is a gallery or nothing of its name.

    Raises
    ------
    StoreExistsError
        There is a collection of this name.
    """
    layout = MilvusLayout.of(spec)
    address = connection.address
    with connection.writing():
        if exists(connection):
            raise _taken(connection)
        layout = layout._replace(half=spec.dtype == "float16" and _keeps_half(connection))
        if not connection.ask("has_collection", address.spec_collection):
            _create_spec_collection(connection)
        _write(connection, "spec", {"version": VERSION, "spec": asdict(spec)})
        change_state(connection)
        connection.ask(
            "create_collection",
            address.collection,
            schema=_items_schema(spec.dim, half=layout.half),
            consistency_level="Strong",
            num_shards=1,  # so that a request is kept as a whole
        )
        prepare(connection, layout)
        # Another process may have created the same gallery meanwhile, of other parts.
        found = _read(connection, "spec")
        if found is None or found["spec"] != json.loads(json.dumps(asdict(spec))):
            raise _taken(connection)
    return layout


def drop(connection: MilvusConnection) -> None:
    """Delete the collections of a gallery."""
    for name in (connection.address.collection, connection.address.spec_collection):
        connection.ask("drop_collection", name)


def prepare(connection: MilvusConnection, layout: MilvusLayout) -> None:
    """Create the indexes and load the collection, as far as that was not done."""
    name = connection.address.collection
    there = connection.ask("list_indexes", name)
    params = MilvusClient.prepare_index_params()
    if "embedding" not in there:
        params.add_index(
            "embedding",
            index_name="embedding",
            index_type=layout.type,
            metric_type=layout.metric,
            params=layout.build,
        )
    if not connection.is_lite:
        text = "INVERTED" if connection.version >= (2, 4) else "Trie"
        kinds = {"id": "STL_SORT", "label": text, "sha256": text}
        for field, kind in kinds.items():
            if field not in there:
                params.add_index(field, index_name=field, index_type=kind)
    if list(params):
        connection.ask("create_index", name, params, timeout=LOADING, **_NO_WAIT)
    for each in (name, connection.address.spec_collection):
        _load(connection, each)


def read_spec(
    connection: MilvusConnection, before: MilvusLayout | None = None
) -> tuple[GallerySpec, MilvusLayout]:
    """Return the spec of a gallery, and its layout.

    Parameters
    ----------
    connection : MilvusConnection
    before : MilvusLayout, optional
        The layout as it was read before; then only what may change is read.

    Raises
    ------
    StoreNotFoundError, StoreVersionError, StoreCorruptError
        There is no gallery, a newer imgret made it, or its spec is damaged.
    """
    name, address = connection.name, connection.address
    if before is not None:
        content = _read(connection, "spec", level=connection.level)
    else:
        content = _first(connection)
    if content is None:
        raise StoreNotFoundError(
            f"{name}: expected a gallery, found a collection {address.collection!r} of something "
            f"else; choose another name"
        )
    version = content.get("version")
    if not isinstance(version, int):
        raise StoreCorruptError(f"{name}: expected the version of a gallery, found {version!r}")
    if version > VERSION:
        raise StoreVersionError(
            f"{name}: expected a gallery of version {VERSION} or older, found {version}; upgrade "
            f"imgret"
        )
    half = _checked(connection) if before is None else before.half
    try:
        spec = spec_of(content["spec"])
        layout = MilvusLayout.of(spec, half=half)
    except (KeyError, TypeError, AttributeError, InvalidInputError, UnsupportedError) as error:
        raise StoreCorruptError(
            f"{name}: expected the description of a gallery in {address.spec_collection!r}, found "
            f"{error!r}"
        ) from error
    return spec, layout


def _first(connection: MilvusConnection) -> Any:
    """Return the row ``spec``, or None, of a gallery that may not be loaded or not be there."""
    collection = connection.address.spec_collection
    if not connection.ask("has_collection", collection):
        return None
    _load(connection, collection)
    return _read(connection, "spec")


def _checked(connection: MilvusConnection) -> bool:
    """Check the fields of the items; return whether embeddings are kept as float16."""
    described = connection.ask("describe_collection", connection.address.collection)
    types = {each["name"]: each["type"] for each in described["fields"]}
    half = bool(types.get("embedding") == DataType.FLOAT16_VECTOR)
    missing = {each.name for each in _items_schema(2, half=half).fields} - set(types)
    if missing:
        raise StoreCorruptError(
            f"{connection.name}: expected the fields of a gallery, found none called "
            f"{min(missing)!r}"
        )
    return half


def _load(connection: MilvusConnection, collection: str) -> None:
    state = connection.ask("get_load_state", collection)["state"]
    if getattr(state, "name", str(state)) != "Loaded":
        connection.ask("load_collection", collection, timeout=LOADING)


def write_spec(connection: MilvusConnection, changes: Json) -> None:
    """Change fields of the spec."""
    content = _read(connection, "spec")
    if content is None:
        raise StoreCorruptError(f"{connection.name}: expected the row spec, found none")
    content["spec"] |= changes
    _write(connection, "spec", content)
    change_state(connection)


def change_state(connection: MilvusConnection) -> None:
    """Make `read_state` return another text."""
    _write(connection, "state", secrets.token_hex(8))


def read_state(connection: MilvusConnection, *, level: str = "Strong") -> str:
    """Return a text that is another one after every change."""
    return str(_read(connection, "state", level=level))


def _read(connection: MilvusConnection, name: str, *, level: str = "Strong") -> Any:
    rows = connection.ask(
        "query",
        connection.address.spec_collection,
        filter=f'name == "{name}"',
        output_fields=["content"],
        consistency_level=level,
    )
    try:
        return json.loads(rows[0]["content"]) if rows else None
    except ValueError as error:
        raise StoreCorruptError(
            f"{connection.name}: expected JSON in the row {name!r} of "
            f"{connection.address.spec_collection!r}, found {error}"
        ) from error


def _write(connection: MilvusConnection, name: str, content: Any) -> None:
    text = json.dumps(content, ensure_ascii=False)
    if len(text.encode()) > _SPEC_BYTES:
        raise StoreError(
            f"{connection.name}: expected a description of at most {_SPEC_BYTES:,} bytes in "
            f"Milvus, found {len(text.encode()):,}"
        )
    row = {"name": name, "content": text, "vector": _NO_VECTOR}
    connection.ask("upsert", connection.address.spec_collection, [row])


def _create_spec_collection(connection: MilvusConnection) -> None:
    name = connection.address.spec_collection
    schema = MilvusClient.create_schema(
        auto_id=False,
        enable_dynamic_field=False,
        description="imgret: what the gallery of the collection beside it is made of",
    )
    schema.add_field("name", DataType.VARCHAR, is_primary=True, max_length=64)
    schema.add_field("content", DataType.VARCHAR, max_length=_SPEC_BYTES)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=len(_NO_VECTOR))
    params = MilvusClient.prepare_index_params()
    params.add_index("vector", index_name="vector", index_type="FLAT", metric_type="IP", params={})
    connection.ask(
        "create_collection", name, schema=schema, consistency_level="Strong", num_shards=1
    )
    connection.ask("create_index", name, params, **_NO_WAIT)
    connection.ask("load_collection", name, _async=True)  # `prepare` waits for it


def _items_schema(dim: int, *, half: bool) -> Any:
    schema = MilvusClient.create_schema(
        auto_id=False, enable_dynamic_field=False, description="imgret: a gallery of images"
    )
    schema.add_field("key", DataType.VARCHAR, is_primary=True, max_length=KEY_BYTES)
    schema.add_field("id", DataType.INT64)
    schema.add_field("label", DataType.VARCHAR, max_length=LABEL_BYTES)
    schema.add_field("labelled", DataType.BOOL)
    schema.add_field("path", DataType.VARCHAR, max_length=PATH_BYTES)
    schema.add_field("has_path", DataType.BOOL)
    schema.add_field("sha256", DataType.VARCHAR, max_length=64)
    schema.add_field("metadata", DataType.JSON)
    schema.add_field("nulls", DataType.BOOL)
    schema.add_field("details", DataType.JSON)
    kind = DataType.FLOAT16_VECTOR if half else DataType.FLOAT_VECTOR
    schema.add_field("embedding", kind, dim=dim)
    return schema


def _keeps_half(connection: MilvusConnection) -> bool:
    """Try whether the server keeps float16: what it says of itself is not always so."""
    if connection.is_lite or connection.version < (2, 4):
        return False
    name = f"{connection.address.collection}_{secrets.token_hex(4)}"
    schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field("name", DataType.VARCHAR, is_primary=True, max_length=64)
    schema.add_field("embedding", DataType.FLOAT16_VECTOR, dim=4)
    params = MilvusClient.prepare_index_params()
    params.add_index("embedding", index_type="FLAT", metric_type="L2", params={})
    given = np.array([[1.0, -0.5, 2.0, 0.25]], dtype=np.float16)
    strong: dict[str, Any] = {"consistency_level": "Strong"}
    try:
        connection.ask("create_collection", name, schema=schema, **strong)
        connection.ask("create_index", name, params, **_NO_WAIT)
        _load(connection, name)
        connection.ask("upsert", name, [{"name": "a", "embedding": given[0]}])
        rows = connection.ask(
            "query", name, filter='name == "a"', output_fields=["embedding"], **strong
        )
        found = connection.ask("search", name, data=list(given), limit=1, **strong)
        return bool((vectors_of(rows, 4) == given).all() and found[0][0]["distance"] == 0)
    except (StoreError, ValueError, TypeError, LookupError):
        return False
    finally:
        with suppress(StoreError):
            connection.ask("drop_collection", name)


def _within(option: str, value: Any, least: int, most: int, default: int) -> int:
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise InvalidInputError(
            f"{option}: expected {least:,} to {most:,} in Milvus, found {value!r}"
        )
    return value


def _taken(connection: MilvusConnection) -> StoreExistsError:
    collection = connection.address.collection
    return StoreExistsError(
        f"{connection.name}: expected no collection {collection!r}, found one; open it with mode "
        f"'r+', or choose another name"
    )
