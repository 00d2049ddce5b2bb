"""UPDATE and DELETE of the row with a key: one statement, and the index knows what it did."""

import math
import shutil
import uuid

import duckdb
import numpy as np
import pytest

import hybridq
from hybridq.exec import by_key, dml
from tests.equal import index_equals_table

TABLE = (
    "CREATE TABLE t (id BIGINT PRIMARY KEY, b BOOLEAN, u UBIGINT, s SMALLINT, f FLOAT, d DOUBLE, "
    "label TEXT, day DATE, v FLOAT[3], note TEXT DEFAULT 'none')"
)
INSERT = "INSERT INTO t (id, b, u, s, f, d, label, v) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
ROW = [1, True, 2, 3, 0.5, 0.25, "ant", [1.0, 2.0, 3.0]]
VALUES = {
    "b": [False, None, 1, "true"],
    "u": [0, 2**64 - 2, 2**64 - 1, -1, None, 3.0, "4"],
    "s": [-(2**15), 2**15, None, 2.5, "3", True],
    "f": [0.1, -0.0, math.nan, math.inf, 1e300, 2**24 + 1, 7, None, "1.5"],
    "d": [0.1, -0.0, math.nan, 2**53 + 1, 7, None, "1.5"],
    "label": ["", "ä", "a\0b", None, 5, b"ant", "'; --"],
    "day": ["2024-02-03", None],
    "note": ["new", None, 5],
    "v": [
        [1, 2.5, 3],
        (1.0, 2.0, 3.0),
        np.array([1.1, 2.2, 3.3]),
        np.array([1.1, 2.2, 3.3], np.float32),
        "[1, 2, 3]",
        None,
        [0.0, 0.0, 0.0],
        [1.0, None, 3.0],
        [],
        [1.0, math.nan, 3.0],
        [1.0, 1e300, 3.0],
    ],
}
PLACES = {"segment": 1001, "delta": 2001, "tail": 3001, "no vector": 1010, "none": 9}
KEYS = [1001, "1002", 1003.0, 1003.5, True, None, 2**70, -1, "x", b"1005"]


def filled(con):
    con.execute(TABLE)
    fill(con, 1000, 1600)


def fill(con, start, stop):
    con.execute(
        "INSERT INTO t SELECT i, i % 2 = 0, i, i % 9, i / 7, i / 3, 'l' || i % 5, "
        "DATE '2024-01-01' + (i % 50)::INTEGER, "
        "CASE WHEN i % 10 > 0 THEN [i % 7, i % 11, i % 13] END, 'n' FROM range(?, ?) r(i)",
        [start, stop],
    )


def grow(con):
    """Rows in a part with codes, and in one that grows."""
    fill(con, 2000, 2400)
    for i in range(3000, 3010):
        con.execute(INSERT, [i, *ROW[1:]])


