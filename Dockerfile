# Excise in Debian 12, built:
#   docker build -t excise . && docker run -it -v excise:/root/.cache excise
FROM debian:12
WORKDIR /excise
COPY . .
# Installs what it needs by itself, and fetches LibTorch.
RUN ./bazelw build //experiments/... //models/...
CMD ["./bazelw", "run", "//experiments:table1"]
