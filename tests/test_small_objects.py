"""Small objects in rollouts: found, missed, made up, faded."""

import numpy as np
import pytest

from worldflow.small_objects import ObjectTally, SmallObject, connected, count_objects, find_blobs

DOT = SmallObject(lambda frames: frames[..., 0].astype(np.float32) / 255, mass=4.0)


def picture(*balls):
    """Black, with 2x2 balls at (row, column, level)."""
    frame = np.zeros((24, 24, 3), np.uint8)
    for row, column, level in balls:
        frame[row : row + 2, column : column + 2] = level
    return frame


def tally_of(drawn, truth, ahead=1, horizon=64):
    tally = ObjectTally(DOT, horizon)
    tally.see(np.array([0]), ahead, np.stack([drawn])[None], truth[None])
    return tally


def test_pieces_touch_by_corners_too():
    mask = np.zeros((5, 5), bool)
    mask[0, 0] = mask[1, 1] = mask[4, 4] = True
    assert connected(mask) == [[(0, 0), (1, 1)], [(4, 4)]]


def test_a_blob_has_its_centroid_and_mass():
    strength = np.zeros((8, 8), np.float32)
    strength[3, 4:6] = 0.75, 0.25
    strength[6, 6] = 0.1  # too faint to be anything
    (blob,) = find_blobs(strength)
    assert blob == pytest.approx((3.0, 4.25, 1.0))


@pytest.mark.parametrize(
    ("drawn", "recall", "precision", "brightness"),
    [
        ([(8, 8, 255)], 1.0, 1.0, 1.0),
        ([(9, 9, 255)], 1.0, 1.0, 1.0),  # 1.4 pixels off
        ([(10, 9, 255)], 0.0, 0.0, None),  # 2.2 pixels off: presence alone is no recall
        ([], 0.0, None, None),
        ([(8, 8, 255), (16, 16, 255)], 1.0, 0.5, 1.0),  # doubled
        ([(8, 8, 153)], 1.0, 1.0, 0.6),  # faded
    ],
)
def test_what_becomes_of_one_ball(drawn, recall, precision, brightness):
    figures = tally_of(picture(*drawn), picture((8, 8, 255))).figures()
    told = [figures[f"object_{name}_1_8"] for name in ("recall", "precision", "brightness")]
    assert told == [recall, precision, pytest.approx(brightness)]


def test_a_glimpse_need_not_be_met_but_does_meet():
    sliver = picture()
    sliver[8, 8] = 200  # less than a quarter of a ball
    missed = tally_of(picture(), sliver)
    assert missed.true.sum() == 0
    met = tally_of(picture((8, 8, 255)), sliver).figures()
    assert met["object_precision_1_8"] == 1.0


def test_spans_are_kept_apart_and_need_their_whole_horizon():
    tally = tally_of(picture(), picture((8, 8, 255)), ahead=9, horizon=32)
    figures = tally.figures()
    assert figures["object_recall_9_32"] == 0.0
    assert figures["object_recall_1_8"] is None
    assert tally_of(picture(), picture((8, 8, 255)), 9, horizon=20).figures() == dict.fromkeys(
        figures
    )


def test_samples_and_clips_all_count():
    tally = ObjectTally(DOT, 8)
    ball, none = picture((8, 8, 255)), picture()
    drawn = np.stack([np.stack([ball, none]), np.stack([ball, ball])])  # (clips, samples, ...)
    tally.see(np.array([0, 1]), 1, drawn, np.stack([ball, ball]))
    figures = tally.figures()
    assert figures["object_recall_1_8"] == 0.75
    assert figures["object_precision_1_8"] == 1.0


def test_objects_are_counted_frame_by_frame():
    frames = np.stack([picture(), picture((2, 2, 255)), picture((2, 2, 255), (9, 9, 255))])
    assert count_objects(DOT, frames).tolist() == [0, 1, 2]
