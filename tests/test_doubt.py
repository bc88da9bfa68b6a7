"""Which steps training comes back to."""

import numpy as np

from worldflow.doubt import Doubts


def test_unseen_steps_are_drawn_as_often_as_those_that_are_known() -> None:
    doubts = Doubts(1000)
    doubts.latest[:10] = [0, 0, 0, 0, 0, 0, 2, 4, 6, 8]
    doubts.renew()
    assert doubts.weights[:10].tolist() == [0, 0, 0, 0, 0, 0, 2, 4, 6, 8]
    np.testing.assert_allclose(doubts.weights[10:], 2)


def test_nothing_is_preferred_before_anything_is_known() -> None:
    doubts = Doubts(5)
    doubts.renew()
    assert not doubts.weights.any()


def test_doubts_above_the_usual_count() -> None:
    doubts = Doubts(5)
    doubts.latest[:] = [1, 1, 1, 3, 11]
    doubts.renew()
    assert doubts.weights.tolist() == [0, 0, 0, 2, 10]
