"""The public-domain DB-API compliance suite, run against hybridq."""

import dbapi20
import pytest

import hybridq


class TestCompliance(dbapi20.DatabaseAPI20Test):
    driver = hybridq

    @pytest.fixture(autouse=True)
    def _file(self, tmp_path):
        # The suite opens several connections to one database.
        self.connect_args = (str(tmp_path / "suite.duckdb"),)
        # Keeps the instance open between the suite's connections, as a server would be.
        keeper = hybridq.connect(*self.connect_args)
        yield
        keeper.close()

    def test_nextset(self):
        """A cursor holds one result set: there is never a next one."""
        with hybridq.connect() as con:
            cursor = con.execute("SELECT 1; SELECT 2")
            assert cursor.fetchall() == [(2,)]
            assert cursor.nextset() is None

    def test_setoutputsize(self):
        """Accepted and without effect, as the specification allows."""
        with hybridq.connect() as con:
            cursor = con.cursor()
            cursor.setoutputsize(1000)
            cursor.setoutputsize(2000, 0)
            assert cursor.execute("SELECT repeat('x', 5000)").fetchone() == ("x" * 5000,)
