"""Commands inside the process of a test."""

from __future__ import annotations

from collections.abc import Callable, Sequence


def exit_code(main: Callable[[Sequence[str]], int], *arguments: object) -> int:
    """Exit code of a command, which returns it or raises `SystemExit`."""
    try:
        return main([str(argument) for argument in arguments])
    except SystemExit as end:
        assert isinstance(end.code, int)
        return end.code
