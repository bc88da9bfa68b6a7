"""The command line, as a user meets it: help, overrides, sweeps, exit codes."""

import dataclasses
import errno
import importlib
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from worldflow.cli import VERBS, main
from worldflow.errors import InputError, WorkError


@pytest.fixture
def runs(monkeypatch):
    """The configs that `worldflow train` would run with."""
    configs = []
    monkeypatch.setattr("worldflow.train.train", configs.append)
    return configs


def complaint(capsys) -> str:
    """The one line on stderr; nothing may be on stdout."""
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err


def test_help_names_every_verb(capsys):
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"\n  {verb} " in shown for verb in VERBS)


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["--version"]])
def test_help_imports_nothing_heavy(arguments):
    code = (
        "import sys; from worldflow.cli import main; "
        f"assert main({arguments}) == 0; "
        "heavy = {'torch', 'numpy', 'gymnasium', 'pygame', 'hydra'} & sys.modules.keys(); "
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize("verb", VERBS)
def test_defaults_and_dataclass_agree(verb, capsys):
    schema = getattr(importlib.import_module(VERBS[verb].module), VERBS[verb].config)
    text = (
        importlib.resources.files("worldflow.conf")
        .joinpath(f"{verb.replace(' ', '_')}.yaml")
        .read_text()
    )
    defaults = yaml.safe_load(text)
    groups = {key for entry in defaults.pop("defaults", []) for key in entry if key != "_self_"}
    fields = {field.name: field for field in dataclasses.fields(schema)}
    assert fields.keys() - groups - defaults.keys() == set()
    assert defaults.keys() - fields.keys() == set()
    assert main([*verb.split(), "--help"]) == 0
    shown = capsys.readouterr().out
    for key, field in fields.items():
        assert f"\n{key}:" in shown
        if field.default is not dataclasses.MISSING:
            value = defaults[key]
            assert (tuple(value) if isinstance(value, list) else value) == field.default


@pytest.mark.parametrize("verb", VERBS)
def test_the_example_in_the_help_is_accepted(verb, monkeypatch):
    configs = []
    monkeypatch.setattr(f"{VERBS[verb].module}.{VERBS[verb].function}", configs.append)
    assert main([*verb.split(), *VERBS[verb].example.split()]) == 0
    assert len(configs) == 1


def test_overrides_reach_the_typed_config(runs):
    overrides = [
        "model=tiny",
        "model.hidden=[7,5,5,5]",
        "steps=3",
        "learning_rate=1",
        "compile=true",
    ]
    assert main(["train", "data=a", "out=b", *overrides]) == 0
    (config,) = runs
    assert dataclasses.is_dataclass(config.model)
    assert config.model.hidden == (7, 5, 5, 5)
    assert isinstance(config.model.channels, tuple)
    assert (config.data, config.steps, config.compile) == ("a", 3, True)
    assert isinstance(config.learning_rate, float)


def test_groups_change_the_model(runs):
    for size in ("tiny", "small"):
        assert main(["train", "data=a", "out=b", f"model={size}"]) == 0
    tiny, small = (config.model.channels for config in runs)
    assert tiny < small


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("été/läuft", "été/läuft"),
        ("~x/a&b", "~x/a&b"),
        ("runs/lr=1e-3", "runs/lr=1e-3"),
        ("my data", "my data"),
        ("'a,b'", "a,b"),
        ("2024", "2024"),
    ],
)
def test_paths_may_hold_odd_signs(runs, text, path):
    assert main(["train", f"data={text}", "out=b"]) == 0
    assert runs[0].data == path


def test_what_is_taken_as_it_stands(monkeypatch):
    configs = []
    monkeypatch.setattr("worldflow.info.info", configs.append)
    assert main(["info", "./runs/(a,b)=[c].safetensors"]) == 0
    assert configs[0].world == "./runs/(a,b)=[c].safetensors"


