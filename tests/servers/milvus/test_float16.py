"""Embeddings kept as float16, as servers since 2.4 do; no such server can be had as a package.

Milvus Lite answers here behind a translation: float16 on the wire, as the protocol of Milvus has
it, and float32 in the engine. It says of itself that it is version 2.6.
"""
# ruff: noqa: N802  # the names of the protocol

from concurrent import futures

import numpy as np
import pytest

pytest.importorskip("pymilvus", reason="Milvus: pip install 'imgret[milvus]'")
pytest.importorskip("milvus_lite", reason="Milvus Lite: pip install 'imgret[milvus-lite]'")

import grpc
from milvus_lite.adapter.grpc.servicer import MilvusServicer
from milvus_lite.db import MilvusLite
from pymilvus.grpc_gen import common_pb2, milvus_pb2_grpc, schema_pb2

from imgret.galleries.milvus import MilvusGallery
from imgret.testing.galleries import check_answer, new_spec
from imgret.types import Item

FLOAT, HALF = 101, 102


class HalfServicer(MilvusServicer):
    """Milvus Lite, as a server that keeps float16 and nothing of scalar indexes it has not."""

    def GetVersion(self, request, context):
        answer = super().GetVersion(request, context)
        answer.version = "v2.6.4"
        return answer

    def CreateCollection(self, request, context):
        schema = schema_pb2.CollectionSchema.FromString(request.schema)
        for field in schema.fields:
            if field.data_type == HALF:
                field.data_type = FLOAT
                self.halves.add(request.collection_name)
        request.schema = schema.SerializeToString()
        return super().CreateCollection(request, context)

    def CreateIndex(self, request, context):
        if request.field_name not in {"embedding", "vector"}:
            return common_pb2.Status(code=0)  # of texts and numbers
        return super().CreateIndex(request, context)

    def DescribeCollection(self, request, context):
        answer = super().DescribeCollection(request, context)
        for field in answer.schema.fields:
            if field.name == "embedding" and request.collection_name in self.halves:
                field.data_type = HALF
        return answer

    def Upsert(self, request, context):
        for data in request.fields_data:
            if data.type == HALF:
                values = np.frombuffer(data.vectors.float16_vector, "<f2").astype(np.float32)
                data.type = FLOAT
                data.vectors.float_vector.data.extend(values.tolist())
        return super().Upsert(request, context)

    def Query(self, request, context):
        return self._halved(request, super().Query(request, context))

    def Search(self, request, context):
        group = common_pb2.PlaceholderGroup.FromString(request.placeholder_group)
        for each in group.placeholders:
            assert (each.type == HALF) == (request.collection_name in self.halves)
            if each.type == HALF:
                each.type = FLOAT
                rows = [np.frombuffer(value, "<f2").astype("<f4") for value in each.values]
                each.values[:] = [row.tobytes() for row in rows]
        request.placeholder_group = group.SerializeToString()
        return self._halved(request, super().Search(request, context))

    def _halved(self, request, answer):
        fields = (
            answer.fields_data if hasattr(answer, "fields_data") else answer.results.fields_data
        )
        for data in fields:
            if data.type == FLOAT and request.collection_name in self.halves:
                values = np.array(data.vectors.float_vector.data, dtype="<f2")
                data.type = HALF
                data.vectors.float16_vector = values.tobytes()
        return answer


@pytest.fixture
def server(tmp_path):
    database = MilvusLite(str(tmp_path / "half.db"))
    servicer = HalfServicer(database)
    servicer.halves = set()
    server = grpc.server(futures.ThreadPoolExecutor(4))
    milvus_pb2_grpc.add_MilvusServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    servicer.uri = f"milvus://127.0.0.1:{port}/half"
    yield servicer
    server.stop(0)
    database.close()


@pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
def test_embeddings_are_kept_as_float16(server, metric):
    rows = np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32)
    queries = np.random.default_rng(1).normal(size=(3, 8)).astype(np.float32)
    items = [Item(f"k{n:02d}", label="ab"[n % 2]) for n in range(50)]
    gallery = MilvusGallery.create(server.uri, new_spec(metric).with_(dtype="float16"))
    gallery.add(items, rows)
    assert server.halves >= {"half"}
    for _ in range(2):
        kept = rows.astype(np.float16).astype(np.float32)
        np.testing.assert_array_equal(gallery.embeddings(), kept)
        check_answer(gallery.view(), kept, queries, 10)
        gallery.change({"k03": Item("renamed")})
        gallery.change({"renamed": Item("k03", label="b")})
        np.testing.assert_array_equal(gallery.embeddings(["k03"]), kept[3:4])
        assert gallery.layout.half
        gallery.close()
        gallery = MilvusGallery.open(server.uri, writable=True)
    gallery.close()


def test_a_server_that_says_so_and_does_not(server, monkeypatch):
    """The server is tried; what it gets wrong is kept as float32."""

    def wrong(self, request, answer):
        for data in answer.fields_data if hasattr(answer, "fields_data") else []:
            if data.type == FLOAT and request.collection_name in self.halves:
                data.type = HALF
                data.vectors.float16_vector = bytes(2 * len(data.vectors.float_vector.data))
        return answer

    monkeypatch.setattr(HalfServicer, "_halved", wrong)
    gallery = MilvusGallery.create(server.uri, new_spec().with_(dtype="float16"))
    gallery.add([Item("a")], np.full((1, 8), 0.1, np.float32))
    assert not gallery.layout.half
    np.testing.assert_array_equal(
        gallery.embeddings(), np.full((1, 8), np.float16(0.1), np.float32)
    )
    assert "half" not in server.halves
    client = gallery.connection._client
    assert set(client.list_collections()) == {"half", "half_imgret"}  # the trial is cleared away
    gallery.close()
