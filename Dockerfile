# The page, with its models:
#
#     docker build -t fbinpaint .                                          # for CPUs
#     docker build -t fbinpaint --build-arg TORCH=https://download.pytorch.org/whl/cu130 .
#     docker run --rm -p 7860:7860 [--gpus all] --memory 4g fbinpaint      # http://127.0.0.1:7860
#
# Others than the bundled models: -e FBINPAINT_MODELS="USER/NAME ...".
FROM python:3.11-slim
ARG TORCH=https://download.pytorch.org/whl/cpu

RUN useradd --uid 1000 --create-home visitor
WORKDIR /app
COPY pyproject.toml README.md LICENSE ./
COPY deploy/install.sh deploy/
COPY fbinpaint fbinpaint
RUN deploy/install.sh /opt/fbinpaint . --extra-index-url "$TORCH"
COPY app.py ./
COPY checkpoints checkpoints

USER visitor
ENV GRADIO_SERVER_NAME=0.0.0.0 GRADIO_SERVER_PORT=7860
EXPOSE 7860
HEALTHCHECK --start-period=2m --timeout=10s CMD ["/opt/fbinpaint/bin/python", "-c", "import os, urllib.request as u; u.urlopen('http://127.0.0.1:' + os.environ['GRADIO_SERVER_PORT'] + '/config', timeout=9)"]
CMD ["/opt/fbinpaint/bin/python", "app.py"]
