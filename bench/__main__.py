"""`python -m bench`: data, run, report, compare, trend."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bench import compare, formats, report, run, trend
from bench import data as sets
from bench.data.dataset import DataError
from bench.peers.registry import ENGINES
from bench.results import RESULTS, ResultError
from bench.workloads import WORKLOADS

_EPILOG = """\
Typical:
  python -m bench data words                          makes a data set; run does so too
  python -m bench run --data sift --rows 100000       every workload, every engine
  python -m bench run --workload W2,W4 --peer faiss,pgvector --rows 20000
  python -m bench report                              of the newest results: HTML, PNG, Markdown
  python -m bench compare bench/results/a.jsonl bench/results/b.jsonl
  python -m bench trend                               ratios to FAISS against those of the release

Everything it makes is kept under bench/.cache: data, truths, the peers' environments and databases,
tuned settings. An interrupted run goes on where it was with the same --out. Further measurements
have modules of their own: python -m bench.fusion, .selectivity, .regret, .writes, .overhead.
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measures hybridq beside other engines on real data, through its DB-API only.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    one = _command(commands, "data", "fetch, make, import or list data sets")
    one.add_argument("name", nargs="*", help=f"of {', '.join(sets.MAKERS)}; none lists them")
    one.add_argument("--rows", type=_count, help="how many are needed, where they are costly")
    one.add_argument("--import", dest="source", nargs="+", type=Path, help=formats.HELP)
    one.add_argument("--verify", action="store_true", help="read every byte of what is there")
    one.set_defaults(call=formats.command)

    two = _command(commands, "run", "measure workloads by engines")
    known = "; ".join(f"{n}: {text}" for n, text in WORKLOADS.items())
    two.add_argument("--data", type=_data, default=["sift"], help="names, by commas (sift)")
    two.add_argument("--workload", type=_workloads, help=known.replace("%", "%%"))
    two.add_argument("--peer", type=_peers, help=f"of {', '.join(ENGINES)}; all by default")
    two.add_argument("--cell", type=lambda t: t.split(","), help="prefixes of cells, by commas")
    two.add_argument("--rows", type=_count, help="a random subset of so many")
    two.add_argument("--threads", type=_count, default=2, help="most threads of the QPS (2)")
    two.add_argument("--queries", type=_count, default=100)
    two.add_argument("--k", type=_count, default=10)
    two.add_argument("--recall", type=_recall, default=0.95)
    two.add_argument("--passes", type=_count, default=3, help="a query's time is its best of these")
    two.add_argument("--seconds", type=float, default=2.0, help="for an engine in a cell (2)")
    two.add_argument(
        "--equal", action="store_true", help="hybridq, too, is tuned to just reach the recall"
    )
    two.add_argument("--retune", action="store_true", help="sweep the peers' settings again")
    two.add_argument("--again", action="store_true", help="measure what --out has, again")
    two.add_argument("--out", type=_result, help="file of results; one that is there is completed")
    two.set_defaults(call=lambda arguments: run.Run(arguments)())

    three = _command(commands, "report", "HTML page, plots and Markdown of results")
    three.add_argument("results", nargs="*", type=_result, help="files; the newest by default")
    three.add_argument("--target", type=Path, help="folder; beside the results by default")
    three.set_defaults(call=report.command)

    four = _command(commands, "compare", "say what is slower in B than in A beyond noise")
    four.add_argument("a", type=_result)
    four.add_argument("b", type=_result)
    four.add_argument("--noise", type=float, default=compare.NOISE, help="ratio taken as none")
    four.set_defaults(call=compare.command)

    five = _command(commands, "trend", "a small fixed subset against the last release's ratios")
    five.add_argument("--record", metavar="VERSION", help="store the ratios as this release's")
    five.add_argument("--rows", type=_count, default=trend.ROWS)
    five.set_defaults(call=trend.command)
    return parser


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, text: str
) -> argparse.ArgumentParser:
    return commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")


def _count(text: str) -> int:
    if not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no positive number")
    return int(text)


def _recall(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no recall: above 0, at most 1")
    return value


def _data(text: str) -> list[str]:
    return run.words(text, [*sets.MAKERS, *sets.imported()], "data set")


def _workloads(text: str) -> list[str]:
    return run.words(text, list(WORKLOADS), "workload")


def _peers(text: str) -> list[str]:
    return run.words(text, list(ENGINES), "engine")


def _result(text: str) -> Path:
    """A path, or the name of a file in bench/results."""
    path = Path(text if text.endswith(".jsonl") else f"{text}.jsonl")
    return path if "/" in text or path.name == text else RESULTS / path


def main(words: list[str] | None = None) -> int:
    arguments = _parser().parse_args(words)
    try:
        return int(arguments.call(arguments))
    except (DataError, ResultError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\ninterrupted: the same command with the same --out goes on from here\n")
        return 130


if __name__ == "__main__":
    sys.exit(main())
