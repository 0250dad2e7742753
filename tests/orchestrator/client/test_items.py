"""Texts that several services share."""

import pytest

from voxroute_orchestrator.client.items import ItemPool, TranslateItem


@pytest.mark.parametrize(("others_may_come", "n_taken"), [(True, 32), (False, 40)])
async def test_one_who_is_alone_leaves_texts_to_those_who_may_come(
    *, others_may_come: bool, n_taken: int
) -> None:
    """And takes all where nobody may."""
    pool = ItemPool(others_may_come=others_may_come)
    for number in range(40):
        pool.put(TranslateItem(number, "text", ()))
    with pool.holder() as held:
        while await pool.take(held, 0.05) is not None:
            pass
        assert len(held) == n_taken
