# Builds a small image that runs as an ordinary user and brings no server of its own:
# PostgreSQL and Redis are given by META_SYNC_DATABASE_URL and META_SYNC_REDIS_URL.

FROM python:3.13-slim AS build
WORKDIR /build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_INPUT=1
# What builds the package comes from the development lock, hashes and all; it stays in this stage.
COPY requirements.lock requirements-dev.lock ./
RUN python -m venv /tools \
 && /tools/bin/pip install --quiet --require-hashes --only-binary :all: --requirement requirements-dev.lock \
 && python -m venv /opt/meta-sync \
 && /opt/meta-sync/bin/pip install --quiet --require-hashes --only-binary :all: --requirement requirements.lock
COPY pyproject.toml README.md ./
COPY src src
COPY migrations migrations
RUN /tools/bin/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir /wheels . \
 && /opt/meta-sync/bin/pip install --quiet --no-deps --no-index /wheels/*.whl

FROM python:3.13-slim
RUN useradd --system --uid 10001 --create-home --home-dir /var/lib/meta-sync meta-sync
COPY --from=build /opt/meta-sync /opt/meta-sync
ENV PATH=/opt/meta-sync/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    META_SYNC_DATA_DIR=/var/lib/meta-sync \
    META_SYNC_HOST=0.0.0.0
USER meta-sync
WORKDIR /var/lib/meta-sync
EXPOSE 8000
# 25 s to finish what was begun, then the platform may kill.
STOPSIGNAL SIGTERM
ENTRYPOINT ["meta-sync"]
CMD ["api"]
