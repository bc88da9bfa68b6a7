"""Files that are there as a whole or not at all, whoever kills the process that writes them."""

from pathlib import Path

from worldflow.errors import WorkError

PARTIAL = ".partial"  # what a file is called while it is being written


def write_whole(path: Path, data: bytes) -> None:
    """Replace `path` by `data` in one step: a killed process leaves the old file or the new.

    Raises:
        WorkError: it cannot be written (a full disk); the old file is kept.
    """
    partial = path.with_name(path.name + PARTIAL)
    try:
        partial.write_bytes(data)
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise WorkError(
            f"{path} cannot be written: {error.strerror}; what was there is kept"
        ) from error
