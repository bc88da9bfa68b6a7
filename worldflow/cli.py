"""The console command: `worldflow VERB [WHAT] [key=value ...]`.

A verb is a row of `VERBS`, a `conf/VERB.yaml` with its defaults, and, in its module, a frozen
dataclass with the same keys and a function that takes one. A verb may have two words: the
defaults of "agent train" are `conf/agent_train.yaml`.
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
    "settle": Verb(
        help="train the choices of a ripe world alone, where most is open",
        module="worldflow.settle",
        config="SettleConfig",
        function="settle",
        what="world",
        example="runs/breakout data=data/breakout minutes=10 out=breakout.safetensors",
    ),
    "polish": Verb(
        help="train what makes a picture of a choice, and reads rewards and ends, alone",
        module="worldflow.polish",
        config="PolishConfig",
        function="polish",
        what="world",
        example="runs/breakout data=data/breakout minutes=5 out=breakout.safetensors",
    ),
    "steady": Verb(
        help="keep what stands still: colours to recall, learned on long dreams",
        module="worldflow.steady",
        config="SteadyConfig",
        function="steady",
        what="world",
        example="runs/breakout data=data/breakout minutes=5 out=breakout.safetensors",
    ),
    "track": Verb(
        help="keep the ball on its course, learned from where it was in the recordings",
        module="worldflow.track",
        config="TrackConfig",
        function="track",
        what="world",
        example="breakout data=data/breakout minutes=5 out=tracked.safetensors",
    ),
    "evaluate": Verb(
        help="judge a world on held-out episodes",
        module="worldflow.evaluate",
        config="EvaluateConfig",
        function="evaluate",
        what="world",
        example="breakout data=data/held-out out=report",
    ),
    "agent train": Verb(
        help="let an agent learn in a world's dreams, or in the real game",
        module="worldflow.agents.train",
        config="AgentTrainConfig",
        function="train_agent",
        what=None,
        example="world=breakout minutes=10 out=runs/agent",
    ),
    "agent loop": Verb(
        help="play, learn the world, learn in its dreams, and again",
        module="worldflow.agents.loop",
        config="LoopConfig",
        function="loop",
        what=None,
        example="env=ALE/Breakout-v5 world_minutes=60 agent_minutes=60 out=runs/loop",
    ),
    "agent evaluate": Verb(
        help="judge an agent in the real game",
        module="worldflow.agents.evaluate",
        config="AgentEvaluateConfig",
        function="evaluate_agent",
        what="agent",
        example="runs/agent out=agent.json",
    ),
    "agent compare": Verb(
        help="compare agents whose dreams end where the world no longer knows",
        module="worldflow.agents.compare",
        config="CompareConfig",
        function="compare",
        what=None,
        example="world=breakout data=data/breakout out=runs/compare",
    ),
    "play": Verb(
        help="play a world in a window, or film it where there is no display",
        module="worldflow.demos.play",
        config="PlayConfig",
        function="play",
        what="world",
        example="breakout",
    ),
    "record": Verb(
        help="let a policy play a world, without a window, into episodes and films",
        module="worldflow.demos.record",
        config="RecordConfig",
        function="record",
        what="world",
        example="breakout steps=600 policy=random seed=0 out=recordings",
    ),
    "demo": Verb(
        help="make film walls: other luck, other actions, beside the real game",
        module="worldflow.demos.demo",
        config="DemoConfig",
        function="demo",
        what="world",
        example="breakout out=gallery",
    ),
    "replay": Verb(
        help="play a recording again from what it holds, and compare bit for bit",
        module="worldflow.demos.replay",
        config="ReplayConfig",
        function="replay",
        what="episode",
        example="recordings/breakout-0001.episode",
    ),
    "export": Verb(
        help="make one .onnx of a world, which plays without PyTorch",
        module="worldflow.export",
        config="ExportConfig",
        function="export",
        what="world",
        example="breakout out=breakout.onnx",
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
    words = 2 if " ".join(arguments[:2]) in VERBS else 1
    command = " ".join(["worldflow", *arguments[:words]])
    try:
        return _dispatch(arguments)
    except InputError as error:
        return _complain(2, f"{command}: {error}")
    except WorkError as error:
        return _complain(1, f"{command}: {error}")
    except ModuleNotFoundError as error:
        if str(error.name).startswith("worldflow"):
            raise
        return _complain(
            2, f"{command}: needs the package '{error.name}': pip install worldflow brings it"
        )
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
    family = {name: verb for name, verb in VERBS.items() if name.startswith(f"{arguments[0]} ")}
    if family and arguments[1:2] in ([], ["-h"], ["--help"]):
        print("\n".join(_listed(family)))
        return 0 if arguments[1:] else 2
    words = 2 if family else 1
    name, rest = " ".join(arguments[:words]), arguments[words:]
    if name not in VERBS:
        raise InputError(f"unknown verb '{name}', {did_you_mean(name, VERBS)}")
    if "-h" in rest or "--help" in rest:
        print(_verb_help(name, VERBS[name]))
        return 0
    _run(name, VERBS[name], rest)
    return 0


def _run(name: str, verb: Verb, rest: Sequence[str]) -> None:
    options, overrides, given = _sort(name, verb, rest)
    schema, function = _load(verb)
    try:
        from worldflow.config import Source, read_config, read_sweep
    except ModuleNotFoundError:  # where an .onnx plays with next to nothing installed
        from worldflow.plain_config import NEEDS_HYDRA, read_plain

        if options:
            raise InputError(f"-m {NEEDS_HYDRA}") from None
        function(read_plain(name, schema, overrides, given, _example(name)))
        return
    source = Source(_defaults(name), schema, _example(name))
    if not options:
        function(read_config(source, overrides, given))
        return
    jobs = read_sweep(source, overrides, given)
    for number, job in enumerate(jobs, 1):
        print(f"run {number} of {len(jobs)}: {job.name} in {job.config.out}", flush=True)
        function(job.config)


def _sort(name: str, verb: Verb, rest: Sequence[str]) -> tuple[set[str], list[str], dict[str, str]]:
    """The options, the overrides and the WHAT among a verb's arguments."""
    rest = [text.removeprefix(f"{name}.") for text in rest]  # play.keys=FILE is keys=FILE
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


