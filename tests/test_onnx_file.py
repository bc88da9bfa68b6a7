"""What is in an exported file, and what a damaged, foreign or older one is told."""

import base64
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from exported import NOT_CAPTURED, tiny_onnx, write_onnx
from tiny_world import tiny_world

from worldflow.cli import main
from worldflow.errors import InputError
from worldflow.onnx_file import ABOUT_KEY, SCORE_KEY, open_file
from worldflow.onnx_session import TRIAL, open_session


def rewritten(tmp_path: Path, **changes: object) -> Path:
    """The file with other facts in its metadata."""
    model = onnx.load_from_string(tiny_onnx())
    entry = next(entry for entry in model.metadata_props if entry.key == ABOUT_KEY)
    entry.value = json.dumps(json.loads(entry.value) | changes)
    path = tmp_path / "changed.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def test_the_file_holds_the_world(tmp_path: Path) -> None:
    world, file = tiny_world(), open_file(write_onnx(tmp_path))
    assert file.about.card == world.card
    assert file.about.world_hash == world.hash
    assert file.about.parameters == sum(p.numel() for p in world.model.parameters())
    assert file.about.dtype == "float32"
    np.testing.assert_array_equal(file.start_frames, world.start_frames)
    np.testing.assert_array_equal(file.start_actions, world.start_actions)


def test_any_reader_of_onnx_can_use_it() -> None:
    model = onnx.load_from_string(tiny_onnx())
    onnx.checker.check_model(model, full_check=True)
    assert [opset.version for opset in model.opset_import if opset.domain == ""] == [20]
    values = [*model.graph.input, *model.graph.output]
    assert {value.type.tensor_type.shape.dim[0].dim_param for value in values} == {"batch"}
    assert not any(tensor.external_data for tensor in model.graph.initializer)


def test_a_gpu_could_capture_its_graphs() -> None:
    """No control flow, no shapes at run time, nothing that CUDA has no kernel for."""
    packed = {entry.key: entry.value for entry in onnx.load_from_string(tiny_onnx()).metadata_props}
    assert len(base64.b64decode(packed[SCORE_KEY])) > 0
    operators = {node.op_type for node in onnx.load_from_string(tiny_onnx()).graph.node}
    assert not operators & NOT_CAPTURED


@pytest.mark.parametrize("place", [0.3, 0.6])
def test_a_flipped_bit_is_found(tmp_path: Path, place: float) -> None:
    """Anywhere in the graph; most of it is weights, which ONNX Runtime would take as they are."""
    path = write_onnx(tmp_path)
    data = bytearray(path.read_bytes())
    weights = data.find(np.float32(0.0).tobytes() * 3, int(place * len(data) * 0.2))
    data[weights + 2] ^= 64
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"tiny\.onnx is (no ONNX model, or )?damaged"):
        open_file(path)


def test_a_file_cut_short_is_refused(tmp_path: Path) -> None:
    path = write_onnx(tmp_path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match="damaged"):
        open_file(path)


def test_onnx_of_something_else_is_no_world(tmp_path: Path) -> None:
    (tmp_path / "other.onnx").write_bytes(TRIAL)
    with pytest.raises(InputError, match="no world: an ONNX file of something else"):
        open_file(tmp_path / "other.onnx")


def test_another_format_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="of format 1, but this worldflow reads format 2"):
        open_file(rewritten(tmp_path, format=1))


def test_another_graph_under_the_same_facts_is_damaged(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not match its checksum"):
        open_file(rewritten(tmp_path, graph_sha256="0" * 64))


def test_facts_that_are_missing_are_damage(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="damaged"):
        open_file(rewritten(tmp_path, about={"card": {}}))


@pytest.mark.parametrize("kind", ["missing", "text", "cut short", "foreign", "older"])
@pytest.mark.parametrize("verb", ["play", "info", "bench"])
def test_a_bad_file_is_one_line_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: str, kind: str
) -> None:
    path = tmp_path / "bad.onnx"
    if kind == "older":
        path = rewritten(tmp_path, format=0)
    elif kind != "missing":
        path.write_bytes({"text": b"hello", "cut short": tiny_onnx()[:-99], "foreign": TRIAL}[kind])
    assert main([verb, str(path)]) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert line.startswith(f"worldflow {verb}: {path} is ")
    assert "export" in line  # the way out


def test_score_is_a_graph_of_its_own(tmp_path: Path) -> None:
    """The step's graph does none of its work, and has none of its inputs."""
    file = open_file(write_onnx(tmp_path))
    session = open_session(file.score_model())
    assert "shown" in {node.name for node in session.get_inputs()}
    assert {node.name for node in session.get_outputs()} == {"nll_excess"}
    step = open_session(write_onnx(tmp_path))
    assert "shown" not in {node.name for node in step.get_inputs()}
