"""Kernels that only kernels call have no way in from Python; tests make one."""

from numba import njit


def from_python(kernel):
    """Return a function of the same positional arguments that Python may call."""

    @njit(error_model="numpy")
    def call(*arguments):
        return kernel(*arguments)

    return call
