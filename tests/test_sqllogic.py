"""The runner itself: what it must notice."""

import sqllogic

SETUP = """\
statement ok
CREATE TABLE t (id INTEGER PRIMARY KEY, v FLOAT[2])

statement ok
INSERT INTO t VALUES (1, [0, 0]), (2, [1, 1]), (3, [2, 2])

"""


def failures(tmp_path, text, line=0):
    path = tmp_path / "x.test"
    path.write_text(SETUP + text)
    script = sqllogic.Script(path, sqllogic.config("default"), tmp_path, line=line)
    try:
        script.run()
    finally:
        script.close()
    return script.failures


def test_wrong_rows_order_types_and_counts(tmp_path):
    query = "query I\nSELECT id FROM t ORDER BY id\n----\n"
    assert failures(tmp_path, query + "1\n2\n3\n") == []
    for rows in ("1\n2\n", "1\n3\n2\n", "1\n2\n3\n4\n"):
        assert len(failures(tmp_path, query + rows)) == 2  # on both engines
    assert failures(tmp_path, "query T\nSELECT id FROM t LIMIT 1\n----\n1\n") == []
    assert failures(tmp_path, "query R\nSELECT id FROM t LIMIT 1\n----\n1\n")
    assert failures(tmp_path, "query II\nSELECT id FROM t LIMIT 1\n----\n1\n")
    assert failures(tmp_path, "statement count 2\nDELETE FROM t\n")


def test_errors_that_do_not_come_or_come_otherwise(tmp_path):
    assert failures(tmp_path, "statement error\nSELECT 1\n")
    assert failures(tmp_path, "statement ok\nSELECT nothing FROM t\n")
    assert failures(tmp_path, "statement error DataError\nSELECT nothing FROM t\n")
    assert failures(tmp_path, "statement error\nSELECT nothing FROM t\n----\nsomething\n")
    assert not failures(tmp_path, "statement error\nSELECT nothing FROM t\n----\nnothing\n")


def test_xfail_is_strict(tmp_path):
    assert failures(tmp_path, "xfail never mind\nquery I\nSELECT 1\n----\n2\n") == []
    assert failures(tmp_path, "xfail never mind\nquery I\nSELECT 1\n----\n1\n")


def test_the_contract(tmp_path):
    """DuckDB computes the truth, so an answer that breaks the contract on purpose is noticed."""

    def approximate(select, where="", tail="", limit=2):
        truth = f"SELECT id, l2_distance(v, [0, 0]) AS d FROM t {where} ORDER BY d"
        query = f"{select} {where} ORDER BY d {tail}" if select else truth
        return f"query IR recall=1.0\n{query} LIMIT {limit}\n"

    assert failures(tmp_path, approximate("")) == []
    assert failures(tmp_path, approximate("", limit=9)) == []
    descending = approximate("SELECT id, l2_distance(v, [0, 0]) AS d FROM t", tail="DESC")
    assert "order" in failures(tmp_path, descending)[0]


def test_selection_by_line(tmp_path):
    wrong = "query I\nSELECT 1\n----\n2\n\n"
    right = "query I\nSELECT 1\n----\n1\n"
    assert failures(tmp_path, wrong + right, line=8)
    assert failures(tmp_path, wrong + right, line=13) == []


def test_completion(tmp_path):
    path = tmp_path / "x.test"
    path.write_text(SETUP + "query I\nSELECT id FROM t ORDER BY id\n\nquery T\nSELECT ''\n")
    script = sqllogic.Script(path, sqllogic.config("default"), tmp_path)
    script.run()
    script.close()
    assert sqllogic.completed(script).endswith(
        "SELECT id FROM t ORDER BY id\n----\n1\n2\n3\n\nquery T\nSELECT ''\n----\n(empty)\n"
    )
