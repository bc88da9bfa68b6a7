"""Gymnasium environments: learned worlds, and the source games they are learned from."""

if __name__ == "envs":
    raise ImportError("import worldflow.envs, not envs")

LEARNED = {
    "worldflow/Bounce-v0": {"world": "bounce"},
    "worldflow/Breakout-v0": {"world": "breakout"},
    "worldflow/Freeway-v0": {"world": "freeway"},
    "worldflow/Pong-v0": {"world": "pong"},
    "worldflow/World-v0": {},  # gymnasium.make("worldflow/World-v0", world=PATH)
}


def register_worlds() -> None:
    """Make the project's ids known to Gymnasium; calling it again changes nothing.

    Entry points are strings, so nothing is imported before an env is made. Worlds have no
    limit registered: it stands in a world's file, and the env itself keeps it.
    """
    import gymnasium

    ids = gymnasium.registry
    if "worldflow/BounceGame-v0" not in ids:
        gymnasium.register(
            "worldflow/BounceGame-v0",
            "worldflow.envs.bounce:BounceGame",
            max_episode_steps=1000,  # as on its card: good play would never end
        )
    for env_id, kwargs in LEARNED.items():
        if env_id not in ids:
            gymnasium.register(
                env_id,
                "worldflow.envs.world_env:WorldEnv",
                vector_entry_point="worldflow.envs.world_vector_env:WorldVectorEnv",
                kwargs=dict(kwargs),
            )
