# ovs-edge for several cameras on a CPU, from the repository's root:
#
#     docker build -f containers/cameras.Dockerfile -t ovs-edge:cameras .
#     docker run --rm -v "$PWD/config:/etc/ovs-edge:ro" -p 8080:8080 ovs-edge:cameras
#
# config/cameras.toml needs address = "0.0.0.0:8080" in [web] to be reached from outside of the container; recordings and
# outputs belong under /data.
FROM python:3.12-slim

WORKDIR /src
COPY . .
# hadolint ignore=DL3013
RUN pip install --no-cache-dir '.[cpu,web,video,events]' && useradd --system --create-home --groups video ovs-edge

ENV ORT_DISABLE_TELEMETRY=1 XDG_CACHE_HOME=/data/cache XDG_STATE_HOME=/data/state
RUN mkdir /data && chown ovs-edge /data
USER ovs-edge
WORKDIR /data
VOLUME /data
EXPOSE 8080
ENTRYPOINT ["ovs-run"]
CMD ["--config", "/etc/ovs-edge/cameras.toml"]
