"""Films and picture strips from uint8 frames: mp4 (PyAV), GIF, WebP and PNG (Pillow).

Used by the player, training and evaluation. PyAV and Pillow are imported when first needed:
training must import without them. The writers replace a file of the same name.
"""

import os
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from worldflow.errors import InputError

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.video.reformatter import VideoReformatter
    from av.video.stream import VideoStream

Frames = NDArray[np.uint8]
"""RGB pictures, `(T, H, W, 3)`."""

FILM_SUFFIXES = (".mp4", ".gif", ".webp")
# Every second of a live film reaches the file as it ends, and no frame waits in the encoder.
LIVE_CONTAINER = {
    "movflags": "frag_keyframe+empty_moov+default_base_moof",
    "flush_packets": "1",
}
# Half the time of "veryfast" for files twice as large, less than a kilobyte a frame.
LIVE_ENCODER: dict[str, object] = {"crf": "18", "preset": "ultrafast", "tune": "zerolatency"}
ENCODER: dict[str, object] = {"crf": "18"}
JOINED_CONTAINER = {"movflags": "+faststart"}
GIF_MAX_RATE = 50  # browsers slow a delay below 20 ms down to 100 ms
GIF_COLOURS = 256
GAP = 2  # pixels between the cells of a strip, before scaling
BACKGROUND = (24, 24, 28)
TEXT = (230, 230, 230)
LABEL_SIZE = 14


def upscale(frames: NDArray[np.uint8], scale: int) -> NDArray[np.uint8]:
    """Each pixel of `(..., H, W, 3)` as a block of `scale` x `scale` equal ones."""
    return frames.repeat(scale, axis=-3).repeat(scale, axis=-2)


