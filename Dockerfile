# docker build --tag embeddings-server .          (BuildKit; or podman build)
# Tags move: to build the same image again, give the base by its digest: --build-arg BASE=python@sha256:...
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
RUN python -m venv /opt/embeddings
WORKDIR /src
COPY .ci/lock.txt .ci/lock-extras.txt .ci/
# Exactly what the locks name, each file by its hash: a changed one is refused.
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/embeddings/bin/python -m pip install --disable-pip-version-check --no-deps --require-hashes \
    --requirement .ci/lock.txt --requirement .ci/lock-extras.txt
COPY pyproject.toml setup.py README.md LICENSE ./
COPY templates templates
COPY providers providers
COPY embeddings embeddings
COPY media_jobs media_jobs
COPY embeddings_project embeddings_project
RUN /opt/embeddings/bin/python -m pip install --disable-pip-version-check --no-deps --no-build-isolation --no-index . \
    && /opt/embeddings/bin/python -m pip uninstall --yes setuptools
# The default model, fetched by its hash and prepared, so that a container starts without a network.
RUN export DATA_DIR=/tmp/data \
    && /opt/embeddings/bin/embeddings-server migrate --verbosity 0 \
    && /opt/embeddings/bin/embeddings-server download_model \
    && mkdir /opt/models \
    && mv /tmp/data/prepared /tmp/data/tiktoken /opt/models/ \
    && rm -r /tmp/data \
    && chmod -R u=rwX,go=rX /opt/models

FROM ${BASE}
LABEL org.opencontainers.image.title="embeddings-server" \
      org.opencontainers.image.description="A self-hosted, OpenAI-compatible embeddings server" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/embeddings /opt/embeddings
COPY --from=build /opt/models /opt/models
COPY deploy/docker-entrypoint /opt/embeddings/bin/
# Nothing of the image is written to: data in /data, all else in /tmp.
RUN install --directory --owner=10001 --group=10001 --mode=0700 /data
ENV PATH="/opt/embeddings/bin:$PATH" \
    HOME=/tmp \
    DATA_DIR=/data \
    HOST=0.0.0.0 \
    PORT=8000
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen('http://127.0.0.1:' + os.environ['PORT'] + '/healthz', timeout=4)"]
ENTRYPOINT ["docker-entrypoint"]
CMD ["serve"]