TRAIN = ["train", "data=a", "out=b"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["trian"], "did you mean 'train'?"),
        ([*TRAIN, "stesp=3"], "did you mean 'steps'?"),
        ([*TRAIN, "model.hiden=3"], "did you mean 'model.hidden'?"),
        ([*TRAIN, "model=smal"], "did you mean 'small'?"),
        ([*TRAIN, "model={hidden:3}"], "unknown model"),
        ([*TRAIN, "steps=many"], "steps: Value 'many'"),
        ([*TRAIN, "steps=1.5"], "steps: Value '1.5'"),
        ([*TRAIN, "steps=null"], "steps: "),
        ([*TRAIN, "model.channels=[1,2]"], "expected 3 values"),
        ([*TRAIN, "model.channels=3"], "model.channels: "),
        ([*TRAIN, "name=${nothing}"], "nothing"),
        (["train", "out=b"], "data=... is missing; for example: worldflow train data="),
        (["train", "data=a(b", "out=b"], "quote it: \"data='a(b'\""),
        ([*TRAIN, "seed=0,1"], "add -m"),
        ([*TRAIN, "-m"], "nothing to sweep"),
        ([*TRAIN, "-m", "seed=interval(0,1)"], "can sweep"),
        ([*TRAIN, "-m", "model=tiny,smal"], "did you mean 'small'?"),
        ([*TRAIN, "+new=3"], "expected key=value"),
        ([*TRAIN, "~seed"], "expected key=value"),
        ([*TRAIN, "hydra.run.dir=x"], "unknown key 'hydra.run.dir'"),
        ([*TRAIN, "--fast"], "unknown option '--fast'"),
        ([*TRAIN, "breakout"], "expected key=value, got 'breakout'"),
        (["info"], "world=... is missing; for example: worldflow info breakout"),
        (["info", "a", "b"], "got 'a' and 'b'"),
        (["info", "a", "world=b"], "both name the world"),
        (["list", "-m", "out=x,y.json", "x"], "expected key=value"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(runs, capsys, arguments, expected):
    assert main(arguments) == 2
    assert expected in complaint(capsys)
    assert runs == []


def test_a_bare_call_shows_the_help(capsys):
    assert main([]) == 2
    assert "worldflow VERB" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InputError("bad\ninput"), 2),
        (WorkError("failed\nhere"), 1),
        (OSError(errno.ENOSPC, "No space left on device", "film.mp4"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_exit_codes(monkeypatch, capsys, error, code):
    def fail(config):
        raise error

    monkeypatch.setattr("worldflow.info.list_worlds", fail)
    assert main(["list"]) == code
    line = complaint(capsys)
    assert line.startswith("worldflow list: ")
    assert code == 2 or "kept" in line or "failed here" in line


def test_a_fault_of_ours_is_not_hidden(monkeypatch):
    def fail(config):
        raise RuntimeError("a bug")

    monkeypatch.setattr("worldflow.info.list_worlds", fail)
    with pytest.raises(RuntimeError, match="a bug"):
        main(["list"])


def test_a_missing_package_is_named(monkeypatch, capsys):
    monkeypatch.setattr(
        "worldflow.cli.VERBS",
        {"list": dataclasses.replace(VERBS["list"], module="a_package_that_is_not_there")},
    )
    assert main(["list"]) == 2
    assert "needs the package 'a_package_that_is_not_there'" in complaint(capsys)


def test_a_sweep_runs_every_combination_in_a_folder_of_its_own(runs, capsys):
    assert main(["train", "-m", "data=x/a,x/b", "out=sweep", "seed=range(0,2)", "steps=5"]) == 0
    assert [(config.data, config.seed) for config in runs] == [
        ("x/a", 0),
        ("x/a", 1),
        ("x/b", 0),
        ("x/b", 1),
    ]
    assert all(config.steps == 5 for config in runs)
    folders = [Path(config.out) for config in runs]
    assert [folder.parent for folder in folders] == [Path("sweep")] * 4
    assert len(set(folders)) == 4
    told = capsys.readouterr().out
    assert all(str(folder) in told for folder in folders)


def test_a_sweep_is_checked_whole_before_its_first_run(runs, capsys):
    assert main(["train", "-m", "data=a", "out=b", "steps=5,many"]) == 2
    assert "steps" in complaint(capsys)
    assert runs == []


def test_the_module_is_the_command():
    command = [sys.executable, "-m", "worldflow", "tain"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 2
    assert "did you mean 'train'?" in result.stderr
    assert "Traceback" not in result.stderr
