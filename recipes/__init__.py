"""The recipes that ship with mrigen, read through `importlib.resources`."""
