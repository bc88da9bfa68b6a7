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
    "tqdm",
    "pillow",
    "av",
    "onnx",
    "onnxscript",
    "onnxruntime",
    "onnxruntime-gpu",
    "ale-py",
)
NEEDED = ("torch", "numpy", "gymnasium", "hydra-core", "safetensors", "tqdm", "pillow", "av")
EXPORT = "worldflow export and engine=onnx cannot make an .onnx", "pip install 'worldflow[export]'"
WANTED = {  # what is missed without it, and the remedy
    "onnx": EXPORT,
    "onnxscript": EXPORT,
    "ale-py": ("no Atari games to collect from", "pip install 'worldflow[atari]'"),
}


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
        yield from onnx_providers()
    if {"pygame", "pygame-ce"} & versions.keys():
        yield pygame_flavour()
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
    for name in NEEDED:
        if name not in versions:
            yield Finding(name, "missing", "worldflow needs it", f"pip install {name}", fatal=True)
    if not {"pygame", "pygame-ce"} & versions.keys():
        yield Finding("pygame", "missing", "no window without it", "pip install pygame", fatal=True)
    yield from _shared_names(versions)
    if not {"onnxruntime", "onnxruntime-gpu"} & versions.keys():
        yield Finding(
            "onnxruntime",
            "missing",
            "no .onnx plays without it",
            f"pip install {_onnxruntime()}",
        )
    for name, (problem, remedy) in WANTED.items():
        if name not in versions:
            yield Finding(name, "missing", problem, remedy)


def _shared_names(versions: dict[str, str]) -> Iterator[Finding]:
    """Two packages with one import name: the later has overwritten files of the earlier."""
    if {"pygame", "pygame-ce"} <= versions.keys():
        yield Finding(
            "pygame, twice",
            "pygame and pygame-ce",
            "both own the import name pygame, one has overwritten files of the other",
            "pip uninstall -y pygame pygame-ce && pip install pygame",
        )
    if {"onnxruntime", "onnxruntime-gpu"} <= versions.keys():
        yield Finding(
            "onnxruntime, twice",
            "onnxruntime and onnxruntime-gpu",
            "both own the import name onnxruntime, and the GPU may be lost",
            f"pip uninstall -y onnxruntime onnxruntime-gpu && pip install {_onnxruntime()}",
        )


def _onnxruntime() -> str:
    """The package for this machine; that for GPUs runs on CPUs, too, where there is a wheel."""
    on_linux = sys.platform == "linux" and platform.machine() == "x86_64"
    return "onnxruntime-gpu" if on_linux or sys.platform == "win32" else "onnxruntime"


def torch_device() -> Finding:
    """What PyTorch computes on, after it has computed something there."""
    import torch

    from worldflow.onnx_session import driver_obstacle
    from worldflow.playable import why_torch_has_no_gpu

    threads = f"cpu, {torch.get_num_threads()} threads of {os.cpu_count()} cores"
    built_for = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built for CPUs"
    why_not = why_torch_has_no_gpu()
    if not why_not:
        name = torch.cuda.get_device_name()
        return Finding("torch device", f"cuda, {name}; {threads}; {built_for}")
    value = f"{threads}; {built_for}"
    if driver_obstacle() is not None:  # nothing that this PyTorch could use
        return Finding("torch device", value)
    remedy = "pip install --force-reinstall torch, or update the NVIDIA driver; or use device=cpu"
    return Finding("torch device", value, f"there is a GPU, but {why_not}", remedy)


def onnx_providers() -> Iterator[Finding]:
    """The providers of ONNX Runtime, each after a model has run by it.

    What it lists proves nothing: it lists CUDA on machines without a GPU, too.
    """
    from worldflow.onnx_session import TENSORRT, driver_obstacle, try_device

    try:
        import onnxruntime

        listed = onnxruntime.get_available_providers()
    except (ImportError, AttributeError) as error:  # half of a package that was overwritten
        reason = str(error).splitlines()[0]
        remedy = f"pip install --force-reinstall {_onnxruntime()}"
        yield Finding("onnx providers", "none", reason, remedy)
        return
    cuda = getattr(onnxruntime, "cuda_version", "")
    built_for = f"built for CUDA {cuda}" if cuda else "built for CPUs"
    yield Finding("onnx providers", f"{', '.join(listed)} (listed); {built_for}")
    for device in ("cpu", "cuda", *(["tensorrt"] if TENSORRT in listed else [])):
        obstacle = try_device(device)
        if obstacle is None:
            yield Finding(f"onnx {device}", "a model has run")
        elif device == "cuda" and driver_obstacle() is None:
            remedy = obstacle.remedy or "use device=cpu"
            yield Finding(f"onnx {device}", "there is a GPU", obstacle.reason, remedy)
        else:  # nothing is wrong with this installation: no GPU, or an extra that is not there
            yield Finding(f"onnx {device}", f"does not load: {obstacle.reason}")


def pygame_flavour() -> Finding:
    """Which pygame is imported, and its SDL."""
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    import pygame

    flavour = "pygame-ce" if getattr(pygame, "IS_CE", False) else "pygame"
    sdl = ".".join(map(str, pygame.get_sdl_version()))
    return Finding("pygame flavour", f"{flavour} {pygame.version.ver}, SDL {sdl}")


def display() -> Finding:
    """Whether a window can be opened, and by which driver of SDL."""
    import pygame

    from worldflow.demos.window import why_no_display

    reason = why_no_display()
    if not reason:
        driver = pygame.display.get_driver()
        pygame.display.quit()
        return Finding("display", f"SDL driver {driver}")
    told = f"none ({reason}): films instead of windows"
    if os.environ.get("SDL_VIDEODRIVER") in ("dummy", "offscreen"):
        return Finding("display", told, "SDL is told to show nothing", "unset SDL_VIDEODRIVER")
    return Finding("display", told)


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
