"""The console command: `worldflow VERB [WHAT] [key=value ...]`.

A verb is a row of `VERBS`, a `conf/VERB.yaml` with its defaults, and, in its module, a frozen
dataclass with the same keys and a function that takes one.
"""

import importlib
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from worldflow import __version__
from worldflow.errors import InputError, WorkError, did_you_mean

# Everything else is imported once a verb needs it: `worldflow --help` has 0.3 s.


@dataclass(frozen=True)
class Verb:
    """One verb of the command line."""

    help: str  # one line
    module: str
    config: str  # its dataclass, in the module
    function: str  # what takes that dataclass, in the module
    what: str | None  # the key that the bare WHAT sets
    example: str  # arguments that work


VERBS = {
    "collect": Verb(
        help="play a source game and write the episodes",
        module="worldflow.agents.collect",
        config="CollectConfig",
        function="collect",
        what=None,
        example="env=ALE/Breakout-v5 steps=50000 policy=mixed out=data/breakout",
    ),
    "train": Verb(
        help="learn a world from episodes (-m sweeps)",
        module="worldflow.train",
        config="TrainConfig",
        function="train",
        what=None,
        example="data=data/breakout model=small steps=20000 out=runs/breakout",
    ),
    "evaluate": Verb(
        help="judge a world on held-out episodes",
        module="worldflow.evaluate",
        config="EvaluateConfig",
        function="evaluate",
        what="world",
        example="breakout data=data/held-out out=report",
    ),
    "play": Verb(
        help="play a world in a window, or film it where there is no display",
        module="worldflow.demos.play",
        config="PlayConfig",
        function="play",
        what="world",
        example="breakout",
    ),
    "bench": Verb(
        help="measure the speed of a world",
        module="worldflow.bench",
        config="BenchConfig",
        function="bench",
        what="world",
        example="breakout out=bench.json",
    ),
    "info": Verb(
        help="tell a world's game, keys, training, cost and figures",
        module="worldflow.info",
        config="InfoConfig",
        function="info",
        what="world",
        example="breakout",
    ),
    "list": Verb(
        help="list the shipped worlds",
        module="worldflow.info",
        config="ListConfig",
        function="list_worlds",
        what=None,
        example="",
    ),
    "doctor": Verb(
        help="check this installation and say what mends it",
        module="worldflow.doctor",
        config="DoctorConfig",
        function="doctor",
        what=None,
        example="",
    ),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; the exit code: 0 done, 1 failed, 2 bad input, 130 stopped."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    command = " ".join(["worldflow", *arguments[:1]])
    try:
        return _dispatch(arguments)
    except InputError as error:
        return _complain(2, f"{command}: {error}")
    except WorkError as error:
        return _complain(1, f"{command}: {error}")
    except OSError as error:  # a full disk, no permission
        return _complain(1, f"{command}: {error}; what was written before is kept")
    except KeyboardInterrupt:
        return _complain(130, f"{command}: stopped; what was written before is kept")


def _complain(code: int, message: str) -> int:
    print(" ".join(message.splitlines()), file=sys.stderr)
    return code


def _dispatch(arguments: Sequence[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_help())
        return 0 if arguments else 2
    if arguments[0] == "--version":
        print(f"worldflow {__version__}")
        return 0
    name, *rest = arguments
    if name not in VERBS:
        raise InputError(f"unknown verb '{name}', {did_you_mean(name, VERBS)}")
    if "-h" in rest or "--help" in rest:
        print(_verb_help(name, VERBS[name]))
        return 0
    _run(name, VERBS[name], rest)
    return 0


def _run(name: str, verb: Verb, rest: Sequence[str]) -> None:
    options, overrides, given = _sort(name, verb, rest)
    from worldflow.config import Source, read_config, read_sweep

    schema, function = _load(name, verb)
    source = Source(name, schema, _example(name))
    if not options:
        function(read_config(source, overrides, given))
        return
    jobs = read_sweep(source, overrides, given)
    for number, job in enumerate(jobs, 1):
        print(f"run {number} of {len(jobs)}: {job.name} in {job.config.out}", flush=True)
        function(job.config)


def _sort(name: str, verb: Verb, rest: Sequence[str]) -> tuple[set[str], list[str], dict[str, str]]:
    """The options, the overrides and the WHAT among a verb's arguments."""
    overrides = [text for text in rest if re.match(r"[+~]*[A-Za-z_][\w.@]*=|[+~]", text)]
    options = {text for text in rest if text.startswith("-")}
    for option in options - {"-m", "--multirun"}:
        raise InputError(f"unknown option '{option}': there are -m and --help; write key=value")
    bare = [text for text in rest if text not in options and text not in overrides]
    if bare and verb.what is None:
        raise InputError(f"expected key=value, got '{bare[0]}'; for example: {_example(name)}")
    if len(bare) > 1:
        raise InputError(f"expected one {verb.what}, got {' and '.join(map(repr, bare))}")
    return options, overrides, {str(verb.what): bare[0]} if bare else {}


def _load(name: str, verb: Verb) -> tuple[type[Any], Callable[[Any], None]]:
    """The dataclass and the function of a verb."""
    try:
        module = importlib.import_module(verb.module)
    except ModuleNotFoundError as error:
        if str(error.name).startswith("worldflow"):
            raise
        raise InputError(
            f"{name} needs the package '{error.name}': pip install worldflow"
        ) from error
    return getattr(module, verb.config), getattr(module, verb.function)


def _help() -> str:
    width = max(map(len, VERBS))
    verbs = [f"  {name:{width}}  {verb.help}" for name, verb in VERBS.items()]
    return "\n".join([
        "worldflow VERB [WHAT] [key=value ...]: learn a game's world from its frames, and play it",
        "",
        *verbs,
        "",
        "worldflow VERB --help lists a verb's keys; worldflow --version tells the version.",
        "WHAT is a shipped world, a run folder or a .safetensors file.",
    ])  # fmt: skip


def _verb_help(name: str, verb: Verb) -> str:
    from worldflow.conf import describe

    what = f" [{verb.what.upper()}]" if verb.what else ""
    lines = [f"worldflow {name}{what} [key=value ...]: {verb.help}", ""]
    if verb.what:
        lines.append(f"{verb.what.upper()} stands for {verb.what}=...")
    return "\n".join([*lines, "Keys and defaults:", describe(name), "", f"e.g. {_example(name)}"])


def _example(name: str) -> str:
    return f"worldflow {name} {VERBS[name].example}".rstrip()
