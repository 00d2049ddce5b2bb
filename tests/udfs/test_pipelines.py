"""Pipelines of one's own: definitions, what they refuse, what is kept, typed results."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import hybridq
from hybridq.errors import DataError, OperationalError, ProgrammingError
from udfs.open_analytic import definition as definitions
from udfs.open_analytic.pipelines import Pipelines

CREATE = "SELECT open_analytic.pipeline_create('p', ?)"
RUN = "SELECT open_analytic.pipeline_run('p', ?)"
TWO = [
    {"operator": "embed", "model": "efficientnet_lite0", "as": "average"},
    {"operator": "embed", "model": "efficientnet_lite0", "pooling": "max", "as": "largest"},
]


@pytest.fixture
def analytic() -> Iterator[hybridq.Connection]:
    con = hybridq.connect(":memory:")
    con.execute("CREATE EXTENSION open_analytic")
    yield con
    con.close()


def one(con: hybridq.Connection, sql: str, *parameters: Any) -> Any:
    return con.execute(sql, list(parameters) or None).fetchall()[0][0]


def test_several_stages_share_a_picture(analytic: hybridq.Connection, photos: list[bytes]) -> None:
    one(analytic, CREATE, json.dumps(TWO))
    found = json.loads(one(analytic, RUN, photos[0]))
    assert list(found) == ["average", "largest"]
    for key, pooling in (("average", "avg"), ("largest", "max")):
        call = "SELECT extract_feature(?, 'efficientnet_lite0', pooling => ?)"
        alone = np.array(one(analytic, call, photos[0], pooling), np.float32)
        assert np.array_equal(np.array(found[key], np.float32), alone)


def test_output_names_what_to_show(analytic: hybridq.Connection, photos: list[bytes]) -> None:
    one(analytic, CREATE, json.dumps({"stages": TWO, "output": ["largest"]}))
    assert list(json.loads(one(analytic, RUN, photos[0]))) == ["largest"]
    assert len(one(analytic, "SELECT open_analytic.pipeline_feature('p', ?)", photos[0])) == 1280


def test_both_ways_to_run_agree(analytic: hybridq.Connection, photos: list[bytes]) -> None:
    one(analytic, CREATE, '["embed"]')
    spread = one(analytic, "SELECT open_analytic.pipeline_run_dist_random('p', ?)", photos[0])
    assert one(analytic, RUN, photos[0]) == spread


def test_input_by_path_url_and_bytes(analytic: hybridq.Connection, album: Path) -> None:
    one(analytic, CREATE, '["decode", "embed"]')
    path = sorted((album / "photos").iterdir())[3]
    texts = {one(analytic, RUN, given) for given in (str(path), path.as_uri(), path.read_bytes())}
    assert len(texts) == 1


def test_listing(analytic: hybridq.Connection) -> None:
    one(analytic, CREATE, json.dumps(TWO))
    one(analytic, "SELECT open_analytic.pipeline_create('general_feature_extractor')")
    rows = analytic.execute(
        "SELECT name, output FROM open_analytic.current_pipelines ORDER BY name"
    ).fetchall()
    assert rows == [("general_feature_extractor", "feature"), ("p", "average, largest")]
    stages = one(
        analytic,
        "SELECT stages->>'$[1].model' FROM open_analytic.current_pipelines WHERE name = 'p'",
    )
    assert stages == "efficientnet_lite0"
    operators = dict(
        analytic.execute("SELECT name, output FROM open_analytic.operators").fetchall()
    )
    assert operators["embed"] == "vector"
    assert operators["decode"] == "image"
    licences = analytic.execute(
        "SELECT name FROM open_analytic.operators WHERE model IS NOT NULL AND licence IS NULL"
    ).fetchall()
    assert licences == []


def test_drop(analytic: hybridq.Connection, photos: list[bytes]) -> None:
    one(analytic, CREATE, '["embed"]')
    assert one(analytic, "SELECT open_analytic.pipeline_drop('p')") is True
    assert one(analytic, "SELECT open_analytic.pipeline_drop('p')") is False
    with pytest.raises(ProgrammingError, match="was not created"):
        one(analytic, RUN, photos[0])
    one(analytic, CREATE, json.dumps(TWO))
    assert list(json.loads(one(analytic, RUN, photos[0]))) == ["average", "largest"]


def test_another_definition_needs_a_drop(analytic: hybridq.Connection) -> None:
    one(analytic, CREATE, '["decode", "embed"]')
    one(analytic, CREATE, '["decode", "embed"]')
    one(analytic, CREATE, '["embed"]')  # means the same
    with pytest.raises(ProgrammingError, match="another definition") as caught:
        one(analytic, CREATE, json.dumps(TWO))
    assert "pipeline_drop" in str(caught.value.hint)


def test_kept_in_the_database(tmp_path: Path, photos: list[bytes]) -> None:
    path = tmp_path / "a.duckdb"
    with hybridq.connect(path) as con:
        con.execute("CREATE EXTENSION open_analytic")
        one(con, CREATE, json.dumps({"stages": TWO, "output": ["average"]}))
        one(con, "SELECT open_analytic.pipeline_create('gone', '[\"embed\"]')")
        one(con, "SELECT open_analytic.pipeline_drop('gone')")
        before = one(con, RUN, photos[0])
    with hybridq.connect(path, read_only=True) as con:
        assert one(con, RUN, photos[0]) == before
        names = con.execute("SELECT name FROM open_analytic.current_pipelines").fetchall()
        assert names == [("p",)]
        with pytest.raises(OperationalError, match="read-only"):
            one(con, "SELECT open_analytic.pipeline_create('q', '[\"embed\"]')")


def test_created_inside_a_transaction(tmp_path: Path, photos: list[bytes]) -> None:
    path = tmp_path / "a.duckdb"
    with hybridq.connect(path) as con:
        con.execute("CREATE EXTENSION open_analytic")
        con.execute("BEGIN")
        con.execute("CREATE TABLE t (a INTEGER)")
        one(con, CREATE, '["embed"]')
        expected = one(con, RUN, photos[0])
        con.execute("COMMIT")
    with hybridq.connect(path) as con:
        assert one(con, RUN, photos[0]) == expected


@pytest.mark.parametrize(
    ("definition", "message"),
    [
        ("nothing", "is no JSON"),
        ("[]", "a list of stages"),
        ('"embed"', "a list of stages"),
        ('{"stage": ["embed"]}', '"stage" is unknown'),
        ('{"output": ["embed"]}', '"stages" is missing'),
        ("[7]", "stage 1 names no operator"),
        ('["clip"]', 'stage 1: operator "clip" does not exist'),
        ('["read_text", "embed"]', 'stage 2: "embed" takes an image, .* give: text'),
        ('["decode", "embed", "decode"]', 'both named "decode"'),
        ('["embed", "embed"]', 'both named "feature"'),
        ('[{"operator": "embed", "input": "x"}]', 'input "x" is no stage'),
        ('[{"operator": "embed", "as": "e", "input": "e"}]', "itself: .* cycle"),
        (
            '["decode", {"operator": "embed", "as": "a", "input": "b"},'
            ' {"operator": "embed", "as": "b", "input": "a"}]',
            "comes later: .* cycle",
        ),
        (
            '["decode", "embed", {"operator": "embed", "as": "b", "input": "feature"}]',
            'stage 3: "embed" takes an image, its input "feature" gives a vector',
        ),
        ('[{"operator": "embed", "color": 1}]', 'no parameter "color"'),
        ('[{"operator": "embed", "model": 3}]', 'parameter "model" .* cannot be 3'),
        ('[{"operator": "embed", "model": "clip"}]', 'model "clip" does not exist'),
        ('[{"operator": "embed", "precision": "int8"}]', 'parameter "precision"'),
        ('{"stages": ["embed"], "output": ["labels"]}', '"output" cannot be'),
        ('["decode"]', "gives nothing"),
        (json.dumps(["embed"] * 33), "at most 32 stages"),
    ],
)
def test_definitions_that_are_refused(
    analytic: hybridq.Connection, definition: str, message: str
) -> None:
    with pytest.raises(ProgrammingError, match=message):
        one(analytic, CREATE, definition)
    assert analytic.execute("FROM open_analytic.current_pipelines").fetchall() == []


def test_unknown_operators_list_the_known_ones(analytic: hybridq.Connection) -> None:
    with pytest.raises(ProgrammingError) as caught:
        one(analytic, CREATE, '["clip"]')
    hint = str(caught.value.hint)
    assert hint.startswith("operators: ")
    assert {"decode", "embed", "detect_faces"} <= set(hint.removeprefix("operators: ").split(", "))


def test_a_batch_goes_on_after_a_bad_row(analytic: hybridq.Connection, photos: list[bytes]) -> None:
    one(analytic, CREATE, '["embed"]')
    analytic.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, image BLOB)")
    images = [*photos[:9], b"no picture", None, photos[9][:200], *photos[10:12]]
    analytic.executemany("INSERT INTO t VALUES (?, ?)", list(enumerate(images)))
    query = "SELECT id, open_analytic.pipeline_run('p', image) IS NULL FROM t ORDER BY id"
    with pytest.raises(DataError, match=r"image 10 of this batch \(10 bytes"):
        analytic.execute(query).fetchall()
    analytic.execute("SET on_bad_input = 'null'")
    missing = [number for number, null in analytic.execute(query).fetchall() if null]
    assert missing == [9, 10, 11]


def test_a_bad_file_is_named(
    analytic: hybridq.Connection, photos: list[bytes], tmp_path: Path
) -> None:
    one(analytic, CREATE, '["embed"]')
    (tmp_path / "good.png").write_bytes(photos[0])
    (tmp_path / "bad.png").write_bytes(photos[0][:100])
    query = f"SELECT open_analytic.pipeline_run('p', content) FROM read_blob('{tmp_path}/*.png')"
    with pytest.raises(DataError, match=r"bad\.png"):
        analytic.execute(query).fetchall()


_NAMES = st.sampled_from(
    ["decode", "embed", "read_text", "embed_text", "detect_faces", "embed_face", "classify", "x"]
)
_STAGE = st.one_of(
    _NAMES,
    st.fixed_dictionaries(
        {"operator": _NAMES},
        optional={
            "as": st.sampled_from("ab"),
            "input": st.sampled_from(["a", "b", "decode", "feature", "faces"]),
            "min_score": st.sampled_from([0.5, 2, "much"]),
        },
    ),
    st.sampled_from([None, 3, {}, []]),
)


@settings(
    max_examples=300,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(_STAGE, max_size=5))
def test_any_definition_is_taken_or_refused_clearly(context: Any, stages: list[Any]) -> None:
    operators = Pipelines(context).catalog.operators()
    try:
        made = definitions.checked(stages, operators)
    except ProgrammingError:
        return
    # What is taken means the same when it is read back, and flows from earlier to later stages.
    again = definitions.checked(json.loads(json.dumps(made.to_json())), operators)
    assert again.to_json() == made.to_json()
    for place, stage in enumerate(made.stages):
        assert stage.source is None or stage.source < place


@pytest.mark.parametrize("autocommit", [True, False])
def test_connections_that_are_open_already_see_the_extension(
    tmp_path: Path, autocommit: bool
) -> None:
    one_con = hybridq.connect(tmp_path / "a.duckdb")
    other = hybridq.connect(tmp_path / "a.duckdb", autocommit=autocommit)
    other.execute("SELECT 1").fetchall()
    other.commit()
    one_con.execute("CREATE EXTENSION open_analytic")
    with pytest.raises(DataError, match="cannot be used"):
        other.execute("SELECT recognize(?, 'classify')", [b"no picture"]).fetchall()
    other.rollback()
    with pytest.raises(DataError, match="cannot be used"):
        other.execute("SELECT * FROM recognize(?, 'classify')", [b"no picture"]).fetchall()
    other.rollback()
    one_con.close()
    other.close()
