"""Result files, their comparison, reports, and the trend's judgement."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from bench import compare, results, trend
from bench.__main__ import _result, main
from bench.results import RESULTS, ResultError, Writer

HEAD = results.head({"k": 10, "recall": 0.95}, {"small": 400})


def engine(p50, recall=0.96, short=0, wrong=0, **more):
    return {
        **{"p50": p50, "p95": p50, "p99": p50, "recall": recall, "recall_p5": 0.9, "rows": 10},
        **{"short": short, "wrong": wrong, "queries": 100, "setting": {"ef": 5}, "version": "1"},
        **{"reached": recall >= 0.94, "qps1": 1 / p50, **more},
    }


def line(cell, engines, share=0.1):
    return {
        **{"kind": "search", "data": "small-400", "cell": cell, "workload": "W2"},
        **{"share": share, "k": 10, "target": 0.95, "engines": engines},
    }


def write(path, *lines):
    writer = Writer(path, HEAD)
    for content in lines:
        writer.write(content)
    return path


def run(a, b, noise=compare.NOISE):
    return compare.command(SimpleNamespace(a=a, b=b, noise=noise))


def test_what_was_cut_off_is_not_read_and_is_measured_again(tmp_path):
    path = write(tmp_path / "a.jsonl", line("x", {}), line("y", {}))
    path.write_bytes(path.read_bytes()[:-30])
    assert [n["cell"] for n in results.read(path).lines] == ["x"]
    writer = Writer(path, HEAD)
    assert results.key(line("x", {})) in writer.done
    assert results.key(line("y", {})) not in writer.done
    writer.write(line("y", {"z": {}}))
    assert [n["cell"] for n in results.read(path).lines] == ["x", "y"]


def test_a_file_of_other_settings_is_not_written_to(tmp_path):
    path = write(tmp_path / "a.jsonl")
    with pytest.raises(ResultError, match="settings"):
        Writer(path, {**HEAD, "settings": {"k": 100}})


@pytest.mark.parametrize("content", ["", "{}\n", '{"kind": "search"}\n', "no json\n{}\n"])
def test_what_is_no_result_is_refused(tmp_path, content):
    (tmp_path / "a.jsonl").write_text(content)
    with pytest.raises(ResultError, match=r"a\.jsonl"):
        results.read(tmp_path / "a.jsonl")


def test_a_missing_file_is_one_line(tmp_path, capsys):
    assert main(["compare", str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")]) == 1
    assert "a.jsonl cannot be read" in capsys.readouterr().err


def test_a_slower_machine_is_no_loss(tmp_path, capsys):
    a = write(tmp_path / "a.jsonl", line("x", {"hybridq": engine(0.1), "faiss": engine(0.2)}))
    b = write(tmp_path / "b.jsonl", line("x", {"hybridq": engine(0.3), "faiss": engine(0.6)}))
    assert run(a, b) == 0
    assert "geometric mean 1.00" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("now", "text"),
    [
        ({"p50": 0.2}, "2.00x slower"),
        ({"p50": 0.1, "recall": 0.9}, "recall 0.960 → 0.900"),
        ({"p50": 0.1, "short": 3}, "3 answers with too few rows"),
        ({"p50": 0.1, "wrong": 1}, "1 wrong rows"),
    ],
)
def test_losses_are_found(tmp_path, capsys, now, text):
    a = write(tmp_path / "a.jsonl", line("x", {"hybridq": engine(0.1), "faiss": engine(0.2)}))
    b = write(tmp_path / "b.jsonl", line("x", {"hybridq": engine(**now), "faiss": engine(0.2)}))
    assert run(a, b) == 1
    assert text in capsys.readouterr().out
    assert run(a, a) == 0


def test_a_cell_that_fails_now_is_a_loss(tmp_path):
    a = write(tmp_path / "a.jsonl", line("x", {"hybridq": engine(0.1)}))
    b = write(tmp_path / "b.jsonl", line("x", {"hybridq": {"error": "no"}}))
    assert run(a, b) == 1


def test_report_says_who_is_ahead_and_what_is_not_at_equal_recall(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    engines = {
        "hybridq": engine(0.1, plan="fused"),
        "faiss": engine(0.05),
        "zvec": engine(0.01, recall=0.5, short=7),
        "hnswlib": {"cannot": "no join"},
        "usearch": {"error": "it <broke>"},
    }
    forced = {
        **{"kind": "forced", "data": "small-400", "cell": "x", "workload": "W2", "share": 0.1},
        **{"k": 10, "target": 0.95, "auto": engine(0.1), "plans": {"exact": engine(0.2)}},
        **{"best": "exact", "regret": 0.5, "plan": "fused"},
    }
    absent = {"kind": "absent", "data": "small-400", "engine": "lancedb", "reason": "no wheel"}
    path = write(tmp_path / "a.jsonl", line("x", engines), line("y", engines, 0.5), forced, absent)
    assert main(["report", str(path)]) == 0
    capsys.readouterr()
    text = (tmp_path / "a.md").read_text()
    assert "0.050 = 0.50x" in text
    assert "0.010 @ 0.500, 7 of 100 short" in text
    assert "no join" in text
    assert "| x | 10 % | fused | faiss | 0.50x |" in text
    assert "| lancedb | no wheel |" in text
    assert (tmp_path / "a" / "small-400-shares.png").stat().st_size > 1_000
    page = (tmp_path / "a.html").read_text()
    assert "data:image/png;base64," in page
    assert "it &lt;broke&gt;" in page
    assert "http" not in page


def test_report_marks_what_time_cut_short(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    engines = {"hybridq": engine(0.1), "faiss": engine(0.2, cut=True), "zvec": engine(0.3)}
    batch = {"kind": "batch", "data": "small-400", "engine": "zvec", "k": 10, "queries": 9}
    batch |= {"batch_seconds": 1.0, "per_second": 9.0, "recall": 1.0, "cut": True}
    path = write(tmp_path / "a.jsonl", line("x", engines), batch)
    assert main(["report", str(path)]) == 0
    text = (tmp_path / "a.md").read_text()
    assert "0.200† = 2.00x" in text
    assert "0.300 = 3.00x" in text
    assert "ef=5 †" in text
    assert "| zvec† | 9 |" in text
    assert text.count("† Time ended the sweep") == 1
    whole = write(tmp_path / "b.jsonl", line("x", {"hybridq": engine(0.1), "zvec": engine(0.3)}))
    assert main(["report", str(whole)]) == 0
    capsys.readouterr()
    assert "Time ended" not in (tmp_path / "b.md").read_text()


def test_an_engine_that_came_later_is_held_to_its_own_turns(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    first = {"hybridq": engine(0.1), "faiss": engine(0.2)}
    joined = results.joined(first, {"hybridq": engine(0.4), "zvec": engine(0.8)})
    assert joined["hybridq"] == first["hybridq"]
    path = write(tmp_path / "a.jsonl", line("x", joined))
    assert main(["report", str(path)]) == 0
    text = (tmp_path / "a.md").read_text()
    assert "0.200 = 2.00x" in text
    assert "0.800 = 2.00x" in text
    assert "zvec came later to some cells" in text
    # A hybridq that failed in those turns leaves a time without a ratio.
    joined = results.joined(first, {"hybridq": {"error": "no"}, "zvec": engine(0.8)})
    other = write(tmp_path / "b.jsonl", line("x", joined))
    assert main(["report", str(other)]) == 0
    assert "0.800 @ 0.960" in (tmp_path / "b.md").read_text()
    assert run(path, path) == 0
    assert run(path, other) == 0
    assert "geometric mean 1.00" in capsys.readouterr().out


def test_report_has_the_load_of_a_build(tmp_path):
    pytest.importorskip("matplotlib")
    cost = {"kind": "cost", "data": "small-400", "version": "1", "about": "", "ready_seconds": 1.0}
    cost |= {"first_query_seconds": 0.1, "resident_bytes": 2**20}
    build = {"seconds": 9.0, "load": [0.1, 1.2], "peak_bytes": 2**20, "disk_bytes": 2**20}
    older = {"seconds": 8.0, "peak_bytes": 2**20, "disk_bytes": 2**20}
    path = write(
        tmp_path / "a.jsonl",
        {**cost, "engine": "faiss", "build": build},
        {**cost, "engine": "zvec", "build": older},
    )
    assert main(["report", str(path)]) == 0
    text = (tmp_path / "a.md").read_text()
    assert "| faiss | 1 | 9.0 | 0.1 → 1.2 |" in text
    assert "| zvec | 1 | 8.0 |  |" in text


def cell(ratio, spread=1.1, recall=0.96):
    return {"ratio": ratio, "spread": spread, "recall": recall}


def test_trend_fails_on_losses_beyond_noise():
    before = {"a": cell(1.0), "b": cell(2.0)}
    assert trend.judge(before, {"a": cell(0.95), "b": cell(2.1)})[1] == []
    assert trend.judge(before, {"a": cell(0.6), "b": cell(2.9)})[1] == ["a: 1.00x → 0.60x FAISS"]
    assert any("mean" in text for text in trend.judge(before, {"a": cell(0.8), "b": cell(1.6)})[1])
    assert trend.judge({}, {"a": cell(1.0, recall=0.9)})[1] == ["a: recall 0.900 of 0.95"]
    # A cell that spreads that much in one run says nothing.
    assert trend.judge({"a": cell(1.0)}, {"a": cell(0.9, spread=1.8)})[1] == []


def test_releases_are_whole():
    for release in trend.releases():
        assert set(release["cells"]) == set(trend.CELLS)
        assert all(c["ratio"] > 0 for c in release["cells"].values())


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["run", "--peer", "fais"], "no engine 'fais'; there are: hybridq, faiss"),
        (["run", "--workload", "W99"], "no workload 'W99'"),
        (["run", "--rows", "0"], "no positive number"),
        (["run", "--recall", "2"], "no recall"),
        (["run", "--data", "nothing"], "no data set 'nothing'"),
    ],
)
def test_what_is_not_known_is_named(words, text, capsys):
    with pytest.raises(SystemExit):
        main(words)
    assert text in capsys.readouterr().err


def test_json_lines_are_whole_lines(tmp_path):
    path = write(tmp_path / "a.jsonl", line("x", {}))
    assert [json.loads(n)["kind"] for n in path.read_text().splitlines()] == ["head", "search"]


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("mine", RESULTS / "mine.jsonl"),
        ("mine.jsonl", Path("mine.jsonl")),
        ("some/mine", Path("some/mine.jsonl")),
        ("some/mine.jsonl", Path("some/mine.jsonl")),
    ],
)
def test_result_files_are_named_with_or_without_their_ending(given, meant):
    assert _result(given) == meant