@pytest.fixture(scope="module", params=["l2", "cosine"])
def built(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("built")
    with hybridq.connect(folder / "album.duckdb") as con:
        filled(con)
        options = f"WITH (nlist = 4, metric = '{request.param}')"
        con.execute(f"CREATE INDEX i ON t USING ann (v) {options}")
        con.execute(f"CREATE INDEX j ON t USING ann (v) INCLUDE (label) {options}")
    return folder


@pytest.fixture
def path(built, tmp_path):
    shutil.copytree(built, tmp_path / "copy")
    return tmp_path / "copy" / "album.duckdb"


@pytest.fixture
def plain():
    with duckdb.connect() as con:
        filled(con)
        grow(con)
        yield con


def outcome(con, text, given):
    """Run a statement; return how many rows it wrote, None if it was refused."""
    try:
        found = con.execute(text, given)
        return found.rowcount if isinstance(con, hybridq.Connection) else found.fetchall()[0][0]
    except (duckdb.Error, hybridq.Error, OverflowError, RuntimeError, UnicodeError):
        return None


def same_rows(con, plain):
    text = "SELECT CAST(COLUMNS(*) AS TEXT) FROM t ORDER BY id"
    assert con.execute(text).fetchall() == plain.execute(text).fetchall()
    index_equals_table(con)


@pytest.mark.parametrize("explicit", [False, True])
@pytest.mark.parametrize("column", VALUES)
def test_an_update_holds_what_duckdb_would(path, plain, column, explicit):
    text = f"UPDATE t SET {column} = ? WHERE id = ?"
    with hybridq.connect(path) as con:
        grow(con)
        for place in PLACES.values():
            for value in VALUES[column]:
                if explicit:
                    con.begin()
                mine = outcome(con, text, [value, place])
                if explicit:
                    (con.rollback if mine is None else con.commit)()
                if mine is not None or column not in ("u", "v"):  # it keeps less than a table
                    assert mine == outcome(plain, text, [value, place]), (value, place)
            index_equals_table(con)
        same_rows(con, plain)
    with hybridq.connect(path) as con:
        assert con.notices == []
        same_rows(con, plain)


@pytest.mark.parametrize("explicit", [False, True])
@pytest.mark.parametrize("text", ["DELETE FROM t WHERE id = ?", "UPDATE t SET s = 77 WHERE id = ?"])
def test_a_key_is_what_duckdb_finds(path, plain, text, explicit):
    with hybridq.connect(path) as con:
        grow(con)
        for key in (*PLACES.values(), *KEYS):
            if explicit:
                con.begin()
            mine = outcome(con, text, [key])
            if explicit:
                (con.rollback if mine is None else con.commit)()
            assert mine == outcome(plain, text, [key]), key
            index_equals_table(con)
        same_rows(con, plain)
    with hybridq.connect(path) as con:
        assert con.notices == []
        same_rows(con, plain)


SPELLED = {
    "UPDATE t SET s = $2, v = $3 WHERE id = $1": [1001, 7, [4.0, 5.0, 6.0]],
    "UPDATE t SET s=:s, label='it''s' WHERE id=:id": {"s": 3, "id": 1001},
    "UPDATE main.t SET S = -3, label = NULL, b = true, note = note || '!' WHERE \"id\" = 1": None,
    "UPDATE t SET s = s + 1 WHERE id = 1001": None,
    'UPDATE t SET s = s + :s, u = -s + 9, f = s, label = s || "label" WHERE id = :id': {
        "s": 3,
        "id": 1001,
    },
    "UPDATE t SET s = id - id + $2, v = CASE WHEN b THEN v ELSE [7, 7, 7] END WHERE id = $1": [
        1001,
        4,
    ],
    "UPDATE t SET label = current_date WHERE id = 1001": None,
    "UPDATE t SET s = DEFAULT, label = DEFAULT WHERE id = 1001": None,
    "UPDATE t SET v = NULL WHERE id = 1001": None,
    "UPDATE t SET s = abs(s) + 1 WHERE id = 1001": None,
    "UPDATE t SET s = (SELECT max(s) FROM t) WHERE id = 1001": None,
    "UPDATE t SET note = 'x' -- a comment\nWHERE id = ? -- and one": [1001],
    "UPDATE t SET s = 5, v = ?, f = 0.1 WHERE id = ?": [[4.0, 5.0, 6.0], 1001],
    "UPDATE t SET s = 1, note = ? WHERE id = 1001 AND id = ?": ["x", 1001],
    "UPDATE t SET s = 1 WHERE id = ? AND label = 'l1'": [1001],
    "UPDATE t AS a SET s = 2 WHERE a.id = ?": [1001],
    "UPDATE t SET s = q.x FROM (SELECT 9 AS x) q WHERE id = 1001": None,
    "UPDATE t SET s = 4 WHERE id = 1001 RETURNING id": None,
    "UPDATE t SET id = 5 WHERE id = ?": [1001],
    "DELETE FROM t WHERE id=1001;": None,
    "DELETE FROM t WHERE id = -1001": None,
    "DELETE FROM t WHERE id = 1001 OR id = ?": [1002],
    "DELETE FROM main.t WHERE id = $key": {"key": 1001},
}


@pytest.mark.parametrize("text", SPELLED)
def test_it_is_spelled_in_many_ways(path, text):
    given = SPELLED[text]
    with hybridq.connect(path) as con, duckdb.connect() as plain:
        filled(plain)
        for _ in range(2):
            con.execute(text, given)
            plain.execute(text.replace(":id", "$id").replace(":s", "$s"), given)
            same_rows(con, plain)


@pytest.mark.parametrize(
    ("columns", "key", "keys"),
    [
        ("k TEXT", "k", [["é"], [""], ["no such"]]),
        ("k TEXT COLLATE NOCASE", "k", [["É"], [""], ["no such"]]),
        ("k UUID", "k", [[uuid.UUID(int=7)], [str(uuid.UUID(int=8))], [uuid.UUID(int=9)]]),
        ("k UBIGINT", "k", [[2**64 - 2], [0], [5]]),
        ("k BOOLEAN", "k", [[True], [False], [1]]),
        ("k DATE", "k", [["2024-02-29"], ["2024-03-01"], ["2025-01-01"]]),
        ("k BIGINT, l TEXT", "l, k", [[1, "a"], [1, "b"], [2, "b"], [3, "a"]]),
    ],
)
def test_keys_of_every_type(tmp_path, columns, key, keys):
    same = " AND ".join(f"{c.split()[0]} = ?" for c in columns.split(", "))
    with hybridq.connect(tmp_path / "album.duckdb") as con:
        con.execute(f"CREATE TABLE c ({columns}, g INTEGER, v FLOAT[2], PRIMARY KEY ({key}))")
        marks = ", ".join("?" * len(keys[0]))
        for i, values in enumerate(keys[:-1]):
            con.execute(f"INSERT INTO c VALUES ({marks}, ?, ?)", [*values, i, [1.0, i]])
        con.execute("CREATE INDEX i ON c USING ann (v)")
        for turn in range(3):
            for i, values in enumerate(keys):
                there = int(i < len(keys) - 1 or values == [1])
                update = f"UPDATE c SET g = ?, v = ? WHERE {same}"
                assert con.execute(update, [turn, [2.0, i], *values]).rowcount == there
                index_equals_table(con)
            for values in keys[:-1]:
                con.execute(f"DELETE FROM c WHERE {same}", values)
                index_equals_table(con)
                assert con.execute(f"DELETE FROM c WHERE {same}", values).rowcount == 0
                con.execute(f"INSERT INTO c VALUES ({marks}, ?, ?)", [*values, 1, [1.0, 1.0]])
                index_equals_table(con)


def test_a_default_collation_finds_other_keys(tmp_path):
    with hybridq.connect(tmp_path / "album.duckdb") as con:
        con.execute("CREATE TABLE c (k TEXT PRIMARY KEY, v FLOAT[2])")
        con.execute("INSERT INTO c VALUES ('a', [1, 2]), ('A', [3, 4]), ('b', [5, 6])")
        con.execute("CREATE INDEX i ON c USING ann (v)")
        con.execute("UPDATE c SET v = ? WHERE k = ?", [[1.0, 1.0], "a"])
        con.execute("SET default_collation = 'NOCASE'")
        assert con.execute("UPDATE c SET v = ? WHERE k = ?", [[2.0, 2.0], "a"]).rowcount == 2
        index_equals_table(con)
        assert con.execute("DELETE FROM c WHERE k = ?", ["a"]).rowcount == 2
        index_equals_table(con)


WRITES = {
    "DELETE FROM t WHERE id = ?": lambda i: [i],
    "UPDATE t SET s = ?, d = ? WHERE id = ?": lambda i: [5, 0.5, i],
    "UPDATE t SET v = ? WHERE id = ?": lambda i: [[0.5, 1.5, float(i)], i],
    "UPDATE t SET v = ?, label = ? WHERE id = ?": lambda i: [[0.5, 2.5, float(i)], "bee", i],
    "UPDATE t SET s = s + ?, label = label || ? WHERE id = ?": lambda i: [1, "x", i],
    "UPDATE t SET v = [1, 2.5, 4], d = -d / 3 WHERE id = ?": lambda i: [i],
    "UPDATE t SET note = ? WHERE id = ?": lambda i: ["x", i],
}


@pytest.mark.parametrize("explicit", [False, True])
def test_they_take_this_way(path, explicit, monkeypatch):
    def fails(*_):
        raise AssertionError("it was captured by other means")

    with hybridq.connect(path) as con:
        grow(con)
        monkeypatch.setattr(dml, "run_captured", fails)
        monkeypatch.setattr(dml, "_run_plain", fails)
        for place in (1003, 2001, 3001, 9):
            for text, given in reversed(WRITES.items()):
                if explicit and "[1" in text:
                    continue  # in a transaction a vector is not computed before
                if explicit:
                    con.begin()
                assert con.execute(text, given(place)).rowcount == int(place != 9)
                if explicit:
                    con.commit()
                index_equals_table(con)
        for text, given in reversed(WRITES.items()):
            if "[1" in text:
                continue
            assert con.executemany(text, [given(i) for i in range(1101, 1140)]).rowcount == 39
            index_equals_table(con)
    with hybridq.connect(path) as con:
        assert con.notices == []
        index_equals_table(con)


@pytest.mark.parametrize("explicit", [False, True])
@pytest.mark.parametrize("text", WRITES)
def test_no_row_is_no_change(path, text, explicit):
    with hybridq.connect(path) as con, hybridq.connect(path) as other:
        if explicit:
            other.begin()
        states = con.check_open().instance.states()
        before = [(s.version, len(s.published)) for s in states]
        assert con.execute(text, WRITES[text](9)).rowcount == 0
        assert [(s.version, len(s.published)) for s in states] == before
        assert con.execute("SELECT count(*) FROM hybridq.changes_i").fetchall() == [(0,)]
        if explicit:
            assert other.execute(text, WRITES[text](1001)).rowcount == 1
            other.commit()
        index_equals_table(con)


@pytest.mark.parametrize("text", WRITES)
def test_the_first_committer_wins(path, text):
    given = WRITES[text]
    with hybridq.connect(path) as con, hybridq.connect(path) as other:
        other.begin()
        con.execute(text, given(1001))
        with pytest.raises(hybridq.OperationalError, match="serialization failure"):
            other.execute(text, given(1001))
        other.rollback()
        con.begin()
        con.execute(text, given(1002))
        with pytest.raises(hybridq.OperationalError, match="is being written"):
            other.execute(text, given(1003))
        con.rollback()
        other.execute(text, given(1003))
        index_equals_table(con)
        for each in (con, other):
            found = each.execute("SELECT count(*) FROM t").fetchall()
            assert found == [(600 - 2 * text.startswith("DELETE"),)]


def test_a_transaction_sees_its_own(path, plain):
    """Of rows of the segment, of the delta and of its own, with queries between or without."""
    steps = [
        ("UPDATE t SET s = ? WHERE id = ?", [8, 1001]),
        ("UPDATE t SET label = ? WHERE id = ?", ["new", 1001]),
        ("DELETE FROM t WHERE id = ?", [2001]),
        (INSERT, [2001, *ROW[1:]]),
        ("UPDATE t SET v = ? WHERE id = ?", [[1.0, 0.0, 5.0], 2001]),
        ("DELETE FROM t WHERE id = ?", [3001]),
        ("UPDATE t SET s = 1 WHERE id = ?", [3001]),
        (INSERT, [5001, *ROW[1:]]),
        ("UPDATE t SET s = ? WHERE id = ?", [8, 5001]),
        (INSERT, [5002, *ROW[1:]]),
        ("DELETE FROM t WHERE id = ?", [5001]),
        ("UPDATE t SET v = NULL WHERE id = ?", [1002]),
        ("UPDATE t SET v = ? WHERE id = ?", [[3.0, 0.0, 4.0], 1002]),
        ("UPDATE t SET s = 8 WHERE id BETWEEN 1100 AND 1110", None),
        ("UPDATE t SET v = ? WHERE id = ?", [[3.0, 1.0, 4.0], 1101]),
        ("UPDATE t SET note = ? WHERE id = ?", ["y", 1102]),
        ("DELETE FROM t WHERE id = ?", [1010]),
    ]
    query = "SELECT id FROM t WHERE s = 8 AND note <> 'y' ORDER BY v {} [3, 1, 4] LIMIT 1000"
    with hybridq.connect(path) as con, hybridq.connect(path) as other:
        grow(con)
        cosine = "cosine" in str(con.execute("SHOW INDEXES").fetchall())
        text = query.format("<=>" if cosine else "<->")
        for between, last in ((3, "rollback"), (1, "rollback"), (1, "commit")):
            con.begin()
            before = other.execute(text).fetchall()
            for i, (statement, given) in enumerate(steps):
                con.execute(statement, given)
                if i % between == 0:
                    found = con.execute(text).fetchall()
                    rows = con.execute("SELECT id FROM t WHERE s = 8 AND note <> 'y'").fetchall()
                    assert sorted(found) == sorted(rows)
                    assert other.execute(text).fetchall() == before
            getattr(con, last)()
            index_equals_table(other)
        for statement, given in steps:
            plain.execute(statement, given)
        same_rows(other, plain)
    with hybridq.connect(path) as con:
        assert con.notices == []
        same_rows(con, plain)


def test_rows_change_one_by_one_and_are_found_again(path, plain):
    generator = np.random.default_rng(0)
    with hybridq.connect(path) as con:
        grow(con)
        for i in range(400):
            place = int(generator.choice([1000, 2000, 3000]) + generator.integers(20))
            text, given = list(WRITES.items())[generator.integers(len(WRITES))]
            if generator.integers(4) == 0:
                text, given = INSERT, lambda i: [i, *ROW[1:]]
            vector = [[float(x) for x in generator.integers(1, 9, 3)]]
            values = [vector[0] if isinstance(v, list) else v for v in given(place)]
            assert outcome(con, text, values) == outcome(plain, text, values)
            if i % 50 == 7:
                index_equals_table(con)
            if i == 200:
                con.execute("SELECT * FROM hybridq_merge('i')").fetchall()
        same_rows(con, plain)
    with hybridq.connect(path) as con:
        assert con.notices == []
        same_rows(con, plain)


@pytest.mark.parametrize("explicit", [False, True])
def test_what_cannot_be_computed_is_refused(path, explicit):
    statements = [
        "UPDATE t SET s = s * 1000000 WHERE id = 1001",
        "UPDATE t SET u = u - 5000 WHERE id = 1001",
        "UPDATE t SET u = u + 18446744073709550614 WHERE id = 1001",  # that is NULL's
        "UPDATE t SET v = ['1', 'nan', '3'] WHERE id = 1001",
        "UPDATE t SET v = [1, 2] WHERE id = 1001",
        "UPDATE t SET s = label WHERE id = 1001",
        "UPDATE t SET nothing = s WHERE id = 1001",
    ]
    with hybridq.connect(path) as con:
        for text in statements:
            if explicit:
                con.begin()
            assert outcome(con, text, None) is None, text
            con.rollback()
            index_equals_table(con)
        con.execute("UPDATE t SET u = u + 1 WHERE id = ?", [1001])
        assert con.execute("SELECT u FROM t WHERE id = 1001").fetchall() == [(1002,)]
        index_equals_table(con)


def test_what_duckdb_says_of_rows_is_not_remembered(path):
    """Not after an UPDATE of a column that no index has."""
    query = "SELECT id FROM t WHERE note LIKE ? ORDER BY v <-> ? LIMIT 3"
    with hybridq.connect(path) as con, hybridq.connect(path) as other:
        con.execute("DROP INDEX i")  # which has the note
        for i in (1001, 1002):
            con.execute("UPDATE t SET note = ? WHERE id = ?", ["xyz", i])
            for each in (con, other):
                found = each.execute(query, ["%y%", [1.0, 2.0, 3.0]]).fetchall()
                assert len(found) == i - 1000


def test_an_index_that_does_not_know_the_row_is_compared(path, monkeypatch):
    with hybridq.connect(path) as con:
        for explicit in (False, True):
            for i, (text, given) in enumerate(WRITES.items()):
                with monkeypatch.context() as patch:
                    patch.setattr(by_key, "place_of", lambda *_: None)
                    if explicit:
                        con.begin()
                    assert con.execute(text, given(1001 + 20 * i + explicit)).rowcount == 1
                    if explicit:
                        con.commit()
                con.begin()
                con.rollback()
                index_equals_table(con)


def test_an_error_leaves_nothing_and_tells_its_place(path):
    with hybridq.connect(path) as con:
        for explicit in (False, True):
            for text, given in (
                ("UPDATE t SET label = 'x',\n s = $1 WHERE id = $2", [2**40, 1001]),
                ("UPDATE t SET label = 'x',\n nothing = $1 WHERE id = $2", [1, 1001]),
            ):
                if explicit:
                    con.begin()
                with pytest.raises(hybridq.Error) as caught:
                    con.execute(text, given)
                assert caught.value.position in (None, (2, 2), (2, 6))
                con.rollback()
                index_equals_table(con)
        assert con.execute("SELECT count(*) FROM t WHERE label = 'x'").fetchall() == [(0,)]


def test_what_is_made_later_counts(tmp_path):
    """What is known of a statement is forgotten where the schema changes."""
    update, delete = "UPDATE t SET s = ? WHERE id = ?", "DELETE FROM t WHERE id = ?"
    with hybridq.connect(tmp_path / "album.duckdb") as con:
        filled(con)
        con.execute(update, [1, 1000])
        con.execute("CREATE INDEX i ON t USING ann (v)")
        con.execute("CREATE TABLE seen (id BIGINT PRIMARY KEY, v FLOAT[3])")
        con.execute("INSERT INTO seen VALUES (0, [1, 1, 1])")
        con.execute("CREATE INDEX k ON seen USING ann (v)")
        con.execute(update, [1, 1001])
        con.execute(delete, [1002])
        con.execute(
            "CREATE TRIGGER g AFTER DELETE ON t REFERENCING OLD TABLE AS n FOR EACH STATEMENT "
            "INSERT INTO seen SELECT id, v FROM n"
        )
        con.execute(delete, [1003])
        assert con.execute("SELECT id FROM seen ORDER BY id").fetchall() == [(0,), (1003,)]
        index_equals_table(con)
        con.execute("DROP TRIGGER g ON t")
        con.execute(delete, [1004])
        con.execute("CREATE INDEX j ON t USING ann (v) INCLUDE (note)")
        con.execute(update, [2, 1005])
        con.execute("DROP INDEX i")
        con.execute(update, [3, 1005])
        index_equals_table(con)
        con.execute("CREATE TABLE g (id INTEGER PRIMARY KEY, s INTEGER, v FLOAT[2], "
                    "w INTEGER GENERATED ALWAYS AS (s + 1))")  # fmt: skip
        con.execute("INSERT INTO g VALUES (1, 2, [1, 2]), (2, 3, [1, 3])")
        con.execute("CREATE INDEX w ON g USING ann (v)")
        con.execute("UPDATE g SET s = 9 WHERE id = 1")
        con.execute("DELETE FROM g WHERE id = 2")
        index_equals_table(con)
        assert con.execute("SELECT * FROM g").fetchall() == [(1, 9, (1.0, 2.0), 10)]


def test_a_function_that_checks_rows_may_come_back(path):
    with hybridq.connect(path) as con:
        con.execute("CREATE TABLE c (id INTEGER PRIMARY KEY, s INTEGER CHECK (s < 10), v FLOAT[2])")
        con.execute("INSERT INTO c VALUES (1, 2, [1, 2])")
        con.execute("CREATE INDEX w ON c USING ann (v)")
        con.execute("UPDATE c SET s = ? WHERE id = ?", [9, 1])
        with pytest.raises(hybridq.IntegrityError):
            con.execute("UPDATE c SET s = ? WHERE id = ?", [10, 1])
        index_equals_table(con)
        con.execute("DELETE FROM c WHERE id = ?", [1])
        index_equals_table(con)
