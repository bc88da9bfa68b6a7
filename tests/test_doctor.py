"""`worldflow doctor` finds what is broken and names the command that mends it."""

import json
import re
from collections.abc import Iterable
from types import SimpleNamespace

import pytest

from worldflow import doctor, onnx_session
from worldflow.cli import main
from worldflow.onnx_session import CPU, CUDA, TENSORRT, Obstacle

SOUND = dict.fromkeys((*doctor.NEEDED, *doctor.WANTED, "pygame", "onnxruntime"), "1.0")


def test_a_sound_installation_has_no_problems():
    assert list(doctor.package_problems(SOUND)) == []


@pytest.mark.parametrize(
    ("added", "removed", "remedy", "fatal"),
    [
        ([], ["torch"], "pip install torch", True),
        ([], ["pygame"], "pip install pygame", True),
        (["pygame-ce"], [], "pip uninstall -y pygame pygame-ce", False),
        (["onnxruntime-gpu"], [], "pip uninstall -y onnxruntime onnxruntime-gpu && pip", False),
        ([], ["onnxruntime"], "pip install onnxruntime", False),
        ([], ["onnx"], "pip install 'worldflow[export]'", False),
        ([], ["ale-py"], "pip install 'worldflow[atari]'", False),
    ],
)
def test_each_problem_has_its_remedy(added, removed, remedy, fatal):
    versions = {name: "1.0" for name in [*SOUND, *added] if name not in removed}
    (finding,) = doctor.package_problems(versions)
    assert finding.problem
    assert finding.remedy.startswith(remedy)
    assert finding.fatal is fatal


def test_pygame_ce_alone_is_fine():
    versions = {name: "1.0" for name in [*SOUND, "pygame-ce"] if name != "pygame"}
    assert list(doctor.package_problems(versions)) == []


def test_the_report_is_printed_and_written_once(tmp_path, capsys):
    out = tmp_path / "new" / "doctor.json"
    assert main(["doctor", f"out={out}"]) == 0
    told = capsys.readouterr().out
    names = [finding["name"] for finding in json.loads(out.read_text())]
    expected = {"python", "torch", "torch device", "onnx cpu", "onnx cuda", "pygame flavour"}
    assert {*expected, "display"} <= set(names)
    assert all(name in told for name in names)
    before = out.read_bytes()
    assert main(["doctor", f"out={out}"]) == 2
    assert out.read_bytes() == before


def test_a_fatal_finding_is_exit_code_1(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "installed_versions", dict)
    assert main(["doctor"]) == 1
    out, err = capsys.readouterr()
    assert "> pip install torch" in out
    assert err.count("\n") == 1


def test_a_world_that_does_not_load_is_found(monkeypatch, tmp_path):
    (tmp_path / "broken.safetensors").write_bytes(b"not a world")
    monkeypatch.setattr("worldflow.world.SHIPPED", tmp_path)
    (finding,) = doctor.shipped_worlds()
    assert finding.name == "world broken"
    assert finding.fatal


def by_name(findings: Iterable[doctor.Finding]) -> dict[str, doctor.Finding]:
    return {finding.name: finding for finding in findings}


def test_providers_are_tried_not_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the package for GPUs and without one: CUDA is listed, and does not load."""
    monkeypatch.setattr(onnx_session, "driver_obstacle", lambda: Obstacle("no driver"))
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: [TENSORRT, CUDA, CPU])
    found = by_name(doctor.onnx_providers())
    assert CUDA in found["onnx providers"].value
    assert found["onnx cpu"].value == "a model has run"
    for device in ("cuda", "tensorrt"):
        assert found[f"onnx {device}"].value == "does not load: no driver"
        assert not found[f"onnx {device}"].problem


def test_a_gpu_that_is_not_used_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is a driver with a GPU, but the package for CPUs."""
    monkeypatch.setattr(onnx_session, "driver_obstacle", lambda: None)
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: [CPU])
    found = by_name(doctor.onnx_providers())
    assert "package for CPUs" in found["onnx cuda"].problem
    assert found["onnx cuda"].remedy.endswith("pip install onnxruntime-gpu")
    assert "onnx tensorrt" not in found
    monkeypatch.setattr("torch.version.cuda", None)
    told = doctor.torch_device()
    assert "built for the CPU alone" in told.problem
    assert told.remedy.startswith("pip install")


def test_a_provider_that_fails_when_it_runs_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*given: object) -> None:
        raise RuntimeError("CUDA error 700\nand more")

    session = SimpleNamespace(run=fails)
    monkeypatch.setattr(onnx_session, "open_session", lambda *given: session)
    assert onnx_session.try_device("cuda") == Obstacle("it fails (CUDA error 700)")


def test_a_runtime_that_was_overwritten_is_mended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("onnxruntime.get_available_providers")
    (found,) = doctor.onnx_providers()
    assert found.remedy.startswith("pip install --force-reinstall onnxruntime")


@pytest.mark.parametrize(("is_ce", "name"), [(True, "pygame-ce"), (False, "pygame")])
def test_the_flavour_of_pygame_is_told(
    monkeypatch: pytest.MonkeyPatch, is_ce: bool, name: str
) -> None:
    monkeypatch.setattr("pygame.IS_CE", is_ce, raising=False)
    assert re.match(rf"{name} \d+\.\d+.*, SDL 2\.", doctor.pygame_flavour().value)


def test_the_driver_of_sdl_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor.display().remedy == "unset SDL_VIDEODRIVER"  # the tests are told so
    monkeypatch.setattr("worldflow.demos.window.why_no_display", lambda: None)
    monkeypatch.setattr("pygame.display.get_driver", lambda: "x11")
    assert doctor.display().value == "SDL driver x11"
