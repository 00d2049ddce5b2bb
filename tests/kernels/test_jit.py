import numpy as np

from hybridq.kernels._jit import (
    entry,
    f64,
    i64,
    in_f64,
    kernel,
    out_f64,
    strict_kernel,
)


@strict_kernel
def _sum_in_order(values):
    total = 0.0
    for i in range(values.shape[0]):
        total += values[i]
    return total


@kernel
def _count_nan(values):
    count = 0
    for i in range(values.shape[0]):
        if values[i] != values[i]:
            count += 1
    return count


@entry(in_f64, out_f64, returns=i64)
def _sums(values, out):
    out[0] = _sum_in_order(values)
    return _count_nan(values)


@entry(f64, returns=f64)
def _reciprocal(value):
    return np.float64(1.0) / np.float64(value)


def test_a_strict_kernel_stays_strict_inside_a_fast_one():
    values = np.ones(1000)
    values[0] = 2.0**60
    values[-1] = -(2.0**60)
    out = np.empty(1)
    _sums(values, out)
    assert out[0] == 0.0  # any other order keeps some of the ones


def test_nan_is_seen():
    values = np.arange(1000.0)
    values[::7] = np.nan
    assert _sums(values, np.empty(1)) == 143


def test_division_by_zero_is_infinite():
    assert _reciprocal(0.0) == np.inf


def test_arguments_by_name():
    assert _reciprocal(value=4.0) == 0.25
