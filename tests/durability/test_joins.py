"""A search through a join reads both tables as of one commit, whatever is written meanwhile."""

import threading

import numpy as np
import pytest

import hybridq

JOIN = (
    "SELECT i.id FROM items i JOIN side s ON i.label = s.id WHERE s.kind = 'on' "
    "ORDER BY i.v <-> ? LIMIT 5"
)
IN = (
    "SELECT id FROM items WHERE label IN (SELECT id FROM side WHERE kind = 'on') "
    "ORDER BY v <-> ? LIMIT 5"
)


@pytest.mark.parametrize("text", [JOIN, IN])
def test_both_tables_are_of_one_commit(tmp_path, text):
    path = tmp_path / "joined.duckdb"
    vector = np.zeros(2, np.float32)
    with hybridq.connect(path) as con:
        con.execute("CREATE TABLE items (id INTEGER PRIMARY KEY, label INTEGER, v FLOAT[2])")
        con.executemany(
            "INSERT INTO items VALUES (?, ?, ?)",
            [(i, 100, np.array([i, 0], np.float32)) for i in range(500)],
        )
        con.execute("UPDATE items SET label = 0 WHERE id = 7")
        con.execute("CREATE INDEX i ON items USING ann (v)")
        con.execute("CREATE TABLE side (id INTEGER PRIMARY KEY, kind VARCHAR)")
        con.execute("INSERT INTO side VALUES (0, 'on'), (1, 'off')")
    stop = threading.Event()
    failed: list[hybridq.Error] = []

    def write() -> None:
        """The one item that passes moves to another label, which is switched on with it."""
        try:
            with hybridq.connect(path) as con:
                turn = 0
                while not stop.is_set():
                    turn = 1 - turn
                    con.execute("BEGIN")
                    con.execute("UPDATE items SET label = ? WHERE id = 7", [turn])
                    con.execute(
                        "UPDATE side SET kind = CASE WHEN id = ? THEN 'on' ELSE 'off' END", [turn]
                    )
                    con.execute("COMMIT")
        except hybridq.Error as error:
            failed.append(error)

    with hybridq.connect(path) as con:
        writer = threading.Thread(target=write)
        writer.start()
        try:
            found = [con.execute(text, [vector]).fetchall() for _ in range(150)]
        finally:
            stop.set()
            writer.join()
        assert failed == []
        assert found == [[(7,)]] * 150
        assert "index i" in con.execute(f"EXPLAIN {text}", [vector]).fetchall()[0][1]
