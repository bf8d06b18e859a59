# The gateway as a container: docker build -t saxgw . ; docs/deployment.md tells how it is run.
#
# What is needed to run goes from the first stage into the image, which has no shell, no package manager and no pip. All
# that comes from PyPI is fixed by its hash.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
WORKDIR /src
RUN python -m venv /build && python -m venv --without-pip /opt/saxgw && rm /opt/saxgw/bin/*ctivate*
COPY requirements-build.lock requirements.lock ./
RUN /build/bin/python -m pip install --no-cache-dir --no-deps --require-hashes -r requirements-build.lock \
 && /build/bin/python -m pip --python /opt/saxgw/bin/python install --no-cache-dir --no-compile --no-deps \
      --require-hashes -r requirements.lock
COPY pyproject.toml hatch_build.py README.md LICENSE CHANGELOG.md ./
COPY protos protos
COPY saxgw saxgw
ARG VERSION=0.1.0
RUN /build/bin/python -m pip --python /opt/saxgw/bin/python install --no-cache-dir --no-compile --no-deps . \
 && /build/bin/python -m pip --python /opt/saxgw/bin/python check \
 && test "$(/opt/saxgw/bin/saxgw --version)" = "saxgw ${VERSION}"
COPY deploy/image/root_fs.py ./
RUN python root_fs.py /root-fs /opt/saxgw

FROM scratch
ARG PYTHON_IMAGE
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="saxgw" \
      org.opencontainers.image.description="A gRPC and HTTP/JSON gateway in front of a Saxml cell" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="${PYTHON_IMAGE}"
COPY --from=build /root-fs /
# Inside a container loopback reaches nobody; who may reach the published ports is for the network to say.
ENV PATH=/opt/saxgw/bin \
    LANG=C.UTF-8 \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt \
    SAXGW_HOST=0.0.0.0 \
    SAXGW_HTTP_PORT=8888 \
    SAXGW_GRPC_PORT=50051 \
    SAXGW_ADMIN_PORT=8889
USER 65532:65532
EXPOSE 8888 8889 50051
STOPSIGNAL SIGTERM
# Not urllib, which would go through the proxy where there is one. The admin server never asks for keys or for TLS.
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s CMD ["python", "-c", "\
import http.client, os, sys\n\
admin = http.client.HTTPConnection('127.0.0.1', int(os.environ['SAXGW_ADMIN_PORT']), timeout=2)\n\
admin.request('GET', '/livez')\n\
sys.exit(admin.getresponse().status != 200)"]
ENTRYPOINT ["saxgw"]
CMD ["serve"]
