"""The version of this project: its one source, which pyproject.toml reads too."""

__version__ = "0.1.0"
