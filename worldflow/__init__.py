"""worldflow: a causal normalizing-flow world model that you can play and train agents in."""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

__version__ = "0.1.0"


def _register_worlds() -> None:
    from worldflow.envs import register_worlds

    register_worlds()


class _WhenGymnasiumIsImported(MetaPathFinder):
    """Registers the environments as soon as Gymnasium has been imported, by whomever.

    Importing it here would cost every command 0.3 s, and the training core does without it.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "gymnasium":
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        found = (finder.find_spec(fullname, path, target) for finder in others)
        spec = next(filter(None, found), None)
        if spec is None or spec.loader is None:
            return None
        run = spec.loader.exec_module

        def run_then_register(module: ModuleType) -> None:
            run(module)
            sys.meta_path.remove(self)
            _register_worlds()

        # On the loader that was found, so that resources and sources are still its own.
        spec.loader.exec_module = run_then_register  # type: ignore[method-assign]
        return spec


if sys.modules.get("gymnasium"):
    _register_worlds()
else:
    sys.meta_path.insert(0, _WhenGymnasiumIsImported())
