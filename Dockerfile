# The proxy alone: `docker run -v $PWD/config:/config -p 8080:8080 waitroom serve --config /config/waitroom.yaml`.
# In the configuration listen on 0.0.0.0. Keys and record stand in /config/var unless it says otherwise: keep that on a
# volume that the user below may write, for new keys would lose every place.
FROM python:3.11-slim AS build
WORKDIR /src
COPY . .
RUN pip wheel --no-cache-dir --wheel-dir /wheels .

FROM python:3.11-slim
RUN useradd --system --create-home waitroom
COPY --from=build /wheels /wheels
RUN pip install --no-cache-dir --no-index --find-links /wheels waitroom && rm -rf /wheels
USER waitroom
WORKDIR /home/waitroom
EXPOSE 8080
STOPSIGNAL SIGTERM
ENTRYPOINT ["waitroom"]
CMD ["--help"]
