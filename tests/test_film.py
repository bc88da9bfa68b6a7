from contextlib import closing

import av
import numpy as np
import pytest
from PIL import Image, ImageSequence

from worldflow.errors import InputError
from worldflow.film import (
    Mp4Writer,
    film_writer,
    side_by_side,
    upscale,
    write_gif,
    write_mp4,
    write_strip,
    write_webp,
)


def moving_dot(length=12, height=16, width=20):
    """One bright pixel that moves right on a dark, shaded background."""
    frames = np.zeros((length, height, width, 3), np.uint8)
    frames[..., 2] = np.arange(width) * 3
    for t in range(length):
        frames[t, height // 2, t] = (250, 240, 30)
    return frames


def read_mp4(path):
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(stream)])
        return frames, stream.average_rate, stream.codec_context


@pytest.mark.parametrize(("scale", "size"), [(6, (96, 120)), (3, (48, 60))])
def test_mp4_has_every_frame_in_order_at_the_rate_asked_for(tmp_path, scale, size):
    frames = moving_dot()
    write_mp4(tmp_path / "film.mp4", frames, frame_rate=15, scale=scale)
    seen, rate, codec = read_mp4(tmp_path / "film.mp4")
    assert seen.shape == (len(frames), *size, 3)
    assert rate == 15
    assert (codec.name, codec.pix_fmt) == ("h264", "yuv420p")
    centres = seen[:, scale // 2 :: scale, scale // 2 :: scale]
    brightest = centres[:, 8, :, 0].argmax(axis=1)
    assert brightest.tolist() == list(range(len(frames)))


def test_mp4_keeps_the_colour_of_each_pixel_up_to_the_edges_of_its_block(tmp_path):
    chosen = np.random.default_rng(0).integers(0, 2, (1, 16, 16, 3), np.uint8)
    frames = np.repeat(chosen * 180 + 30, 4, axis=0)
    write_mp4(tmp_path / "film.mp4", frames, frame_rate=15, scale=6)
    seen, _, _ = read_mp4(tmp_path / "film.mp4")
    off = np.abs(seen.astype(int) - upscale(frames, 6))
    assert off.mean() < 4
    assert np.percentile(off, 99) < 20


def test_mp4_of_odd_size_is_padded_not_refused(tmp_path):
    frames = np.full((3, 5, 7, 3), 200, np.uint8)
    write_mp4(tmp_path / "film.mp4", frames, frame_rate=10, scale=1)
    seen, _, _ = read_mp4(tmp_path / "film.mp4")
    assert seen.shape == (3, 6, 8, 3)
    assert abs(int(seen.min()) - 200) < 6  # no dark edge


def test_mp4_interrupted_keeps_what_was_filmed(tmp_path):
    path = tmp_path / "film.mp4"

    def film_until_interrupted():
        with closing(film_writer(path, frame_rate=15)) as film:
            for frame in moving_dot()[:5]:
                film.add(frame)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        film_until_interrupted()
    assert len(read_mp4(path)[0]) == 5


def test_a_live_mp4_can_be_read_while_it_is_written(tmp_path):
    path = tmp_path / "film.mp4"
    with closing(Mp4Writer(path, frame_rate=4, live=True)) as film:
        for frame in moving_dot(length=11):
            film.add(frame)
        assert len(read_mp4(path)[0]) >= 7  # the last second may be missing
    seen, rate, _ = read_mp4(path)
    assert (len(seen), rate) == (11, 4)
    assert seen[:, 51, 3::6, 0].argmax(axis=1).tolist() == list(range(11))
    assert b"moof" not in path.read_bytes()  # an ordinary file, which any player seeks in
    assert [found.name for found in tmp_path.iterdir()] == ["film.mp4"]


def test_webp_is_lossless_and_keeps_time(tmp_path):
    frames = np.random.default_rng(0).integers(0, 255, (15, 8, 8, 3), np.uint8)
    write_webp(tmp_path / "film.webp", frames, frame_rate=15, scale=2)
    with Image.open(tmp_path / "film.webp") as film:
        pictures = [page.convert("RGB") for page in ImageSequence.Iterator(film)]
        film.load()
        durations = []
        for page in range(film.n_frames):
            film.seek(page)
            film.load()
            durations.append(film.info["duration"])
    np.testing.assert_array_equal(np.stack(pictures), upscale(frames, 2))
    assert sum(durations) == 1000


def test_no_file_without_a_frame(tmp_path):
    for name in ("film.mp4", "film.gif", "film.webp"):
        with closing(film_writer(tmp_path / name, frame_rate=15)):
            pass
    assert list(tmp_path.iterdir()) == []


def test_unknown_suffix_is_bad_input(tmp_path):
    with pytest.raises(InputError, match=r"\.mp4 or \.gif"):
        film_writer(tmp_path / "film.avi", frame_rate=15)


def test_gif_of_few_colours_is_lossless_and_keeps_time(tmp_path):
    frames = moving_dot(length=15)
    write_gif(tmp_path / "film.gif", frames, frame_rate=15, scale=2)
    with Image.open(tmp_path / "film.gif") as gif:
        pictures = [page.convert("RGB") for page in ImageSequence.Iterator(gif)]
        durations = [page.info["duration"] for page in ImageSequence.Iterator(gif)]
    np.testing.assert_array_equal(np.stack(pictures), upscale(frames, 2))
    assert sum(durations) == 1000  # ms, though 1/15 s is no whole number of ticks


def test_gif_of_many_colours_keeps_the_colour_of_a_ball(tmp_path):
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 90, (6, 32, 32, 3), np.uint8)  # thousands of dark shades
    frames[:, 5, 5] = (255, 40, 200)
    write_gif(tmp_path / "film.gif", frames, frame_rate=10, scale=1)
    with Image.open(tmp_path / "film.gif") as gif:
        ball = np.asarray(gif.convert("RGB"))[5, 5].astype(int)
    assert np.abs(ball - (255, 40, 200)).max() < 30


