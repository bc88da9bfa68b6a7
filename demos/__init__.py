"""What a person sees: the pygame player and rollout films."""

if __name__ == "demos":
    raise ImportError("import worldflow.demos, not demos")
