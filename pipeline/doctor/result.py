"""The outcome of one check."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal['OK', 'WARN', 'FAIL']


@dataclass(frozen=True)
class CheckResult:
    """What one check found.

    Attributes:
        name: Short name of the check, e.g. 'mmcv-ops'.
        status: 'OK'; 'WARN': works, but slower or fragile; 'FAIL': the pipeline will not run.
        detail: What was found, in one sentence.
        cure: The exact command or step that helps; only empty when the status is 'OK'.

    Raises:
        ValueError: A finding without a cure.
    """

    name: str
    status: Status
    detail: str
    cure: str = ''

    def __post_init__(self) -> None:
        if self.status != 'OK' and not self.cure:
            raise ValueError(f'check {self.name!r} is {self.status} and must name a cure')


def ok(name: str, detail: str) -> CheckResult:
    """Return a passed check."""
    return CheckResult(name, 'OK', detail)


def warn(name: str, detail: str, cure: str) -> CheckResult:
    """Return a finding that does not stop the pipeline."""
    return CheckResult(name, 'WARN', detail, cure)


def fail(name: str, detail: str, cure: str) -> CheckResult:
    """Return a finding that stops the pipeline."""
    return CheckResult(name, 'FAIL', detail, cure)
