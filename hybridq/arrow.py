"""pyarrow, loaded when it is first used: most searches never need it."""

from typing import TYPE_CHECKING

from hybridq import lazy

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.compute as pc
else:
    pa = lazy.library("pyarrow")
    pc = lazy.library("pyarrow.compute")

__all__ = ["pa", "pc"]
