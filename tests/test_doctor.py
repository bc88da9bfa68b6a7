"""`worldflow doctor` finds what is broken and names the command that mends it."""

import json

import pytest

from worldflow import doctor
from worldflow.cli import main

SOUND = dict.fromkeys(
    ("torch", "numpy", "gymnasium", "pygame", "hydra-core", "safetensors", "av", "ale-py"), "1.0"
)


def test_a_sound_installation_has_no_problems():
    assert list(doctor.package_problems(SOUND)) == []


@pytest.mark.parametrize(
    ("added", "removed", "remedy", "fatal"),
    [
        ([], ["torch"], "pip install torch", True),
        ([], ["pygame"], "pip install pygame", True),
        (["pygame-ce"], [], "pip uninstall -y pygame pygame-ce", False),
        (["onnxruntime", "onnxruntime-gpu"], [], "pip uninstall -y onnxruntime", False),
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
    assert {"python", "torch", "torch device", "display"} <= set(names)
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
