"""Figures that compare frames and events with the recording."""

import numpy as np
import pytest

from worldflow.metrics import event_scores, psnr, reward_scores, ssim, termination_scores


def pictures(count=4, size=24, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def test_psnr_is_that_of_the_signed_range():
    truth = np.full((2, 8, 8, 3), 100, np.uint8)
    off_by_ten = truth + np.uint8(10)
    expected = 10 * np.log10(4 / (10 / 127.5) ** 2)
    np.testing.assert_allclose(psnr(off_by_ten, truth), [expected, expected])
    # The usual figure, with 255 as the peak, is the same number.
    np.testing.assert_allclose(expected, 20 * np.log10(255 / 10))


def test_psnr_of_a_perfect_frame_is_capped():
    assert psnr(pictures(), pictures()) == pytest.approx(np.full(4, 10 * np.log10(4e6)))


def test_psnr_does_not_wrap_around_and_broadcasts():
    samples = np.zeros((2, 3, 4, 4, 3), np.uint8)  # (clips, samples, H, W, 3)
    truth = np.full((2, 1, 4, 4, 3), 255, np.uint8)
    np.testing.assert_allclose(psnr(samples, truth), np.zeros((2, 3)))


def ssim_by_definition(x, y):
    """Wang et al. 2004, window by window in float64."""
    offsets = np.arange(11) - 5
    kernel = np.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * 1.5**2))
    kernel /= kernel.sum()
    values = []
    for channel in range(3):
        a, b = x[..., channel].astype(float), y[..., channel].astype(float)
        for i in range(a.shape[0] - 10):
            for j in range(a.shape[1] - 10):
                p, q = a[i : i + 11, j : j + 11], b[i : i + 11, j : j + 11]
                mean_p, mean_q = (kernel * p).sum(), (kernel * q).sum()
                var_p = (kernel * (p - mean_p) ** 2).sum()
                var_q = (kernel * (q - mean_q) ** 2).sum()
                both = (kernel * (p - mean_p) * (q - mean_q)).sum()
                c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
                values.append(
                    (2 * mean_p * mean_q + c1)
                    * (2 * both + c2)
                    / ((mean_p**2 + mean_q**2 + c1) * (var_p + var_q + c2))
                )
    return np.mean(values)


def test_ssim_is_the_published_one():
    frames, truth = pictures(seed=1)[:, :13, :16], pictures(seed=2)[:, :13, :16]
    truth[1] = frames[1] // 2 + 64  # alike in structure
    truth[2], frames[2] = 255, 250  # flat and bright: float32 would lose their tiny variance
    expected = [ssim_by_definition(x, y) for x, y in zip(frames, truth, strict=True)]
    np.testing.assert_allclose(ssim(frames, truth), expected, atol=1e-9)


def test_ssim_of_equal_frames_is_one_and_tiny_frames_are_refused():
    np.testing.assert_allclose(ssim(pictures(), pictures()), 1.0, atol=1e-6)
    with pytest.raises(ValueError, match="10x24"):
        ssim(pictures()[:, :10], pictures()[:, :10])


def test_scores_without_events_are_undefined_not_zero():
    assert event_scores(0, 0, 0) == (None, None, None)
    assert event_scores(0, 0, 5) == (None, 0.0, 0.0)
    assert event_scores(0, 5, 0) == (0.0, None, 0.0)


def test_termination_is_called_from_one_half_on():
    p = np.array([0.5, 0.9, 0.49, 0.8], np.float32)
    truth = np.array([True, False, True, True])
    scores = termination_scores(p, truth)
    assert scores.precision == pytest.approx(2 / 3)
    assert scores.recall == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("told", "true", "precision", "recall"),
    [
        ([0.8, 0.2, 0.0], [1, 0, 0], 1.0, 1.0),  # half a unit of slack
        ([0.4, 0.0, 0.0], [1, 0, 0], None, 0.0),  # not told
        ([1.0, 0.7, 0.0], [1, 0, 0], 0.5, 1.0),  # a false alarm
        ([-1.0, 0.0, 0.0], [1, 0, 0], 0.0, 0.0),  # the wrong sign
        ([1.0, 4.0, 0.0], [1, 7, 0], 0.5, 0.5),  # the wrong value: false alarm and miss
        ([1.0, 170.0, 0.0], [1, 200, 0], 1.0, 1.0),  # a large one may miss by a quarter
        ([0.1, 0.02, 0.0], [0.1, 0, 0], 1.0, 1.0),  # small rewards are events, too
    ],
)
def test_rewards(told, true, precision, recall):
    scores = reward_scores(np.array(told, np.float32), np.array(true, np.float32))
    assert (scores.precision, scores.recall) == (precision, recall)
