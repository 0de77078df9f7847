# Everything for CPUs, without compilers and without root:
#   docker build --tag backbones .
#   docker run --rm --volume "$PWD/photos:/photos:ro" --volume "$PWD/output:/output" backbones rank /photos
FROM python:3.11-slim AS build
WORKDIR /source
COPY pyproject.toml container.lock README.md LICENSE ./
COPY benchmark benchmark
RUN python -m venv /opt/backbones && \
    /opt/backbones/bin/python -m pip install --no-cache-dir --require-hashes --no-deps --requirement container.lock && \
    /opt/backbones/bin/python -m pip install --no-cache-dir --no-deps --no-build-isolation .

FROM python:3.11-slim
COPY --from=build /opt/backbones /opt/backbones
RUN useradd --create-home --uid 1000 backbones && install --directory --owner backbones /output
USER backbones
WORKDIR /output
# Embeddings, results and downloaded weights lie in /output: mount a folder there to keep them.
ENV PATH=/opt/backbones/bin:$PATH KERAS_HOME=/output/keras
VOLUME /output
ENTRYPOINT ["backbones"]
CMD ["--help"]