def side_by_side(films: Sequence[Frames], columns: int | None = None) -> Frames:
    """One film that shows several at once, row by row, `columns` in a row (default: all).

    `side_by_side([truth, dream])` is `(T, H, 2W + 2, 3)`. An unfilled last row stays dark.

    Raises:
        ValueError: no films, or films of different shapes.
    """
    if not films or any(film.shape != films[0].shape for film in films):
        raise ValueError(f"films of one shape wanted, got {[film.shape for film in films]}")
    columns = columns or len(films)
    rows = -(-len(films) // columns)
    length, height, width, _ = films[0].shape
    shape = (length, rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, 3)
    sheet = np.full(shape, BACKGROUND, np.uint8)
    for index, film in enumerate(films):
        row, column = divmod(index, columns)
        top, left = row * (height + GAP), column * (width + GAP)
        sheet[:, top : top + height, left : left + width] = film
    return sheet


class FilmWriter(Protocol):
    """Takes frames one by one; `close` makes the file whole, however many there were."""

    def add(self, frame: NDArray[np.uint8]) -> None: ...
    def close(self) -> None: ...


class Mp4Writer:
    """H.264 in yuv420p, which every browser and phone plays; nearest-neighbour upscaled.

    Frames are encoded as they come, so a film of any length needs little memory. No file is
    made before the first frame.

    Args:
        frame_rate: frames per second of the film.
        scale: pixels of the film for each pixel of a frame. Even values keep edges clean, for
            yuv420p stores one colour for each 2x2 block.
        live: a process that is killed loses the last second at most. The file is written in
            fragments of a second each, and made an ordinary one by `close`.
    """

    def __init__(self, path: Path, frame_rate: int, scale: int = 6, *, live: bool = False) -> None:
        self._path, self._frame_rate, self._scale, self._live = path, frame_rate, scale, live
        self._encoder: _Encoder | None = None

    def add(self, frame: NDArray[np.uint8]) -> None:
        """Append one frame `(H, W, 3)`; all must have one size."""
        import av

        # yuv420p wants even sides
        height, width = (side * self._scale + side * self._scale % 2 for side in frame.shape[:2])
        if self._encoder is None:
            self._encoder = self._open(height, width)
        container, stream, reformatter = self._encoder
        # Scaled and turned to YUV at once: a tenth of the time of doing so one after the other,
        # and each block keeps the colour of its pixel.
        picture = reformatter.reformat(
            av.VideoFrame.from_ndarray(frame, format="rgb24"),
            width,
            height,
            "yuv420p",
            interpolation="POINT",
        )
        container.mux(stream.encode(picture))

    def close(self) -> None:
        """Write what the encoder still holds, and the index."""
        # Who keeps a closed writer keeps no encoder, which takes megabytes.
        encoder, self._encoder = self._encoder, None
        if encoder is None:
            return
        try:
            encoder.container.mux(encoder.stream.encode())
        finally:
            encoder.container.close()
        if self._live:
            _join_fragments(self._path)

    def _open(self, height: int, width: int) -> "_Encoder":
        import av
        from av.video.reformatter import VideoReformatter

        options = LIVE_CONTAINER if self._live else JOINED_CONTAINER
        container = av.open(str(self._path), "w", options=options)
        stream = container.add_stream("libx264", rate=self._frame_rate)
        stream.height, stream.width = height, width
        stream.pix_fmt = "yuv420p"
        stream.options = LIVE_ENCODER if self._live else ENCODER
        if self._live:
            stream.gop_size = self._frame_rate  # a key frame begins a fragment
        # For pictures this small, threads cost more than they give.
        stream.codec_context.thread_count = 1
        return _Encoder(container, stream, VideoReformatter())


class _Encoder(NamedTuple):
    """What an mp4 holds while it is written."""

    container: "OutputContainer"
    stream: "VideoStream"
    reformatter: "VideoReformatter"  # kept: a frame's own would be set up anew for each


def _join_fragments(path: Path) -> None:
    """Make a fragmented mp4 one with an index at its head, without encoding it anew."""
    import av

    whole = path.with_suffix(".part.mp4")
    try:
        with (
            av.open(str(path)) as source,
            av.open(str(whole), "w", options=JOINED_CONTAINER) as target,
        ):
            stream = source.streams.video[0]
            copied = target.add_stream_from_template(stream)
            for packet in source.demux(stream):
                if packet.dts is not None:  # the last one is empty
                    packet.stream = copied
                    target.mux(packet)
        os.replace(whole, path)
    finally:
        whole.unlink(missing_ok=True)  # a full disk: the fragments are a film, too


class GatheredWriter:
    """Gathers frames in memory and writes a GIF or WebP on `close`: its palette needs them all."""

    def __init__(self, path: Path, frame_rate: int, scale: int = 6) -> None:
        self._path, self._frame_rate, self._scale = path, frame_rate, scale
        self._frames: list[NDArray[np.uint8]] = []

    def add(self, frame: NDArray[np.uint8]) -> None:
        """Append one frame `(H, W, 3)`; all must have one size."""
        self._frames.append(frame.copy())

    def close(self) -> None:
        """Write the film, if there are any frames."""
        frames, self._frames = self._frames, []
        if frames:
            write = write_gif if self._path.suffix.lower() == ".gif" else write_webp
            write(self._path, np.stack(frames), self._frame_rate, self._scale)


def film_writer(path: Path, frame_rate: int, scale: int = 6) -> FilmWriter:
    """The writer for a path's suffix, one of FILM_SUFFIXES.

    Raises:
        InputError: another suffix.
    """
    if path.suffix.lower() == ".mp4":
        return Mp4Writer(path, frame_rate, scale)
    if path.suffix.lower() in FILM_SUFFIXES:
        return GatheredWriter(path, frame_rate, scale)
    raise InputError(f"'{path}' is no film: its name must end in {' or '.join(FILM_SUFFIXES)}")


def write_mp4(path: Path, frames: Frames, frame_rate: int, scale: int = 6) -> None:
    """Write `(T, H, W, 3)` as a film of T frames; see `Mp4Writer`."""
    with closing(Mp4Writer(path, frame_rate, scale)) as film:
        for frame in frames:
            film.add(frame)


def write_gif(path: Path, frames: Frames, frame_rate: int, scale: int = 3) -> None:
    """Write `(T, H, W, 3)` as a GIF that loops, all frames with one palette.

    Above 50 frames a second, frames are left out so that it plays at the right speed.
    """
    from PIL import Image

    stride = -(-frame_rate // GIF_MAX_RATE)
    # A GIF's clock ticks in 10 ms: round the times, not the delays, so that errors do not add up.
    times = np.round(np.arange(len(frames[::stride]) + 1) * stride * 100 / frame_rate).astype(int)
    indices, palette = _shared_palette(frames[::stride])
    pictures = []
    for picture in upscale(indices[..., None], scale)[..., 0]:
        pictures.append(Image.fromarray(picture))
        pictures[-1].putpalette(palette)
    delays = [int(delay) * 10 for delay in np.diff(times)]
    pictures[0].save(
        path, save_all=True, append_images=pictures[1:], duration=delays, loop=0, optimize=False
    )


def write_webp(path: Path, frames: Frames, frame_rate: int, scale: int = 3) -> None:
    """Write `(T, H, W, 3)` as a lossless WebP that loops: any colours, and smaller than a GIF."""
    from PIL import Image

    times = np.round(np.arange(len(frames) + 1) * 1000 / frame_rate).astype(int)  # ms
    first, *rest = (Image.fromarray(picture) for picture in upscale(frames, scale))
    delays = np.diff(times).tolist()
    # The least effort: more gains a few percent and takes ten times as long.
    first.save(
        path, save_all=True, append_images=rest, duration=delays, loop=0, lossless=True, quality=0,
        method=0,
    )  # fmt: skip


def _shared_palette(frames: Frames) -> tuple[NDArray[np.uint8], bytes]:
    """Frames as palette indices `(T, H, W)`, and the palette; exact up to 256 colours.

    Every distinct colour weighs the logarithm of its count: by plain counts, the few pixels
    of a ball would lose their colour to shades of the background.
    """
    from PIL import Image

    codes = frames.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], np.int32)
    distinct, inverse, counts = np.unique(codes, return_inverse=True, return_counts=True)
    colours = np.stack([distinct >> 16, distinct >> 8 & 255, distinct & 255], -1).astype(np.uint8)
    if len(colours) <= GIF_COLOURS:
        index_of_colour, palette = np.arange(len(colours), dtype=np.uint8), colours.tobytes()
    else:
        weights = 1 + np.log2(counts).astype(int)
        sample = Image.fromarray(colours.repeat(weights, axis=0)[None])
        chosen = sample.quantize(GIF_COLOURS, method=Image.Quantize.MEDIANCUT)
        mapped = Image.fromarray(colours[None]).quantize(palette=chosen, dither=Image.Dither.NONE)
        index_of_colour, palette = np.asarray(mapped)[0], bytes(chosen.getpalette() or [])
    return index_of_colour[inverse].reshape(codes.shape), palette