def _load(verb: Verb) -> tuple[type[Any], Callable[[Any], None]]:
    """The dataclass and the function of a verb."""
    module = importlib.import_module(verb.module)
    return getattr(module, verb.config), getattr(module, verb.function)


def _help() -> str:
    return "\n".join([
        "worldflow VERB [WHAT] [key=value ...]: learn a game's world from its frames, and play it",
        "",
        *_listed(VERBS),
        "",
        "worldflow VERB --help lists a verb's keys; worldflow --version tells the version.",
        "WHAT is a shipped world, a run folder or a .safetensors file.",
    ])  # fmt: skip


def _listed(verbs: dict[str, Verb]) -> list[str]:
    width = max(map(len, verbs))
    return [f"  {name:{width}}  {verb.help}" for name, verb in verbs.items()]


def _verb_help(name: str, verb: Verb) -> str:
    from worldflow.conf import describe

    what = f" [{verb.what.upper()}]" if verb.what else ""
    lines = [f"worldflow {name}{what} [key=value ...]: {verb.help}", ""]
    if verb.what:
        lines.append(f"{verb.what.upper()} stands for {verb.what}=...")
    return "\n".join(
        [*lines, "Keys and defaults:", describe(_defaults(name)), "", f"e.g. {_example(name)}"]
    )


def _defaults(name: str) -> str:
    """The name of a verb's YAML in `conf/`."""
    return name.replace(" ", "_")


def _example(name: str) -> str:
    return f"worldflow {name} {VERBS[name].example}".rstrip()
