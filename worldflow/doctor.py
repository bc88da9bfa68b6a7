"""`worldflow doctor`: what is installed, what works, and the command that mends what does not."""

import os
import platform
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from worldflow.errors import WorkError

PACKAGES = (
    "worldflow",
    "torch",
    "numpy",
    "gymnasium",
    "pygame",
    "pygame-ce",
    "hydra-core",
    "safetensors",
    "av",
    "onnxruntime",
    "onnxruntime-gpu",
    "ale-py",
)


@dataclass(frozen=True)
class DoctorConfig:
    """The keys of `worldflow doctor`."""

    out: Path | None = None  # also a JSON file


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    name: str
    value: str
    problem: str = ""  # empty if all is well
    remedy: str = ""  # the command that mends it
    fatal: bool = False  # worldflow cannot work so


def doctor(config: DoctorConfig) -> None:
    """Print what is installed and what works.

    Raises:
        InputError: `out` is already there.
        WorkError: something is missing without which worldflow cannot work.
    """
    findings = list(examine())
    if config.out is not None:
        from worldflow.info import write_new_json

        write_new_json(config.out, [asdict(finding) for finding in findings])
    for finding in findings:
        print(f"{finding.name:16}  {finding.value}")
        if finding.problem:
            print(f"{'':16}  ! {finding.problem}")
            print(f"{'':16}  > {finding.remedy}")
    fatal = [finding.name for finding in findings if finding.fatal]
    if fatal:
        raise WorkError(f"cannot work yet: see {', '.join(fatal)} above")


def examine() -> Iterator[Finding]:
    """Everything that is looked at, in the order of the report."""
    yield Finding("python", f"{platform.python_version()} ({sys.executable})")
    yield Finding("platform", platform.platform())
    versions = installed_versions()
    for name, number in versions.items():
        yield Finding(name, number)
    yield from package_problems(versions)
    if "torch" in versions:
        yield torch_device()
    if {"onnxruntime", "onnxruntime-gpu"} & versions.keys():
        yield onnx_providers()
    if {"pygame", "pygame-ce"} & versions.keys():
        yield display()
    if "torch" in versions:
        yield from shipped_worlds()


def installed_versions() -> dict[str, str]:
    """The version of each of `PACKAGES` that is installed."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def package_problems(versions: dict[str, str]) -> Iterator[Finding]:
    """Packages that are missing, or that share an import name and overwrite each other.

    Args:
        versions: the packages that are installed.
    """
    for name in ("torch", "numpy", "gymnasium", "hydra-core", "safetensors", "av"):
        if name not in versions:
            yield Finding(name, "missing", "worldflow needs it", f"pip install {name}", fatal=True)
    if not {"pygame", "pygame-ce"} & versions.keys():
        yield Finding("pygame", "missing", "no window without it", "pip install pygame", fatal=True)
    if {"pygame", "pygame-ce"} <= versions.keys():
        yield Finding(
            "pygame flavour",
            "pygame and pygame-ce",
            "both own the import name pygame, one has overwritten files of the other",
            "pip uninstall -y pygame pygame-ce && pip install pygame",
        )
    if {"onnxruntime", "onnxruntime-gpu"} <= versions.keys():
        yield Finding(
            "onnxruntime",
            "onnxruntime and onnxruntime-gpu",
            "both own the import name onnxruntime, and the GPU may be lost",
            "pip uninstall -y onnxruntime onnxruntime-gpu && pip install onnxruntime-gpu",
        )
    if "ale-py" not in versions:
        yield Finding(
            "ale-py", "missing", "no Atari games to collect from", "pip install 'worldflow[atari]'"
        )


def torch_device() -> Finding:
    """What PyTorch computes on, after it has computed something there."""
    import torch

    threads = f"{torch.get_num_threads()} threads of {os.cpu_count()} cores"
    if not torch.cuda.is_available():
        return Finding("torch device", f"cpu, {threads}")
    name = torch.cuda.get_device_name()
    try:
        torch.ones(8, device="cuda").sum().item()
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        return Finding("torch device", name, f"the GPU fails: {reason}", "use device=cpu")
    return Finding("torch device", f"cuda, {name}; cpu, {threads}")


def onnx_providers() -> Finding:
    """The providers that ONNX Runtime lists; whether one works shows only in a session."""
    try:
        import onnxruntime
    except ImportError as error:
        reason = str(error).splitlines()[0]
        return Finding(
            "onnx providers", "none", reason, "pip install --force-reinstall onnxruntime"
        )
    listed = ", ".join(onnxruntime.get_available_providers())
    return Finding("onnx providers", f"{listed} (listed, which proves nothing)")


def display() -> Finding:
    """Whether a window can be opened."""
    from worldflow.demos.window import why_no_display

    reason = why_no_display()
    return Finding("display", f"none ({reason}): films instead of windows" if reason else "found")


def shipped_worlds() -> Iterator[Finding]:
    """Each shipped world, loaded."""
    from worldflow.errors import InputError
    from worldflow.world import World, world_names

    for name in world_names():
        try:
            world = World.load(name)
        except InputError as error:
            yield Finding(
                f"world {name}", "does not load", str(error), "install worldflow again", fatal=True
            )
        else:
            yield Finding(f"world {name}", f"loads ({world.hash})")
