"""In which arithmetic, and by which version of a model, a database's vectors are made.

bf16 halves the time where the processor has it, and moves a vector by .09 (.14 at most, over 32
photos): less than two pictures of one thing are apart, but more than two copies of one picture
should be. So the choice is made once per database and model, kept in the database, and kept to on
every machine.
"""

from __future__ import annotations

import functools
import logging
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from hybridq.errors import Error, ProgrammingError
from hybridq.extensions import Context
from udfs.image.arrays import Precision
from udfs.image.models import ModelInfo

logger = logging.getLogger(__name__)

KIND = "precision"

_NATIVE_FLAGS = ("avx512_bf16", "amx_bf16")
_CPUINFO = Path("/proc/cpuinfo")


@functools.cache
def native_bf16() -> bool:
    """Tell whether this processor multiplies bf16 in hardware (x86: no other was measured)."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return False
    if _CPUINFO.exists():  # spares importing torch
        lines = _CPUINFO.read_text().splitlines()
        flags = next((line for line in lines if line.startswith("flags")), "").split()
        return any(flag in flags for flag in _NATIVE_FLAGS)
    import torch

    found: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(bool(found.get(flag)) for flag in _NATIVE_FLAGS)


def wanted(context: Context) -> Precision | None:
    """Return the precision the session asks for, None where it leaves the choice to us."""
    try:
        setting = context.setting("image_precision")
    except (ProgrammingError, AttributeError):  # an engine without the setting
        return None
    return cast("Precision", setting) if setting in ("bf16", "fp32") else None


def best() -> Precision:
    """Return the fastest precision of this processor."""
    return "bf16" if native_bf16() else "fp32"


def of_database(context: Context, model: ModelInfo) -> Precision:
    """Return the precision of `model` in this database, fixing it at the first call."""
    if model.only_fp32:
        return "fp32"
    kept = _kept(context, model)
    asked = wanted(context)
    if kept is None:
        precision = asked or best()
        fix(context, model, precision)
        return precision
    precision = cast("Precision", kept["precision"])
    if kept["version"] != model.version:
        warn_version(model.name, str(kept["version"]), model.version)
    if asked is not None and asked != precision:
        _warn_asked(model.name, precision, asked)
    return honoured(precision)


def fix(context: Context, model: ModelInfo, precision: Precision) -> None:
    """Keep `precision` as the one of `model` in this database, where none is kept yet."""
    if _kept(context, model) is not None:
        return
    options = {"precision": precision, "version": model.version, "dim": model.dim}
    try:
        context.objects.put(KIND, model.name, options)
    except Error as error:
        # A read-only database: its vectors, if any, were not made by us.
        logger.info("the precision of %s is not kept: %s", model.name, error)


def honoured(precision: Precision) -> Precision:
    """Return `precision`, saying once what it costs here."""
    if precision == "bf16" and not native_bf16():
        _warn_slow()
    return precision


def check_pipeline(context: Context, pipeline: str, model: ModelInfo, precision: Precision) -> None:
    """Warn where the vectors of a pipeline do not compare with those of `extract_feature`."""
    kept = _kept(context, model)
    if kept is not None and kept["precision"] != precision:
        _warn_mixed(pipeline, precision, str(kept["precision"]))


def _kept(context: Context, model: ModelInfo) -> Mapping[str, Any] | None:
    stored = context.objects.get(KIND, model.name)
    return None if stored is None else stored.options


@functools.cache
def _warn_slow() -> None:
    logger.warning(
        "the vectors of this database are bf16, which this processor has to emulate: slower"
    )


@functools.cache
def warn_version(model: str, kept: str, installed: str) -> None:
    """Say once that vectors of two versions of a model do not compare."""
    logger.warning(
        "vectors of %s in this database were made by version %s, those made now by %s: "
        "extract them anew before comparing",
        *(model, kept, installed),
    )


@functools.cache
def _warn_asked(model: str, kept: str, asked: str) -> None:
    logger.warning(
        "image_precision = %s is ignored for %s: this database keeps its vectors in %s",
        *(asked, model, kept),
    )


@functools.cache
def _warn_mixed(pipeline: str, created: str, kept: str) -> None:
    logger.warning(
        "pipeline %s was created in %s, other vectors of this database are %s: "
        "distances between the two are off by up to .15",
        *(pipeline, created, kept),
    )
