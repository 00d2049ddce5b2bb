"""The engines by name, in the order they are shown."""

from __future__ import annotations

from bench.peers.base import Peer
from bench.peers.duck import Duckdb, Vss
from bench.peers.faiss import Faiss, FaissBuilt, FaissPost, FaissPre
from bench.peers.graphs import Hnswlib, Usearch
from bench.peers.lance import Lance
from bench.peers.milvus import Milvus
from bench.peers.own import Hybridq
from bench.peers.postgres import Pgvector, PgvectorByGraph
from bench.peers.sqlite import SqliteVec
from bench.peers.zvec import Zvec

ENGINES: dict[str, type[Peer]] = {
    p.name: p
    for p in (
        Hybridq,
        Faiss,
        FaissBuilt,
        FaissPre,
        FaissPost,
        Zvec,
        Pgvector,
        PgvectorByGraph,
        Hnswlib,
        Usearch,
        Lance,
        Milvus,
        Vss,
        SqliteVec,
        Duckdb,
    )
}
PEERS = {name: p for name, p in ENGINES.items() if p is not Hybridq}
