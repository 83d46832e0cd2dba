"""Collects the facts once and runs every check on them."""

from __future__ import annotations

import sys

from pipeline.doctor import facts, machine, packages
from pipeline.doctor.result import CheckResult


def diagnose(run: facts.Runner = facts.run_probe) -> list[CheckResult]:
    """Run all checks on this interpreter and machine; takes up to a minute.

    Args:
        run: Runs a probe; default: in a child process.

    Returns:
        One result per check, in the order in which problems are best solved.
    """
    root = facts.PROJECT_ROOT
    installed = facts.installed_distributions()
    direct = facts.read_pins(root / 'requirements', skip=('constraints.txt',))
    every = facts.read_pins(root / 'requirements')
    # What is only needed indirectly may be missing, but not have another version.
    pins = {name: pin for name, pin in every.items() if name in direct or name in installed}
    probes = packages.probe_all(
        run,
        {
            'torch': packages.TORCH_CODE,
            'torchvision': packages.VISION_CODE,
            'mmcv': packages.MMCV_CODE,
            'cv2': packages.CV2_CODE,
            'xtcocotools': packages.XTCOCO_CODE,
            'mmdet': packages.import_code('mmdet.apis'),
            'mmpretrain': packages.import_code('mmpretrain'),
            'mmpose': packages.import_code('mmpose.apis'),
            'sam2': packages.SAM2_CODE,
        },
    )
    gpu = bool(probes['torch'].values.get('gpu'))
    return [
        packages.check_python(packages.current_python()),
        packages.check_torch(probes['torch']),
        packages.check_torchvision(probes['torchvision'], pins),
        machine.check_cuda_driver(probes['torch'], facts.nvidia_driver()),
        packages.check_twins(installed, pins),
        packages.check_mmcv_ops(probes['mmcv'], gpu, pins),
        packages.check_opencv_builds(installed, pins),
        packages.check_opencv_import(probes['cv2'], installed, pins),
        packages.check_numpy_abi(probes['xtcocotools'], pins),
        packages.check_import('mmdet.apis', 'onedl-mmdetection', probes['mmdet'], pins),
        packages.check_import('mmpretrain', 'onedl-mmpretrain', probes['mmpretrain'], pins),
        packages.check_mmpose(probes['mmpose'], installed, pins),
        packages.check_sam2(probes['sam2'], pins),
        packages.check_hydra_state(sys.modules),
        packages.check_setuptools(installed, pins),
        packages.check_pins(installed, pins),
        machine.check_checkpoints(root / 'checkpoints'),
        machine.check_disk(root),
        machine.check_memory(),
    ]
