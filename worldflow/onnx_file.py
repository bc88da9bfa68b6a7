"""What an exported `.onnx` carries beside the graph of one step, so that it plays alone.

The file is plain ONNX. Three entries of the model's metadata are ours (docs/performance.md):

    worldflow         JSON: format, card, shapes, world hash, and a checksum of the graph
    worldflow_starts  frames to start from, compressed
    worldflow_score   a second model, that of `score`, compressed: in a graph of its own it
                      costs the step nothing

Neither torch nor the package onnx is needed to read it.
"""

import base64
import hashlib
import json
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worldflow.blocks import pack_frames, unpack_frames
from worldflow.card import WorldCard
from worldflow.errors import InputError
from worldflow.onnx_session import open_session

STATE = ("frames", "actions", "keys", "values", "steps", "recency")
STEP_INPUTS = (*STATE, "action", "noise", "temperature")
STEP_OUTPUTS = ("frame", "reward", "p_terminated", "terminated", *(f"next_{n}" for n in STATE))
SCORE_INPUTS = (*STATE, "action", "shown", "noise")
SCORE_OUTPUTS = ("nll_excess",)

FORMAT_VERSION = 2
ABOUT_KEY, STARTS_KEY, SCORE_KEY = "worldflow", "worldflow_starts", "worldflow_score"


@dataclass(frozen=True)
class OnnxAbout:
    """The facts of an exported world."""

    card: WorldCard
    world_hash: str
    dtype: str  # of the trunk's and conditioners' arithmetic: "float32", "float16"
    frame_shape: tuple[int, int, int]  # (H, W, 3)
    noise_size: int
    parameters: int
    gflop_per_frame: float

    @property
    def action_count(self) -> int:
        """How many actions there are, 0 to action_count - 1."""
        return len(self.card.action_names)


@dataclass(frozen=True)
class OnnxFile:
    """All that is in a file, but for the graph itself."""

    about: OnnxAbout
    start_frames: NDArray[np.uint8]  # (S, T, H, W, 3)
    start_actions: NDArray[np.int64]  # (S, T-1)
    packed_score: str

    def score_model(self) -> bytes:
        """The second model, as ONNX."""
        return zlib.decompress(base64.b64decode(self.packed_score))


def pack_metadata(
    about: OnnxAbout,
    start_frames: NDArray[np.uint8],
    start_actions: NDArray[np.int64],
    graph: bytes,
    score: bytes,
) -> dict[str, str]:
    """The metadata of a model whose serialised form, without metadata, is `graph`."""
    told = {
        "format": FORMAT_VERSION,
        "about": asdict(about),
        "starts": list(start_frames.shape),
        "start_actions": start_actions.tolist(),
        "graph_bytes": len(graph),
        "graph_sha256": hashlib.sha256(graph).hexdigest(),
    }
    frames = start_frames.reshape(-1, *about.frame_shape)
    return {
        ABOUT_KEY: json.dumps(told, sort_keys=True),
        STARTS_KEY: base64.b64encode(pack_frames(frames)).decode(),
        SCORE_KEY: base64.b64encode(zlib.compress(score)).decode(),
    }


def open_file(path: Path) -> OnnxFile:
    """What is in `path`, for those who do not run it.

    Raises:
        InputError: not there, not ONNX, of something else, of another version, or damaged.
    """
    if not path.is_file():
        raise InputError(f"{path} is not there; worldflow export makes one")
    return read_metadata(path, open_session(path).get_modelmeta().custom_metadata_map)


def read_metadata(path: Path, metadata: Mapping[str, str]) -> OnnxFile:
    """What `pack_metadata` wrote into the file `path`.

    Raises:
        InputError: an ONNX file of something else, of another version, or damaged.
    """
    if ABOUT_KEY not in metadata:
        raise InputError(
            f"{path} is no world: an ONNX file of something else; make one with worldflow export"
        )
    try:
        told = json.loads(metadata[ABOUT_KEY])
        version, graph_bytes, expected = (
            told[key] for key in ("format", "graph_bytes", "graph_sha256")
        )
    except (KeyError, TypeError, ValueError) as error:
        raise damaged(path, error) from error
    if version != FORMAT_VERSION:
        raise InputError(
            f"{path} is of format {version}, but this worldflow reads format {FORMAT_VERSION}: "
            "export the world again, or install the matching worldflow"
        )
    if hashlib.sha256(path.read_bytes()[:graph_bytes]).hexdigest() != expected:
        raise damaged(path, "its graph does not match its checksum")
    try:
        return _unpack(told, metadata[STARTS_KEY], metadata[SCORE_KEY])
    except (KeyError, TypeError, ValueError, zlib.error) as error:
        raise damaged(path, error) from error


def damaged(path: Path, reason: object) -> InputError:
    """The error that says so."""
    return InputError(f"{path} is damaged ({reason}): copy it again, or export the world anew")


def _unpack(told: dict[str, Any], starts: str, score: str) -> OnnxFile:
    shape = told["starts"]
    frames = unpack_frames(base64.b64decode(starts), shape[0] * shape[1], shape[2:])
    actions = np.array(told["start_actions"], np.int64).reshape(shape[0], shape[1] - 1)
    return OnnxFile(_about(told["about"]), frames.reshape(shape), actions, score)


def _about(told: dict[str, Any]) -> OnnxAbout:
    card = {**told["card"], "action_names": tuple(told["card"]["action_names"])}
    shape = tuple(told["frame_shape"])
    return OnnxAbout(**{**told, "card": WorldCard(**card), "frame_shape": shape})
