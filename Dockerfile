# The one image of controller, proxies and hooks.
#
#   docker build -t registry.example/maesh:2.0.0 .
#   docker build -t registry.example/maesh:2.0.0 --build-arg MAESH_PURE=1 .
#   docker build -t registry.example/maesh:2.0.0 --build-arg EXTRA_PLUGINS="maesh-theirs==1.0 ./examples/plugins/maesh-stamp" .
#
# The engine and the plugins are compiled if a C compiler can be installed and MAESH_PURE is empty, and run as plain Python
# otherwise. The last step of the build stage says which the engine is; the names of wheels that the step before installs say
# it of the plugins: `py3-none-any` is plain Python. EXTRA_PLUGINS are plugins by others, as pip takes them: requirements, or
# folders that .dockerignore lets through.

ARG PYTHON_IMAGE=python:3.11-slim

FROM ${PYTHON_IMAGE} AS build
ARG EXTRA_PLUGINS=""
ARG MAESH_PURE=""
RUN test -n "${MAESH_PURE}" || { apt-get update -qq && apt-get install -qq --yes --no-install-recommends gcc libc6-dev; } || echo "No C compiler could be installed."
WORKDIR /source
COPY constraints.txt pyproject.toml setup.py README.md LICENSE ./
COPY compiling compiling
COPY maesh_core maesh_core
COPY plugins plugins
COPY examples/plugins examples/plugins
# All is resolved here, at one time and within the pinned versions; EXTRA_PLUGINS is meant to be split into words.
RUN python -m pip wheel --no-cache-dir --disable-pip-version-check --constraint constraints.txt --wheel-dir /wheels . ./plugins/* "./plugins/compress[br,zstd]" "./plugins/otel[http]" "./plugins/ratelimit[redis]" ${EXTRA_PLUGINS}
RUN python -m venv --without-pip /maesh
RUN python -m pip --python /maesh/bin/python install --no-cache-dir --disable-pip-version-check --no-index --no-deps /wheels/*.whl
RUN /maesh/bin/python -I -B -c "from maesh_core import engine; print('engine:', engine.form, engine.reason)"

FROM ${PYTHON_IMAGE}
# What installs programs is no part of a mesh.
RUN python -m pip uninstall --yes --quiet --disable-pip-version-check --root-user-action=ignore setuptools wheel pip
COPY --from=build /maesh /maesh
ENV PATH=/maesh/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 HOME=/tmp
# Numbers: Kubernetes cannot tell whether a name is root's.
USER 999:999
WORKDIR /tmp
ENTRYPOINT ["maesh"]
