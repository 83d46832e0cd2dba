"""Finds what is wrong with an installation and names the cure: python -m pipeline.doctor.

Needs nothing but the standard library, so that it works when torch, mmcv or NumPy do not.
"""

from pipeline.doctor.diagnose import diagnose
from pipeline.doctor.result import CheckResult, Status

__all__ = ['CheckResult', 'Status', 'diagnose']
