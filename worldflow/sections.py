"""The container under an episode file: checksummed sections, each of two parts.

Nothing here knows of frames or steps; docs/episodes.md tells the format byte by byte.
"""

import struct
import zlib
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from worldflow.errors import InputError

# As in PNG, a high bit first: no text file begins so, and a transfer as text breaks it.
HEAD, BLOCK, FOOT = b"\x89WFEHEAD", b"\x89WFESTEP", b"\x89WFEFOOT"

# kind, count, length and CRC32 of each part; the CRC32 of these 28 bytes follows.
_PRELUDE = struct.Struct("<8s5I")
_CHECKSUM = struct.Struct("<I")
_OFFSET = struct.Struct("<Q")
PRELUDE_SIZE = _PRELUDE.size + _CHECKSUM.size


class DamagedEpisode(InputError):  # noqa: N818 (the file is damaged, not the program)
    """An episode file whose bytes do not match their checksum."""


def damaged(path: Path, where: str) -> DamagedEpisode:
    """The error that names the file and which part of it is damaged."""
    return DamagedEpisode(
        f"{path}: damaged, {where} does not match its checksum; "
        "restore the file from a copy, or remove it"
    )


class Section(NamedTuple):
    """Where a section lies, and what its two parts must be."""

    kind: bytes
    number: int  # of HEAD the schema version, of BLOCK and FOOT the number of steps
    lengths: tuple[int, int]
    checksums: tuple[int, int]
    offset: int  # of its first byte in the file

    @property
    def end(self) -> int:
        """The offset of the first byte after it."""
        return self.offset + PRELUDE_SIZE + sum(self.lengths)


def pack_section(kind: bytes, number: int, first: bytes, second: bytes) -> bytes:
    """The bytes of one section."""
    prelude = _PRELUDE.pack(
        kind, number, len(first), len(second), zlib.crc32(first), zlib.crc32(second)
    )
    return prelude + _CHECKSUM.pack(zlib.crc32(prelude)) + first + second


def pack_footer(steps: int, index: bytes, offset: int) -> bytes:
    """The last section: its second part, the file's last 8 bytes, tells its own offset."""
    return pack_section(FOOT, steps, index, _OFFSET.pack(offset))


class SectionReader:
    """Reads the sections of one file; open only as long as its `with` block lasts.

    Raises:
        InputError: the file cannot be opened.
        DamagedEpisode: what is read does not match its checksum.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._file = path.open("rb")
        except OSError as error:
            raise InputError(
                f"{path}: cannot be read ({error.strerror}); expected an episode file"
            ) from None
        self._size = self._file.seek(0, 2)

    def __enter__(self) -> "SectionReader":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def starts_like(self, kind: bytes) -> bool:
        """Whether the file begins with `kind`, as far as it goes."""
        return kind.startswith(self._bytes(0, len(kind)))

    def section(self, offset: int, name: str) -> Section | None:
        """The section that begins at `offset`; None if the file ends before it does.

        A writer that was killed leaves such a torn tail: it is no damage.
        """
        prelude = self._bytes(offset, PRELUDE_SIZE)
        if len(prelude) < PRELUDE_SIZE:
            return None
        if _CHECKSUM.pack(zlib.crc32(prelude[: _PRELUDE.size])) != prelude[_PRELUDE.size :]:
            raise damaged(self._path, name)
        kind, number, length_1, length_2, crc_1, crc_2 = _PRELUDE.unpack_from(prelude)
        section = Section(kind, number, (length_1, length_2), (crc_1, crc_2), offset)
        return section if section.end <= self._size else None

    def footer(self) -> Section | None:
        """The footer, found from the file's end; None if the file does not end in one."""
        if self._size < PRELUDE_SIZE + _OFFSET.size:
            return None
        (offset,) = _OFFSET.unpack(self._bytes(self._size - _OFFSET.size, _OFFSET.size))
        if offset >= self._size or self._bytes(offset, len(FOOT)) != FOOT:
            return None
        return self.section(offset, "its index")

    def part(self, section: Section, which: int, name: str) -> bytes:
        """Part 0 or 1 of a section, checked; `name` tells the user which one is damaged."""
        offset = section.offset + PRELUDE_SIZE + (section.lengths[0] if which else 0)
        data = self._bytes(offset, section.lengths[which])
        if zlib.crc32(data) != section.checksums[which]:
            raise damaged(self._path, name)
        return data

    def _bytes(self, offset: int, count: int) -> bytes:
        self._file.seek(offset)
        return self._file.read(count)
