"""The defaults of every verb, `VERB.yaml`; a folder holds the choices of a config group."""

from importlib.resources import files


def option_names(group: str) -> list[str]:
    """The choices of a config group, `GROUP/*.yaml`; empty if there is no such group."""
    folder = files(__name__) / group
    if not folder.is_dir():
        return []
    names = (entry.name for entry in folder.iterdir())
    return sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml"))


def describe(verb: str) -> str:
    """A verb's keys, defaults and comments: its YAML, with each group's chosen option spelt out."""
    text = (files(__name__) / f"{verb}.yaml").read_text(encoding="utf-8")
    lines = []
    for line in _body(text):
        group, _, option = line.removeprefix("  - ").partition(": ")
        if line.startswith("  - ") and option:  # of the defaults list
            lines.append(f"{group}: {option}  # one of: {', '.join(option_names(group))}")
            chosen = (files(__name__) / group / f"{option}.yaml").read_text(encoding="utf-8")
            lines += [f"  {group}.{key}" for key in _body(chosen)]
        elif not line.startswith(("defaults:", "  - _self_")):
            lines.append(line)
    return "\n".join(lines)


def _body(text: str) -> list[str]:
    """The lines that are not blank or a whole-line comment."""
    return [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
