# volseg in a container: the command (target cli, the default) and the browser demo (target demo).
#
#     docker build -t volseg .
#
# PyTorch comes with CUDA unless TORCH_INDEX names the package index of another build. The networks of hippocampus and phantom are inside.
# How to run it: docs/how-to/container.md

FROM python:3.11-slim-bookworm AS base
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore \
    PYTHONUNBUFFERED=1

# The source as a wheel; what building leaves behind stays in this stage.
FROM base AS wheel
WORKDIR /source
COPY setup.cfg setup.py pyproject.toml README.md LICENSE ./
COPY volseg volseg
COPY bundles bundles
RUN python -m pip wheel --no-deps --wheel-dir /wheels .

# From what changes least to what changes most: the user, PyTorch, the other dependencies, volseg, the bundles.
FROM base AS installed
# setup.cfg makes this folder a checkout in the eyes of the bundles: what they write by default goes to its data/.
WORKDIR /volseg
RUN useradd --uid 1000 --no-create-home volseg \
    && mkdir /data /output \
    && chown volseg:volseg /output \
    && ln -s /output data
COPY constraints.txt ./
ARG TORCH_INDEX=""
RUN if [ -n "$TORCH_INDEX" ]; then \
        python -m pip install -c constraints.txt --no-deps --index-url "$TORCH_INDEX" torch; \
    else \
        python -m pip install -c constraints.txt torch; \
    fi
# A package of this name without code brings the dependencies: an edit of the source does not install them again.
COPY setup.cfg pyproject.toml ./
ARG EXTRAS="demo,dicom"
RUN mkdir volseg \
    && echo '__version__ = "0"' >volseg/__init__.py \
    && touch README.md LICENSE \
    && python -m pip install -c constraints.txt ".[$EXTRAS]" \
    && rm -rf volseg build README.md LICENSE ./*.egg-info
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    python -m pip install --no-deps /wheels/*.whl
COPY bundles bundles

# As scripts/test.sh has it: idle threads do not spin, freed memory stays at hand. A home that any user may write to.
ENV OMP_WAIT_POLICY=passive \
    MALLOC_MMAP_THRESHOLD_=4294967296 \
    MALLOC_TRIM_THRESHOLD_=8589934592 \
    MALLOC_ARENA_MAX=1 \
    HOME=/tmp
USER 1000:1000
# What Ctrl-C sends: the command says what is finished. Python as the first process would not hear the usual signal.
STOPSIGNAL SIGINT

FROM installed AS demo
EXPOSE 7860
HEALTHCHECK --interval=30s --timeout=5s --start-period=2m --retries=3 \
    CMD ["python", "-c", "import http.client as h; c = h.HTTPConnection('127.0.0.1', 7860, timeout=4); c.request('GET', '/'); raise SystemExit(c.getresponse().status != 200)"]
ENTRYPOINT ["volseg", "demo", "--host", "0.0.0.0", "--port", "7860"]
CMD ["--help"]

FROM installed AS cli
ENTRYPOINT ["volseg"]
CMD ["--help"]
