"""How kernels are compiled; the one place that names compiler flags.

A kernel takes arrays and scalars and fills arrays its caller allocated. `kernel` and
`strict_kernel` decorate what other kernels call, and Python must not (there is no way in, and no
check of it); `entry` decorates what Python calls.
All of it is plain Python under NUMBA_DISABLE_JIT=1.

Compiled entries are cached beside their module with all they call inside. The cache sees
changes of that module only: after editing a kernel that another module calls, remove
`__pycache__/*.nb?` of this package.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
from numba import njit, types
from numba.core.dispatcher import Dispatcher

F = TypeVar("F", bound=Callable[..., Any])

JIT = isinstance(njit(lambda: None), Dispatcher)
"""False under NUMBA_DISABLE_JIT=1."""

SAFE_FASTMATH = {"nsz", "arcp", "contract", "afn", "reassoc"}
"""Reordering and fusing only: with nnan or ninf, NaN checks are silently dropped."""

SAFE_FLAGS = tuple(sorted(SAFE_FASTMATH))
"""The same for instructions that are written out, see `_intrinsics`."""

REDUCTION: dict[str, Any] = {"fastmath": SAFE_FLAGS}

_INNER: dict[str, Any] = {
    "nogil": True,
    "error_model": "numpy",
    "forceinline": True,
    "_nrt": False,
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
}


_OUTER: dict[str, Any] = {
    "nogil": True,
    "error_model": "numpy",
    "fastmath": SAFE_FASTMATH,
    "cache": True,
    "no_cfunc_wrapper": True,
}


def kernel(function: F) -> F:
    """Compile for use by other kernels; float sums may be reordered.

    It may not allocate: without Numba's reference counts, a call with arrays costs nothing.
    """
    return _inner(function, SAFE_FASTMATH)


def strict_kernel(function: F) -> F:
    """Compile for use by other kernels; float sums keep their order.

    False must be said: a kernel inherits from its caller what its decorator leaves out.
    """
    return _inner(function, False)


def _inner(function: F, fastmath: Any) -> F:
    dispatcher = njit(fastmath=fastmath, **_INNER)(function)
    if JIT:
        # Numba would compile a kernel once more for every literal it is called with.
        template = dispatcher.get_call_template

        def call_template(args: Any, kws: Any) -> Any:
            general: Callable[[Any], Any] = types.unliteral
            return template(tuple(map(general, args)), {n: general(kws[n]) for n in kws})

        dispatcher.get_call_template = call_template
    return cast(F, dispatcher)


def entry(*signature: Any, returns: Any = types.void, checked: bool = True) -> Callable[[F], F]:
    """Compile for calls from Python, at the first call, for exactly the types of `signature`.

    Arrays declared `in_*` are read-only, and a writable array converts to a read-only one:
    memory-mapped and ordinary arrays run the same code, and nothing is compiled twice.
    Without `checked` arguments are taken for what `signature` says, in C order, and by position:
    that saves most of a call's cost where they are many.
    """

    def decorate(function: F) -> F:
        compiled: Callable[..., Any] | None = None

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal compiled
            if compiled is None:
                compiled = _compile(function, returns(*signature), checked=checked)
            return compiled(*args, **kwargs)

        return cast(F, call)

    return decorate


def _compile(function: Callable[..., Any], signature: Any, *, checked: bool) -> Callable[..., Any]:
    if JIT:
        dispatcher = njit(signature, **_OUTER)(function)
        if checked:
            return cast(Callable[..., Any], dispatcher)
        (compiled,) = dispatcher.overloads.values()
        return cast(Callable[..., Any], compiled.entry_point)

    def interpreted(*args: Any, **kwargs: Any) -> Any:
        with np.errstate(all="ignore"):  # compiled code does not warn either
            return function(*args, **kwargs)

    return interpreted


def _array(dtype: Any, ndim: int, *, readonly: bool) -> Any:
    return types.Array(dtype, ndim, "C", readonly=readonly)


i64 = types.int64
f32 = types.float32
f64 = types.float64
boolean = types.boolean
in_f32 = _array(f32, 1, readonly=True)
in_f32_2d = _array(f32, 2, readonly=True)
in_f64 = _array(f64, 1, readonly=True)
in_i32 = _array(types.int32, 1, readonly=True)
in_i64 = _array(i64, 1, readonly=True)
in_i64_2d = _array(i64, 2, readonly=True)
in_i64_3d = _array(i64, 3, readonly=True)
in_u64 = _array(types.uint64, 1, readonly=True)
in_u16_2d = _array(types.uint16, 2, readonly=True)
in_u32_2d = _array(types.uint32, 2, readonly=True)
in_u8 = _array(types.uint8, 1, readonly=True)
in_u8_2d = _array(types.uint8, 2, readonly=True)
in_u8_3d = _array(types.uint8, 3, readonly=True)
in_f32_3d = _array(f32, 3, readonly=True)
out_f32 = _array(f32, 1, readonly=False)
out_f32_2d = _array(f32, 2, readonly=False)
out_f32_3d = _array(f32, 3, readonly=False)
out_u8 = _array(types.uint8, 1, readonly=False)
out_u8_2d = _array(types.uint8, 2, readonly=False)
out_u8_3d = _array(types.uint8, 3, readonly=False)
out_u16 = _array(types.uint16, 1, readonly=False)
out_u32 = _array(types.uint32, 1, readonly=False)
out_u64 = _array(types.uint64, 1, readonly=False)
out_u64_2d = _array(types.uint64, 2, readonly=False)
out_f64 = _array(f64, 1, readonly=False)
out_f64_2d = _array(f64, 2, readonly=False)
out_i32 = _array(types.int32, 1, readonly=False)
out_i64 = _array(i64, 1, readonly=False)
out_i64_2d = _array(i64, 2, readonly=False)
out_i64_3d = _array(i64, 3, readonly=False)
