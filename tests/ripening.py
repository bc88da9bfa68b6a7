"""What all verbs that train a part of a ripe world are given in tests."""

from pathlib import Path
from typing import Any

from recorded import record
from tiny_world import tiny_world


def ripe_fields(folder: Path, steps: int = 30, length: int = 40) -> dict[str, Any]:
    """The fields of a `RipeConfig`: a tiny world and three episodes of `length` steps."""
    for name in "abc":
        record(folder / "data" / f"{name}.episode", length)
    tiny_world().save(folder / "tiny.safetensors")
    return {
        "world": str(folder / "tiny.safetensors"),
        "data": str(folder / "data"),
        "out": str(folder / "out.safetensors"),
        "steps": steps,
        "minutes": 0.0,
        "strict": False,
        "holdout": 0.3,
        "seed": 0,
        "batch": 16,
        "learning_rate": 1e-3,
        "average": 0.9,
        "device": "cpu",
        "threads": 1,
    }
