"""What pip installs: the packages, their data, the ids, the import names."""

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
FOLDERS = ("envs", "agents", "demos")  # imported as worldflow.envs and so on
NOT_SOURCE = shutil.ignore_patterns(
    ".git", ".venv", "build", "dist", "*.egg-info", "__pycache__", ".*_cache", "data", "runs"
)


def python(code: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)


def packaged_files() -> set[str]:
    """All that belongs into the wheel, by its name there."""
    trees = {"worldflow": "worldflow/", **{name: f"worldflow/{name}/" for name in FOLDERS}}
    found = set()
    for folder, prefix in trees.items():
        for path in (ROOT / folder).rglob("*"):
            relative = path.relative_to(ROOT / folder)
            linked = folder == "worldflow" and relative.parts[0] in FOLDERS
            if path.suffix in {".py", ".yaml", ".safetensors", ".typed"} and not linked:
                found.add(prefix + relative.as_posix())
    return found


def test_the_listed_packages_are_those_of_the_tree():
    listed = set(PROJECT["tool"]["setuptools"]["packages"])
    inits = {name for name in packaged_files() if name.endswith("__init__.py")}
    assert listed == {str(Path(name).parent).replace("/", ".") for name in inits}
    for name in packaged_files():
        if name.endswith(".py"):
            assert str(Path(name).parent).replace("/", ".") in listed


@pytest.mark.parametrize("linked", [True, False], ids=["links", "no links"])
def test_the_wheel_holds_everything(tmp_path, linked):
    source = tmp_path / "source"
    shutil.copytree(ROOT, source, symlinks=True, ignore=NOT_SOURCE)
    if not linked:  # a checkout on a system without symlinks
        for name in FOLDERS:
            (source / "worldflow" / name).unlink()
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", str(tmp_path)]
    built = subprocess.run([*command, str(source)], capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        metadata = {name for name in archive.namelist() if ".dist-info/" in name}
    assert names == packaged_files()
    assert any(name.endswith("licenses/LICENSE") for name in metadata)


@pytest.mark.parametrize("name", FOLDERS)
def test_a_bare_import_is_refused(name):
    result = python(f"import {name}")
    assert f"import worldflow.{name}, not {name}" in result.stderr


@pytest.mark.parametrize(
    "imports",
    [
        "import worldflow, gymnasium",
        "import gymnasium, worldflow",
        "import worldflow.envs, gymnasium",
        "import worldflow.envs.world_env, gymnasium",
        "import importlib.util, worldflow; importlib.util.find_spec('gymnasium'); import gymnasium",
    ],
)
def test_ids_are_registered_whatever_is_imported_first(imports, tmp_path):
    ids = ["worldflow/Bounce-v0", "worldflow/BounceGame-v0", "worldflow/World-v0"]
    result = python(f"{imports}; assert set({ids}) <= gymnasium.registry.keys()", tmp_path)
    assert result.returncode == 0, result.stderr


def test_an_id_may_name_its_module(tmp_path):
    code = "import gymnasium; gymnasium.make('worldflow:worldflow/BounceGame-v0').reset(seed=0)"
    result = python(code, tmp_path)
    assert result.returncode == 0, result.stderr


def test_training_needs_only_torch_numpy_and_safetensors(tmp_path):
    absent = ["gymnasium", "pygame", "hydra", "omegaconf", "yaml", "tqdm", "PIL", "av", "ale_py"]
    code = f"import sys; sys.modules.update(dict.fromkeys({absent})); import worldflow.train"
    result = python(code, tmp_path)
    assert result.returncode == 0, result.stderr


def test_every_dependency_has_one_pinned_version():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    assert pins["torch"] == "2.13.0"
    project = PROJECT["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    names = {re.split(r"[<>=;\[ ]", entry)[0] for group in groups for entry in group}
    assert names <= pins.keys()
