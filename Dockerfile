# syntax=docker/dockerfile:1
# The pipeline with its embedded weights; it runs without a network.
#
#   docker build -t bbox-mask-pose .
#   docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/work" bbox-mask-pose img.jpg
#
# GPU: the default is the CUDA build of PyTorch; run it with `--gpus all` and `--device cuda`. To compile
# the detector's operators for the GPU too, build from an image with the CUDA toolkit of that build:
#
#   docker build -t bbox-mask-pose --build-arg BASE=nvidia/cuda:13.0.2-devel-ubuntu24.04 \
#       --build-arg PYTHON=python3.12 .
#
# CPU only, several GB smaller: TORCH_INDEX is the index of the CPU builds; PyTorch's installation page
# has its address.
#
#   docker build -t bbox-mask-pose --build-arg TORCH_INDEX=https://... .

ARG BASE=debian:bookworm-slim

FROM ${BASE} AS build
ARG PYTHON=python3.11
ARG TORCH_INDEX=
ARG MAX_JOBS=2
RUN apt-get update \
    && apt-get install -y --no-install-recommends build-essential ${PYTHON} ${PYTHON}-dev ${PYTHON}-venv \
    && rm -rf /var/lib/apt/lists/*
RUN ${PYTHON} -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /opt/bbox-mask-pose
COPY requirements requirements
# A build from TORCH_INDEX satisfies the pin of the same version below.
RUN if [ -n "${TORCH_INDEX}" ]; then \
        pip install --index-url "${TORCH_INDEX}" $(grep -E '^torch(vision)?==' requirements/torch.txt); \
    fi
RUN pip install -r requirements/torch.txt -c requirements/runtime.txt -c requirements/constraints.txt
RUN SAM2_BUILD_CUDA=0 FORCE_CUDA=$(command -v nvcc >/dev/null && echo 1 || echo 0) MAX_JOBS=${MAX_JOBS} \
    pip install --no-build-isolation --no-binary xtcocotools -r requirements/openmmlab.txt \
        -c requirements/torch.txt -c requirements/runtime.txt -c requirements/constraints.txt
# Two builds of OpenCV overwrite each other; the headless one stays.
RUN pip install -r requirements/runtime.txt -c requirements/constraints.txt \
    && pip uninstall -y opencv-python opencv-python-headless \
    && pip install --no-deps $(grep '^opencv-python-headless==' requirements/runtime.txt)
COPY . .
RUN pip install --no-deps --no-build-isolation .

FROM ${BASE}
ARG PYTHON=python3.11
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgomp1 ${PYTHON} \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 10001 bmp
COPY --from=build /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 \
    HOME=/tmp MPLCONFIGDIR=/tmp/matplotlib
USER bmp
WORKDIR /work
ENTRYPOINT ["bmp", "run"]
CMD ["--help"]
