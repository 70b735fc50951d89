# syntax=docker/dockerfile:1
# Builds two images: `docker build --target auth-service .` and `--target profile-service .`.

FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
# The commit that `--version` prints: `--build-arg BUILD_COMMIT=$(git rev-parse HEAD)`.
ARG BUILD_COMMIT
# The cache mounts are not part of the image, so the programs are copied to /out.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --locked --release --no-default-features --package auth-service --package profile-service \
    && install -D --target-directory=/out target/release/auth-service target/release/profile-service

# The base image has only the C library and certificates, no shell and no package manager, and does not run as root.
FROM gcr.io/distroless/cc-debian12:nonroot AS auth-service
COPY --from=build /out/auth-service /usr/local/bin/auth-service
ENV LISTEN=0.0.0.0:50051 LOG_FORMAT=json
EXPOSE 50051
HEALTHCHECK --interval=5s --timeout=5s --start-period=30s CMD ["/usr/local/bin/auth-service", "health", "--address", "127.0.0.1:50051"]
ENTRYPOINT ["/usr/local/bin/auth-service"]
CMD ["serve"]

FROM gcr.io/distroless/cc-debian12:nonroot AS profile-service
COPY --from=build /out/profile-service /usr/local/bin/profile-service
ENV LISTEN=0.0.0.0:50052 LOG_FORMAT=json
EXPOSE 50052
HEALTHCHECK --interval=5s --timeout=5s --start-period=30s CMD ["/usr/local/bin/profile-service", "health", "--address", "127.0.0.1:50052"]
ENTRYPOINT ["/usr/local/bin/profile-service"]
CMD ["serve"]
