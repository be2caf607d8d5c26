# Images of Storefleet. Build from the root of the checkout:
#
#   docker build --target agent      -t storefleet/agent:0.1.0 .
#   docker build --target agent-gpu  -t storefleet/agent-gpu:0.1.0 .    # for a GPU of Intel's
#   docker build --target controller -t storefleet/controller:0.1.0 .
#   docker build --target sim        -t storefleet/sim:0.1.0 .
#   docker build --target trainer    -t storefleet/trainer:0.1.0 .      # PyTorch: about 7 GB
#
# BASE is any Debian 12 (or newer) image with Python 3.11 or later as python3, venv included. Pin it by
# digest for an image that can be built again:
#   --build-arg BASE=docker.io/library/python:3.11-slim-bookworm@sha256:...
# Nothing here is tied to a processor architecture. docs/images.md says what is in an image and why.
ARG BASE=docker.io/library/python:3.11-slim-bookworm

# ---- tools: what builds; none of it reaches an image -------------------------------------------------
FROM ${BASE} AS tools
# For builds behind a proxy or a mirror: a CA file, the index.
ARG PIP_CERT
ARG PIP_INDEX_URL
ENV PIP_CERT=${PIP_CERT} PIP_INDEX_URL=${PIP_INDEX_URL} PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /src
COPY constraints/build.txt constraints/build.txt
COPY scripts/image_build.sh /usr/local/bin/image_build
RUN image_build prepare constraints/build.txt

# ---- packages: each program's dependencies, every hash checked. Changes only when they do ------------
FROM tools AS agent-packages
COPY constraints/agent.txt constraints/agent-unused.txt constraints/agent-unused-gpu.txt constraints/
RUN image_build packages constraints/agent.txt constraints/agent-unused.txt constraints/agent-unused-gpu.txt

FROM tools AS agent-gpu-packages
COPY constraints/agent.txt constraints/agent-unused-gpu.txt constraints/
RUN image_build packages constraints/agent.txt && image_build only constraints/agent-unused-gpu.txt

FROM tools AS controller-packages
COPY constraints/controller.txt constraints/
RUN image_build packages constraints/controller.txt

FROM tools AS sim-packages
COPY constraints/sim.txt constraints/
RUN image_build packages constraints/sim.txt

FROM tools AS trainer-packages
COPY constraints/models.txt constraints/
RUN image_build packages constraints/models.txt

# ---- programs: this checkout, a layer of 0.6 MB: what an update of the program sends to a store --
FROM tools AS project
COPY pyproject.toml README.md LICENSE ./
COPY contract contract
COPY storefleet storefleet

FROM project AS agent-program
COPY agent agent
RUN image_build program

FROM project AS controller-program
COPY controller controller
RUN image_build program

FROM project AS sim-program
COPY camera_sims camera_sims
RUN image_build program

# ---- what all of them run on -------------------------------------------------------------------------
FROM ${BASE} AS runtime
ARG BASE
ENV PATH=/opt/storefleet/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/var/lib/storefleet
# The official Python images come without bytecode; on a read-only root each start would compile anew.
RUN groupadd --gid 10001 storefleet \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/storefleet storefleet \
    && install -d -m 0750 -o 10001 -g 10001 /var/lib/storefleet /run/storefleet \
    && python3 -m compileall -q -x '/(dist-packages|site-packages|test|tests|idlelib|lib2to3|ensurepip)/' \
        "$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')"
WORKDIR /var/lib/storefleet
LABEL org.opencontainers.image.licenses="AGPL-3.0-or-later" \
      org.opencontainers.image.vendor="Storefleet" \
      org.opencontainers.image.base.name="${BASE}"

# ---- the in-store agent: no compiler, no PyTorch, a read-only root file system is enough --------------
FROM runtime AS agent
COPY --from=agent-packages /layer /
COPY --from=agent-program /layer /
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Storefleet agent" \
      org.opencontainers.image.description="Detects what stands on the shelves and reports it" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
USER 10001:10001
HEALTHCHECK --interval=15s --timeout=10s --start-period=180s --retries=4 \
    CMD ["storefleet", "agent", "health", "--live"]
CMD ["storefleet", "agent", "run"]

# ---- the same with what a GPU of Intel's needs: OpenVINO's plugin, and the OpenCL driver of the base's Debian,
# which has one for the processors that come with such a GPU ---------------------------------------------
FROM agent AS agent-gpu
USER 0:0
RUN apt-get update && apt-get install -y --no-install-recommends intel-opencl-icd \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/*
COPY --from=agent-gpu-packages /layer /
LABEL org.opencontainers.image.title="Storefleet agent for Intel GPUs"
USER 10001:10001

# ---- the central controller --------------------------------------------------------------------------
FROM runtime AS controller
COPY --from=controller-packages /layer /
COPY --from=controller-program /layer /
ARG VERSION=0.1.0
ARG REVISION=unknown
ENV STOREFLEET_CONTROLLER_DATA_DIR=/var/lib/storefleet STOREFLEET_CONTROLLER_API_HOST=0.0.0.0
LABEL org.opencontainers.image.title="Storefleet controller" \
      org.opencontainers.image.description="Releases out to stores, inventory events back" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
USER 10001:10001
VOLUME /var/lib/storefleet
EXPOSE 8080
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=4 \
    CMD ["python3", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8080/health', timeout=4)"]
CMD ["storefleet", "controller", "run"]

# ---- simulated stores --------------------------------------------------------------------------------
FROM runtime AS sim
# The RTSP server runs in Debian's own Python, for which alone GStreamer's bindings are built.
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 python3-gi gir1.2-gst-rtsp-server-1.0 \
        gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-ugly \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/*
COPY --from=sim-packages /layer /
COPY --from=sim-program /layer /
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Storefleet simulator" \
      org.opencontainers.image.description="Simulated stores: RTSP cameras with ground truth" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
USER 10001:10001
HEALTHCHECK --interval=15s --timeout=10s --start-period=60s --retries=4 \
    CMD ["storefleet", "sim", "faults", "--run", "/var/lib/storefleet/sim", "--json"]
CMD ["storefleet", "sim", "run", "--out", "/var/lib/storefleet/sim", "--bind", "0.0.0.0"]

# ---- training, export and evaluation: Ultralytics and PyTorch with CUDA -------------------------------
FROM runtime AS trainer
# Ultralytics wants the OpenCV that has windows, which links to libGL and GLib.
RUN apt-get update && apt-get install -y --no-install-recommends libgl1 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/*
COPY --from=trainer-packages /layer /
COPY --from=controller-program /layer /
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Storefleet trainer" \
      org.opencontainers.image.description="Trains, exports and evaluates YOLO models" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
USER 10001:10001
# A command that ends; nothing to watch.
HEALTHCHECK NONE
CMD ["storefleet", "models", "--help"]
