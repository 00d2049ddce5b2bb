"""`python -m bench`: names the benchmarks. Each is a module run by `python -m bench.NAME`."""

from __future__ import annotations

import argparse
import ast
import textwrap
from pathlib import Path

_MODULES = (
    "fusion",
    "selectivity",
    "regret",
    "writes",
    "overhead",
    "descriptors",
    "items",
    "peers",
)


def main() -> None:
    lines = []
    for name in _MODULES:
        source = (Path(__file__).parent / f"{name}.py").read_text()
        first = (ast.get_docstring(ast.parse(source)) or "").splitlines()[0]
        lines.append(f"  python -m bench.{name:12} {first}")
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Each benchmark is a module; --help after its name explains it.",
        epilog="\n".join(["benchmarks:", *lines, "", textwrap.dedent(_CACHE)]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.parse_args()
    parser.print_help()


_CACHE = """\
    Data, truths, peers' environments and databases are kept under bench/.cache. Run from the
    root of the repository.
"""

if __name__ == "__main__":
    main()
