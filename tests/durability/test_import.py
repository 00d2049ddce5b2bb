"""EXPORT DATABASE and IMPORT DATABASE of tables with indexes."""

import pytest

import hybridq

QUERY = "SELECT id, v <-> [7, 3, 1, 2]::FLOAT[4] AS d FROM t WHERE g < 4 ORDER BY d, id LIMIT 20"


def indexes(con):
    return [row[0] for row in con.execute('SELECT "index" FROM hybridq_health()').fetchall()]


def fill(con, start, stop):
    con.execute(
        "INSERT INTO t SELECT i, i % 7, [i % 13, i % 5, i % 3, i % 11]::FLOAT[4] "
        f"FROM range({start}, {stop}) r(i)"
    )


def agrees(con):
    """The index answers, and as DuckDB does."""
    assert "using index i" in con.execute(f"EXPLAIN {QUERY}").fetchall()[0][1]
    theirs = QUERY.replace(
        "v <-> [7, 3, 1, 2]::FLOAT[4]", "array_distance(v, [7, 3, 1, 2]::FLOAT[4])"
    )
    assert con.execute(QUERY).fetchall() == con.execute(theirs).fetchall()


@pytest.fixture
def exported(tmp_path):
    with hybridq.connect(tmp_path / "from.duckdb") as con:
        con.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, g INTEGER, v FLOAT[4])")
        fill(con, 0, 900)
        con.execute("CREATE INDEX i ON t USING ann (v)")
        con.execute("DELETE FROM t WHERE id % 9 = 2")
        fill(con, 900, 950)
        con.execute(f"EXPORT DATABASE '{tmp_path}/out'")
    return tmp_path


def test_an_imported_index_is_there_at_once_and_later(exported):
    with hybridq.connect(exported / "to.duckdb") as con:
        con.execute(f"IMPORT DATABASE '{exported}/out'")
        assert indexes(con) == ["i"]
        agrees(con)
        fill(con, 950, 1000)
        con.execute("DELETE FROM t WHERE id < 5")
        agrees(con)
        assert con.execute("SELECT count(*) FROM t").fetchall() == [(896,)]
    with hybridq.connect(exported / "to.duckdb") as con:
        assert con.notices == []
        agrees(con)


def test_an_import_in_a_transaction_brings_its_indexes_with_the_commit(exported):
    with hybridq.connect(exported / "to.duckdb") as con:
        con.execute("BEGIN")
        con.execute(f"IMPORT DATABASE '{exported}/out'")
        con.execute("ROLLBACK")
        assert indexes(con) == []
        con.execute("BEGIN")
        con.execute(f"IMPORT DATABASE '{exported}/out'")
        con.execute("INSERT INTO t VALUES (5000, 1, [7, 3, 1, 2])")
        assert con.execute(QUERY).fetchall()[0] == (5000, 0.0)
        con.execute("COMMIT")
        agrees(con)
        assert con.execute(QUERY).fetchall()[0] == (5000, 0.0)


def test_an_index_that_does_not_fit_is_told_of(exported):
    schema, table = exported / "out" / "schema.sql", exported / "out" / "t.csv"
    schema.write_text(schema.read_text().replace("v FLOAT[4]", "w FLOAT[4]"))
    table.write_text(table.read_text().replace("id,g,v", "id,g,w"))
    with hybridq.connect(exported / "to.duckdb") as con:
        con.execute(f"IMPORT DATABASE '{exported}/out'")
        assert con.execute("SELECT count(*) FROM t").fetchall() == [(850,)]
        state = con.execute('SELECT "index", status FROM hybridq_health()').fetchall()
        assert state == [("i", "unusable")]
        assert any('index "i"' in notice for notice in con.notices)
        with pytest.raises(hybridq.Error, match="unusable"):
            con.execute("CREATE INDEX i ON t USING ann (w)")
        con.execute("DROP INDEX i")
        con.execute("ALTER TABLE t RENAME w TO v")
        con.execute("CREATE INDEX i ON t USING ann (v)")
        agrees(con)


def test_rows_imported_into_a_table_with_an_index_are_in_the_index(exported):
    out = exported / "out"
    (out / "schema.sql").write_text("")
    load = [line for line in (out / "load.sql").read_text().splitlines() if "COPY t " in line]
    (out / "load.sql").write_text("\n".join(load))
    with hybridq.connect(exported / "from.duckdb") as con:
        con.execute("DELETE FROM t WHERE id % 2 = 0")
        with pytest.raises(hybridq.IntegrityError, match=r"[Dd]uplicate key"):
            con.execute(f"IMPORT DATABASE '{out}'")
        agrees(con)
        con.execute("DELETE FROM t")
        con.execute(f"IMPORT DATABASE '{out}'")
        assert con.execute("SELECT count(*) FROM t").fetchall() == [(850,)]
        agrees(con)
    with hybridq.connect(exported / "from.duckdb") as con:
        assert con.notices == []
        agrees(con)
