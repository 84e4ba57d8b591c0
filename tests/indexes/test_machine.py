"""Indexes driven beside the exact one, in every order of operations."""

from hypothesis import settings

from imgret.indexes import ExactIndex, FactoryIndex, FlatIndex, HNSWIndex, IVFIndex
from imgret.testing import IndexMachine

few = settings(max_examples=12, stateful_step_count=12, deadline=None)


class ExactMachine(IndexMachine):
    def make(self):
        return ExactIndex(3, "cosine")


class FlatMachine(IndexMachine):
    def make(self):
        return FlatIndex(3, "l2")


class HNSWMachine(IndexMachine):
    def make(self):
        return HNSWIndex(3, "ip", M=2, ef_construction=8, ef_search=4)


class IVFMachine(IndexMachine):
    def make(self):
        return IVFIndex(3, "l2", nlist=6, nprobe=1)


class HNSWOfCodesMachine(IndexMachine):
    score_tolerance = 0.1

    def make(self):
        return FactoryIndex("HNSW4,SQ8", dim=3, metric="l2")


class IVFFastScanMachine(IndexMachine):
    score_tolerance = 1.0

    def make(self):
        return FactoryIndex("IVF4,PQ2x4fs", dim=4, metric="ip")


TestExactMachine = ExactMachine.TestCase
TestFlatMachine = FlatMachine.TestCase
TestHNSWMachine = HNSWMachine.TestCase
TestIVFMachine = IVFMachine.TestCase
TestHNSWOfCodesMachine = HNSWOfCodesMachine.TestCase
TestIVFFastScanMachine = IVFFastScanMachine.TestCase

for case in (
    *(TestExactMachine, TestFlatMachine, TestHNSWMachine),
    *(TestIVFMachine, TestHNSWOfCodesMachine, TestIVFFastScanMachine),
):
    case.settings = few
del case