def test_gif_faster_than_browsers_allow_drops_frames(tmp_path):
    write_gif(tmp_path / "film.gif", moving_dot(length=20), frame_rate=100)
    with Image.open(tmp_path / "film.gif") as gif:
        assert gif.n_frames == 10
        assert gif.info["duration"] == 20


def test_side_by_side_puts_films_in_reading_order():
    films = [np.full((4, 8, 8, 3), shade, np.uint8) for shade in (50, 100, 150)]
    sheet = side_by_side(films, columns=2)
    assert sheet.shape == (4, 18, 18, 3)
    assert sheet[0, 4, 4, 0] == 50
    assert sheet[0, 4, 14, 0] == 100
    assert sheet[0, 14, 4, 0] == 150
    assert sheet[0, 14, 14, 0] < 50  # no fourth film


def test_side_by_side_refuses_films_of_different_lengths():
    with pytest.raises(ValueError, match="one shape"):
        side_by_side([moving_dot(3), moving_dot(4)])


def test_strip_shows_time_to_the_right_and_labels_at_the_left(tmp_path):
    truth = np.stack([np.full((8, 8, 3), 40 * t, np.uint8) for t in range(1, 6)])
    write_strip(tmp_path / "plain.png", [truth, 255 - truth], scale=2)
    write_strip(tmp_path / "labelled.png", [truth, 255 - truth], ["truth", "dream"], scale=2)
    plain = np.asarray(Image.open(tmp_path / "plain.png"))
    labelled = np.asarray(Image.open(tmp_path / "labelled.png"))
    assert plain.shape == (2 * 18, 2 * 48, 3)
    assert plain[8, 8::20, 0].tolist() == [40, 80, 120, 160, 200]
    assert plain[28, 8::20, 0].tolist() == [215, 175, 135, 95, 55]
    margin = labelled.shape[1] - plain.shape[1]
    np.testing.assert_array_equal(labelled[:, margin:], plain)
    assert labelled[:18, :margin].max() > 150  # there is text beside each row
    assert labelled[18:, :margin].max() > 150


def test_strip_refuses_labels_that_do_not_match(tmp_path):
    with pytest.raises(ValueError, match="1 labels for 2 rows"):
        write_strip(tmp_path / "strip.png", [moving_dot(), moving_dot()], ["truth"])
