# Serves a mounted gallery: docker run -p 8080:8080 -v "$PWD:/galleries:ro" imgret /galleries/photos.imgret --token auto
FROM python:3.13-slim AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY src ./src
RUN python -m venv /opt/imgret && /opt/imgret/bin/pip install --no-cache-dir '.[serve,text]'

FROM python:3.13-slim
COPY --from=build /opt/imgret /opt/imgret
RUN useradd --create-home --uid 10001 imgret
USER 10001
WORKDIR /galleries
ENV PATH=/opt/imgret/bin:$PATH \
    PYTHONUNBUFFERED=1
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8080/healthz')"]
ENTRYPOINT ["imgret", "serve", "--host", "0.0.0.0", "--port", "8080"]
CMD ["/galleries/photos.imgret"]
