"""Put batched files in the place of `read_blob(…)` where a statement feeds images to a model."""

from __future__ import annotations

from typing import Any

from hybridq.errors import OperationalError
from hybridq.exec.host import Host
from hybridq.exec.reader import FileBatches
from hybridq.sql import files, lexical


def with_batched_files(
    session: Host, text: str, parameters: Any
) -> tuple[str, Any, dict[str, FileBatches]]:
    """Return (text, parameters, views): our reader in place of read_blob, and the views it uses.

    Where there are views, progress was started and is the caller's to finish.
    """
    functions = session.instance.functions.image_functions
    if "read_blob" not in text.lower() or not files.blob_calls(text, functions):
        return text, parameters, {}
    if isinstance(parameters, list):
        # Taking a call out of the text would shift the positions of what follows it.
        text, names = lexical.named(lexical.piece_of(text))
        parameters = {name: parameters[int(name[2:]) - 1] for name in names}
    views: dict[str, FileBatches] = {}
    total = 0
    for call in reversed(files.blob_calls(text, functions)):
        listed = session.duck.execute(
            "SELECT filename, size, CAST(last_modified AS TIMESTAMP) "
            f"FROM read_blob({call.arguments}) ORDER BY filename",
            _used(f"SELECT {call.arguments}", parameters),
        ).fetchall()
        if not listed:
            raise OperationalError(
                f"read_blob({call.arguments.strip()}) finds no files",
                hint="check the path; it is relative to the working directory",
            )
        view = f"__hybridq_files{len(views)}"
        views[view] = FileBatches(listed)
        session.duck.register(view, views[view])
        total += len(listed)
        text = text[: call.start] + view + text[call.end :]
    session.origins.files = views
    session.progress.start("extract features", total)
    return text, _used(text, parameters), views


def _used(text: str, parameters: Any) -> Any:
    if not parameters:
        return None
    return {name: parameters[name] for name in lexical.used_parameters(text)} or None
