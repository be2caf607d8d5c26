# Images of Storefleet. Build from the root of the checkout:
#
#   docker build --target agent      -t storefleet/agent:0.1.0 .
#   docker build --target controller -t storefleet/controller:0.1.0 .
#
# BASE is any Debian 12 (or newer) image with Python 3.11 or later as python3, venv included; pin it by
# digest for a reproducible image. Nothing here is tied to a processor architecture.
ARG BASE=docker.io/library/python:3.11-slim-bookworm

# ---- builder: a virtual environment for each program; compilers and pip's cache stay behind ----------
FROM ${BASE} AS builder
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /src
# The versions of constraints/run.txt. Its hashes cannot be checked together with a local directory.
COPY constraints/run.txt constraints/run.txt
RUN sed -e '/^ *--hash/d' -e 's/ *\\$//' constraints/run.txt > /pins.txt
COPY pyproject.toml README.md LICENSE ./
COPY contract contract
COPY agent agent
COPY controller controller
COPY storefleet storefleet

FROM builder AS build-agent
RUN python3 -m venv /opt/storefleet && /opt/storefleet/bin/pip install --constraint /pins.txt '.[agent]' \
    && /opt/storefleet/bin/pip uninstall -y pip setuptools

FROM builder AS build-controller
RUN python3 -m venv /opt/storefleet && /opt/storefleet/bin/pip install --constraint /pins.txt '.[controller]' \
    && /opt/storefleet/bin/pip uninstall -y pip setuptools

# ---- what both programs run on -----------------------------------------------------------------------
FROM ${BASE} AS runtime
ENV PATH=/opt/storefleet/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
RUN groupadd --gid 10001 storefleet \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/storefleet storefleet \
    && install -d -m 0750 -o 10001 -g 10001 /var/lib/storefleet /run/storefleet
WORKDIR /var/lib/storefleet
LABEL org.opencontainers.image.licenses="AGPL-3.0-or-later" \
      org.opencontainers.image.vendor="Storefleet"

# ---- the in-store agent: no compiler, no PyTorch, a read-only root file system is enough --------------
FROM runtime AS agent
# OpenCV links to libGL and GLib.
RUN apt-get update && apt-get install -y --no-install-recommends libgl1 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build-agent /opt/storefleet /opt/storefleet
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

# ---- the central controller --------------------------------------------------------------------------
FROM runtime AS controller
COPY --from=build-controller /opt/storefleet /opt/storefleet
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
