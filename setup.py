"""Maps `configs/` and `checkpoints/` into the package; everything else is in setup.cfg."""

from setuptools import find_packages, setup

setup(
    py_modules=['bmp_command'],
    packages=[
        *find_packages(include=['pipeline', 'pipeline.*']),
        'pipeline.configs',
        'pipeline.checkpoints',
    ],
    package_dir={'pipeline.configs': 'configs', 'pipeline.checkpoints': 'checkpoints'},
    package_data={
        'pipeline': ['py.typed'],
        'pipeline.report': ['page/*'],
        'pipeline.configs': ['**/*.py', '**/*.yaml'],
        'pipeline.checkpoints': ['*.json', '*.md', '*.pt', '*.pth'],  # not downloads/
    },
)
