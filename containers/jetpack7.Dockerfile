# ovs-edge on JetPack 7, from the repository's root, on the board:
#
#     docker build -f containers/jetpack7.Dockerfile -t ovs-edge:jetpack7 .
#     docker run --rm --runtime nvidia -v "$PWD/results:/results" ovs-edge:jetpack7
#
# Prints the table of speed. With photos of what the camera will see, INT8 as well: -v "$PWD/photos:/photos" … /photos
# JetPack 7 runs the images for Arm servers: this one holds TensorRT 10.13 on CUDA 13, the first with Thor.
ARG BASE=nvcr.io/nvidia/tensorrt:25.08-py3
FROM ${BASE}

# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends build-essential python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/*

# TensorRT's Python module is the image's.
ENV PATH=/opt/ovs/bin:/usr/local/cuda/bin:$PATH CUDA_ROOT=/usr/local/cuda OVS_RESULTS=/results
RUN python3 -m venv --system-site-packages /opt/ovs

WORKDIR /src
COPY . .
# No camera with GStreamer in here: OpenCV is PyPI's. The compiler for pycuda is the image's CUDA toolkit.
# hadolint ignore=DL3013
RUN pip install --no-cache-dir '.[cpu,tensorrt,calibrate,demo,report]'

WORKDIR /results
ENTRYPOINT ["/src/scripts/jetson-table"]
