# The service, and every other command of prompt-processing.
FROM python:3.12-slim-bookworm AS build
WORKDIR /opt/prompt-processing
# Compiled here, once: the user that runs it may not write beside the modules, and
# each start would compile them all again, in every process that others are forked from.
ENV UV_COMPILE_BYTECODE=1
COPY requirements.lock tools/uv-version /tmp/
RUN python -m pip install --no-cache-dir "uv==$(cat /tmp/uv-version)" \
    && uv venv /opt/venv \
    && uv pip install --no-cache --python /opt/venv/bin/python --require-hashes -r /tmp/requirements.lock
COPY . .
RUN uv pip install --no-cache --python /opt/venv/bin/python --no-deps --config-setting editable_mode=compat -e . \
    && /opt/venv/bin/python -m compileall -q .

FROM python:3.12-slim-bookworm
RUN useradd --create-home --uid 1000 prompt && mkdir /state && chown prompt /state
COPY --from=build /opt /opt
ENV PATH=/opt/venv/bin:$PATH \
    PP_STATE_DIR=/state \
    OMP_NUM_THREADS=1 \
    NUMBA_CACHE_DIR=/tmp/numba
WORKDIR /opt/prompt-processing
USER 1000
EXPOSE 8080 8000
# Asks where the command answers by its settings and its arguments. Reading them
# takes a while where slots keep every core busy.
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s \
    CMD ["python", "tools/healthcheck.py"]
ENTRYPOINT ["prompt-processing"]
CMD ["serve"]