def write_strip(
    path: Path, rows: Sequence[Frames], labels: Sequence[str] = (), scale: int = 2
) -> None:
    """Write a PNG: each film of `rows` `(T, H, W, 3)` is one row of pictures, time to the right.

    Args:
        labels: a text at the left of each row; none, or one for each row.
        scale: pixels of the strip for each pixel of a frame.

    Raises:
        ValueError: films of different shapes, or labels that do not match the rows.
    """
    from PIL import Image, ImageDraw, ImageFont

    if labels and len(labels) != len(rows):
        raise ValueError(f"{len(labels)} labels for {len(rows)} rows")
    cells = [frame[None] for film in rows for frame in film]
    sheet = Image.fromarray(upscale(side_by_side(cells, columns=len(rows[0]))[0], scale))
    if labels:
        font = ImageFont.load_default(LABEL_SIZE)
        margin = int(max(font.getlength(label) for label in labels)) + 2 * LABEL_SIZE
        labelled = Image.new("RGB", (margin + sheet.width, sheet.height), BACKGROUND)
        labelled.paste(sheet, (margin, 0))
        row_height = (rows[0].shape[1] + GAP) * scale
        for row, label in enumerate(labels):
            middle = row * row_height + rows[0].shape[1] * scale // 2
            ImageDraw.Draw(labelled).text(
                (LABEL_SIZE, middle), label, fill=TEXT, font=font, anchor="lm"
            )
        sheet = labelled
    sheet.save(path)
