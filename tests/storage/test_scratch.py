import numpy as np
import pytest

from hybridq.errors import OperationalError
from hybridq.storage.files import OsFiles


def test_scratch_bytes_are_written_and_leave_no_name(tmp_path):
    data = OsFiles().scratch(tmp_path, 1 << 20)
    assert len(data) == 1 << 20
    data[:] = 7
    assert (data == 7).all()
    assert list(tmp_path.iterdir()) == []
    assert len(OsFiles().scratch(tmp_path, 0)) == 0


def test_a_full_disk_is_found_before_anything_is_written(tmp_path):
    class Full(OsFiles):
        def reserve_step(self, descriptor, length):
            raise OSError(28, "No space left on device")

    with pytest.raises(OperationalError, match=r"cannot write to .*No space left"):
        Full().scratch(tmp_path, 100)


def test_scratch_holds_floats(tmp_path):
    rows = OsFiles().scratch(tmp_path, 4 * 12).view(np.float32).reshape(3, 4)
    rows[:] = 1.5
    assert rows.sum() == 18
