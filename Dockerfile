# avssl in a container, on a CPU. In a checkout:
#
#   python -m build --wheel
#   docker build -t avssl .
#   docker run --rm -v "$PWD:/work" -u "$(id -u):$(id -g)" avssl index my_videos
#
# For GPUs: docker build --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu128 -t avssl .
FROM python:3.11-slim

# first, so that a new wheel of avssl does not install PyTorch again
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN pip install --no-cache-dir --index-url "$TORCH_INDEX" "torch>=2.9" "torchaudio>=2.9" "torchvision>=0.24"

COPY dist/avssl-*.whl /tmp/
RUN pip install --no-cache-dir /tmp/avssl-*.whl

# any user may run it: caches of weights and of compiled code need a home that is writable, and a name
RUN useradd --uid 1000 --create-home avssl && chmod 1777 /home/avssl
ENV HOME=/home/avssl USER=avssl
USER avssl
WORKDIR /work
ENTRYPOINT ["avssl"]
