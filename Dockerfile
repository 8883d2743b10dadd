# A broker that runs as nobody and writes nothing:
#
#     docker build -t tercet .
#     docker run --read-only --cap-drop ALL --security-opt no-new-privileges -p 127.0.0.1:8080:8080 tercet
#
# With a configuration of your own: -v ./tercet.toml:/etc/tercet/tercet.toml:ro

FROM python:3.12-slim AS build
COPY . /src
RUN python -m venv /opt/tercet
RUN /opt/tercet/bin/pip install --no-cache-dir /src

FROM python:3.12-slim
COPY --from=build /opt/tercet /opt/tercet
COPY config/container.toml /etc/tercet/tercet.toml
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 PATH=/opt/tercet/bin:$PATH
USER 65534:65534
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8080/health', timeout=2)"]
ENTRYPOINT ["tercet"]
CMD ["serve", "--config", "/etc/tercet/tercet.toml"]
