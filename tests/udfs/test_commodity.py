"""What the commodity recognizers say of an item goes together."""

from __future__ import annotations

import numpy as np
import pytest

from udfs.open_analytic import commodity


@pytest.mark.parametrize("within", [None, *commodity.WITHIN])
def test_category_and_article_type_go_together(within: str | None) -> None:
    known = commodity.shipped()
    names = [known.heads[name].classes for name in commodity.SHAPES]
    together = {
        tuple(classes[at] for classes, at in zip(names, row, strict=True))
        for row in known.combinations
    }
    assert ("Footwear", "Shoes", "Sports Shoes") in together
    assert ("Footwear", "Shoes", "Tshirts") not in together
    dim = known.heads["category"].weight.shape[1]
    for vector in np.random.default_rng(1).standard_normal((200, dim)).astype(np.float32):
        found = commodity.described(known, vector / 20, within)
        assert tuple(found[name] for name in commodity.SHAPES) in together
        if within is not None:
            for name in commodity.SHAPES:
                at = known.heads[name].classes.index(found[name])
                assert known.within[within][name][at], (name, found[name])


def test_the_combination_is_the_most_probable_one() -> None:
    combinations = np.array([[0, 0, 0], [0, 1, 1], [1, 2, 2]])
    odds = [np.array(row, np.float32) for row in ([0.4, 0.6], [0.1, 0.8, 0.1], [0.1, 0.6, 0.3])]
    found = commodity.together(combinations, odds)
    assert found == {"category": 0, "sub_category": 1, "article_type": 1}
