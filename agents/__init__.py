"""What can play, in a source game and in a learned world alike: policies, and their collector."""

if __name__ == "agents":
    raise ImportError("import worldflow.agents, not agents")
