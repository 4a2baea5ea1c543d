# For a release by its digest (docs/operating.md): --build-arg PYTHON=python:3.13-slim-bookworm@sha256:…
ARG PYTHON=python:3.13-slim-bookworm

FROM $PYTHON AS build
# Any compiler that Debian has will do, so none is pinned.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
RUN python -m venv --without-pip /venv
ENV PATH=/venv/bin:$PATH PIP_PYTHON=/venv/bin/python
WORKDIR /build
COPY requirements.txt .
RUN pip install --no-cache-dir --require-hashes --requirement requirements.txt
# Argon2 for processors with AVX2 hashes twice as fast as the wheel for every processor. Where it cannot be built or
# does not run, and with an empty ARGON2_MARCH, the wheel stays. What builds it is pinned too, and stays here.
ARG ARGON2_MARCH=x86-64-v3
COPY docker/argon2.txt .
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
RUN if [ -n "$ARGON2_MARCH" ] && [ "$(dpkg --print-architecture)" = amd64 ]; then \
        sed '/^argon2-cffi-bindings==/,/[^\\]$/!d' requirements.txt > bindings.txt; \
        again=(pip install --no-cache-dir --force-reinstall --no-deps); \
        if ! { python -m venv --without-pip /builder \
               && export PIP_NO_CACHE_DIR=1 CFLAGS="-O3 -march=$ARGON2_MARCH" \
               && pip --python /builder/bin/python install --require-hashes --requirement argon2.txt \
               && pip --python /builder/bin/python wheel --no-build-isolation --no-deps --wheel-dir built \
                  --no-binary argon2-cffi-bindings --require-hashes --requirement bindings.txt \
               && "${again[@]}" --no-index built/*.whl \
               && python -c "import argon2; argon2.PasswordHasher().hash('x')"; }; then \
            "${again[@]}" --require-hashes --requirement bindings.txt; \
        fi; \
        rm -rf /builder built; \
    fi
# More packages, divided by spaces, such as django-anymail (docs/operating.md).
ARG EXTRA_PACKAGES=
# hadolint ignore=DL3013
RUN if [ -n "$EXTRA_PACKAGES" ]; then echo "$EXTRA_PACKAGES" | xargs pip install --no-cache-dir; fi

# What is in /venv, with its licences. For a release: docker build --target sbom --output . .
FROM build AS components
COPY docker/sbom.txt .
RUN python -m venv --without-pip /lister \
    && pip --python /lister/bin/python install --no-cache-dir --require-hashes --requirement sbom.txt \
    && /lister/bin/cyclonedx-py environment --output-reproducible --output-file /sbom.cdx.json /venv
FROM scratch AS sbom
COPY --from=components /sbom.cdx.json /

FROM $PYTHON
# Which build it is, in a label and in /metrics (docs/operating.md, "Versions").
ARG VERSION=1.0.0
# Nothing is installed at run time.
RUN pip uninstall --yes --root-user-action=ignore pip setuptools wheel \
    && rm -r /usr/local/lib/python3.*/ensurepip \
    && groupadd --gid 10001 app \
    && useradd --uid 10001 --gid app --no-log-init --no-create-home --shell /usr/sbin/nologin app
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 STATIC_ROOT=/app/staticroot SERVICE_VERSION=$VERSION GRANIAN_LOG_CONFIG=project/granian_log.json
WORKDIR /app
COPY --from=build /venv /venv
COPY . .
# The settings need values. This step does not use them, and none of them stays in the image.
RUN SECRET_KEY=unused PUBLIC_URL=http://unused DATABASE_URL=postgres://unused/unused REDIS_URL=redis://unused \
    EMAIL_URL=smtp://unused S3_ACCESS_KEY_ID=unused S3_SECRET_ACCESS_KEY=unused \
    python manage.py collectstatic --noinput --verbosity 0 \
    && python -m compileall -q accounts api project
ARG REVISION=
ARG SOURCE=
LABEL org.opencontainers.image.title="User Service" \
      org.opencontainers.image.description="Accounts for browsers and apps: one set of rules, two faces." \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.source="$SOURCE"
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=10s --start-period=60s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/livez', timeout=8)"]
CMD ["granian", "--interface", "wsgi", "--host", "0.0.0.0", "--port", "8000", "--no-ws", \
     "--workers", "2", "--blocking-threads", "4", "--respawn-failed-workers", "--workers-kill-timeout", "10", \
     "--static-path-route", "/static", "--static-path-mount", "/app/staticroot", "project.wsgi:application"]
