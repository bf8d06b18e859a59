# The gateway as a container: docker build -t saxgw . && docker run -e SAX_ROOT=gs://bucket/dir -p 8888:8888 -p 50051:50051 saxgw
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
WORKDIR /src
COPY pyproject.toml hatch_build.py README.md LICENSE CHANGELOG.md ./
COPY protos protos
COPY saxgw saxgw
RUN python -m venv /opt/saxgw && /opt/saxgw/bin/python -m pip install --no-cache-dir --disable-pip-version-check .

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="saxgw" \
      org.opencontainers.image.description="A gRPC and HTTP/JSON gateway in front of a Saxml cell" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/saxgw /opt/saxgw
# Inside a container loopback reaches nobody; who may reach the published ports is for the network to say.
ENV PATH=/opt/saxgw/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    SAXGW_HOST=0.0.0.0
USER 65532:65532
EXPOSE 8888 50051
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8888/', timeout=2)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["saxgw"]
CMD ["serve"]
