"""Commands that steer the console: formats, files, leaving, help."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hybridq.console.commands import all_commands, command, run_command, switch
from hybridq.errors import ProgrammingError

if TYPE_CHECKING:
    from hybridq.console.shell import Shell

_MODES = {
    "table": "table",
    "box": "table",
    "duckbox": "table",
    "csv": "csv",
    "json": "json",
    "jsonl": "jsonl",
    "jsonlines": "jsonl",
    "ndjson": "jsonl",
}


@command(r"\?", ".help", r"\h", usage="[COMMAND]", summary="show this help")
def show_help(shell: Shell, arguments: list[str]) -> None:
    """List all commands, or explain one."""
    wanted = all_commands()
    if arguments:
        name = arguments[0]
        wanted = [c for c in wanted if any(n in (name, f"\\{name}", f".{name}") for n in c.names)]
        if not wanted:
            run_command(shell, name if name[0] in "\\." else f"\\{name}")
            return
    shapes = [(f"{entry.names[0]} {entry.usage}", entry) for entry in wanted]
    width = max(len(shape) for shape, _ in shapes)
    for shape, entry in shapes:
        others = f"  ({', '.join(entry.names[1:])})" if entry.names[1:] else ""
        shell.write(f"  {shape:<{width}}  {entry.summary}{others}\n")
    if not arguments:
        shell.write(
            "  SQL ends with a semicolon. Tab completes, Ctrl-C cancels a statement, "
            "Ctrl-D leaves.\n"
        )


@command(r"\q", ".quit", ".exit", summary="leave", most=0)
def leave(shell: Shell, arguments: list[str]) -> None:
    """End the session."""
    shell.leaving = True


@command(r"\timing", ".timer", usage="[on|off]", summary="show how long statements take")
def timing(shell: Shell, arguments: list[str]) -> None:
    """Turn times on or off."""
    shell.options.timing = switch(arguments, shell.options.timing)
    shell.say(f"timing is {_word(shell.options.timing)}")


@command(r"\x", usage="[on|off]", summary="show rows one column per line")
def expanded(shell: Shell, arguments: list[str]) -> None:
    """Turn expanded display on or off."""
    shell.options.expanded = switch(arguments, shell.options.expanded)
    shell.say(f"expanded display is {_word(shell.options.expanded)}")


@command(r"\thumbnails", ".thumbnails", usage="[on|off]", summary="show pictures below results")
def thumbnails(shell: Shell, arguments: list[str]) -> None:
    """Turn thumbnails on or off."""
    shell.options.thumbnails = switch(arguments, shell.options.thumbnails)
    shell.say(f"thumbnails are {_word(shell.options.thumbnails)}")


@command(
    r"\format", ".mode", usage="[table|csv|json|jsonl|line]", summary="how results are written"
)
def output_format(shell: Shell, arguments: list[str]) -> None:
    """Set the format; `line` is the expanded table."""
    if arguments:
        name = arguments[0].lower()
        if name in ("line", "lines"):
            shell.options.format, shell.options.expanded = "table", True
        elif name in _MODES:
            shell.options.format, shell.options.expanded = _MODES[name], False
        else:
            raise ProgrammingError(
                f'unknown format "{arguments[0]}"', hint="formats: table, csv, json, jsonl, line"
            )
    expand = shell.options.format == "table" and shell.options.expanded
    shell.say(f"format is {'line' if expand else shell.options.format}")


@command(r"\null", ".nullvalue", usage="[TEXT]", summary="how tables show NULL")
def null_text(shell: Shell, arguments: list[str]) -> None:
    """Set the text for NULL."""
    if arguments:
        shell.options.null = arguments[0]
    shell.say(f'NULL is shown as "{shell.options.null}"')


@command(r"\maxrows", ".maxrows", usage="[N|all]", summary="how many rows a table shows")
def max_rows(shell: Shell, arguments: list[str]) -> None:
    """Set the number of rows after which a table is cut."""
    if arguments:
        word = arguments[0].lower()
        if word != "all" and not word.isdecimal():
            raise ProgrammingError(f'"{arguments[0]}" is no number of rows')
        shell.options.max_rows = 0 if word == "all" else int(word)
    rows = shell.row_limit()
    shell.say(f"tables show {'all' if rows is None else f'up to {rows:,}'} rows")


@command(r"\i", ".read", usage="FILE", summary="run a script", files=True)
def read(shell: Shell, arguments: list[str]) -> bool:
    """Run the statements and commands of a file."""
    if not arguments:
        raise ProgrammingError(r"\i needs the name of a script")
    return shell.run_file(arguments[0])


@command(
    r"\o", ".output", usage="[FILE]", summary="write results to a file, or no longer", files=True
)
def output(shell: Shell, arguments: list[str]) -> None:
    """Send results to a file."""
    shell.output_to(arguments[0] if arguments else None)


@command(
    r"\open", ".open", r"\c", usage="[FILE]", summary="go on with another database", files=True
)
def open_database(shell: Shell, arguments: list[str]) -> None:
    """Open another database and close the present one."""
    if arguments:
        shell.open(arguments[0])
    shell.say(f"the database is {shell.database}")


@command(r"\echo", ".print", usage="[TEXT]", summary="write text among the results", most=1000)
def echo(shell: Shell, arguments: list[str]) -> None:
    """Write the arguments."""
    shell.write(" ".join(arguments) + "\n")


@command(r"\r", summary="forget the statement being typed", most=0)
def reset(shell: Shell, arguments: list[str]) -> None:
    """Forget the statement that is under way."""
    shell.unfinished = ""


def _word(value: bool) -> str:
    return "on" if value else "off"
