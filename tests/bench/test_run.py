"""A whole run over small data by engines that are here, resumed, with some that are not."""

import pytest

from bench import results
from bench.__main__ import main
from bench.peers import environments, remote
from bench.peers.environments import MissingError
from bench.peers.registry import ENGINES


@pytest.fixture
def outside(small, cache, monkeypatch, tmp_path):
    """Processes of the engines see the small cache too; nothing is installed."""
    monkeypatch.setenv("HYBRIDQ_BENCH_CACHE", str(cache))

    def refuse(peer, folder):
        raise MissingError(f"{peer.name} could not be installed: no network")

    monkeypatch.setattr(environments, "_install", refuse)
    return tmp_path


def run(path, *words):
    common = ["--queries", "20", "--passes", "1", "--seconds", "0.05", "--threads", "1"]
    return main(["run", "--data", "small", "--out", str(path), *common, *words])


def test_run_resumes_and_leaves_out_what_is_missing(outside, capsys, monkeypatch):
    path = outside / "a.jsonl"
    words = ("--workload", "W0,W3,W7,W11,W12,W9,cost", "--peer", "duckdb,hnswlib")
    assert run(path, *words) == 0
    said = capsys.readouterr().err
    assert "hnswlib is left out: hnswlib could not be installed: no network" in said
    found = results.read(path)
    assert len(found.of("search")) == 10
    for line in found.of("search"):
        assert line["engines"]["duckdb"]["recall"] == 1.0, line["cell"]
        assert line["engines"]["duckdb"]["wrong"] == 0, line["cell"]
        assert line["engines"]["hybridq"]["short"] == 0, line["cell"]
    assert {n["engine"] for n in found.of("batch")} == {"hybridq", "duckdb"}
    assert {n["engine"] for n in found.of("cost")} == {"hybridq", "duckdb"}
    for line in found.of("cost"):
        assert line["build"]["seconds"] > 0
        assert len(line["build"]["load"]) == 2
    assert [n["engine"] for n in found.of("absent")] == ["hnswlib"]

    def never(*given):
        raise AssertionError("measured again")

    monkeypatch.setattr("bench.measure.Measurer.search", never)
    before = len([n for n in found.lines if n["kind"] == "search"])
    assert run(path, *words) == 0
    again = results.read(path)
    assert len([n for n in again.lines if n["kind"] == "search"]) == before


def test_an_engine_joins_the_lines_that_are_there(outside):
    path = outside / "e.jsonl"
    assert run(path, "--workload", "W0,W12", "--peer", "hybridq") == 0
    before = {n["cell"]: n["engines"] for n in results.read(path).of("search")}
    assert all(set(engines) == {"hybridq"} for engines in before.values())
    assert run(path, "--workload", "W0,W12", "--peer", "duckdb") == 0
    for line in results.read(path).of("search"):
        own, other = line["engines"]["hybridq"], line["engines"]["duckdb"]
        assert own == before[line["cell"]]["hybridq"]
        # Its ratio is to the turns that they took together.
        assert set(other["beside"]) == {"p50", "recall", "reached"}
        assert results.turns(line["engines"], "duckdb") == other["beside"]
    lines = len(results.read(path).lines)
    assert run(path, "--workload", "W0,W12", "--peer", "duckdb") == 0
    assert len(results.read(path).lines) == lines


def test_equal_recall_tunes_hybridq_as_the_peers_are(outside, capsys):
    path = outside / "f.jsonl"
    assert run(path, "--workload", "W0,W2", "--peer", "duckdb", "--equal") == 0
    found = results.read(path)
    assert found.head["settings"]["equal"] is True
    for line in found.of("search"):
        own = line["engines"]["hybridq"]
        # On so few rows every answer is exact: the least that it can be set to is enough.
        assert own["setting"] == {"recall": 0.5}
        assert own["reached"]
    assert run(path, "--workload", "W0,W2", "--peer", "duckdb") == 1
    assert "was measured with other settings" in capsys.readouterr().err
    pytest.importorskip("matplotlib")
    assert main(["report", str(path)]) == 0
    text = path.with_suffix(".md").read_text()
    assert "hybridq is tuned as its peers are" in text
    assert "(set to 0.5)" in text


def test_an_engine_that_dies_is_an_error_of_its_cells(outside, monkeypatch):
    def die(self, *given, **more):
        raise remote.PeerError(self.name, "stopped: out of memory")

    monkeypatch.setattr("bench.peers.remote.Remote.throughput", lambda *given: 1.0)
    real = remote.Remote.answers

    def answers(self, *given):
        return die(self) if self.name == "duckdb" and given[2] != [0] else real(self, *given)

    monkeypatch.setattr("bench.peers.remote.Remote.answers", answers)
    path = outside / "b.jsonl"
    assert run(path, "--workload", "W12", "--peer", "duckdb") == 0
    for line in results.read(path).of("search"):
        assert line["engines"]["duckdb"] == {"error": "stopped: out of memory"}
        assert "p50" in line["engines"]["hybridq"]


def test_nothing_measured_is_a_failure(outside, capsys, monkeypatch):
    def broken(*given):
        raise MissingError("hybridq cannot be imported")

    monkeypatch.setattr(remote, "environment", broken)
    assert run(outside / "d.jsonl", "--workload", "W0", "--peer", "duckdb") == 1
    assert "hybridq is left out: hybridq cannot be imported" in capsys.readouterr().err


def test_a_missing_data_set_is_one_line(outside, capsys, monkeypatch):
    monkeypatch.setenv("HYBRIDQ_PRODUCTS", "/nowhere")
    assert main(["run", "--data", "products", "--out", str(outside / "c.jsonl")]) == 1
    assert "products: skipped: product photos are not at /nowhere" in capsys.readouterr().err


def test_an_engine_whose_start_is_interrupted_is_stopped(outside, small, monkeypatch):
    started = []

    def interrupted(self, process, patience):
        started.append(process)
        raise KeyboardInterrupt

    monkeypatch.setattr(remote.Remote, "_receive", interrupted)
    engine = remote.Remote("duckdb", small)
    with pytest.raises(KeyboardInterrupt):
        engine.start()
    assert [process.poll() is not None for process in started] == [True]


def test_engines_say_what_they_are():
    for name, engine in ENGINES.items():
        assert engine.name == name
        assert engine.about
        assert engine.packages
        assert engine.modules
