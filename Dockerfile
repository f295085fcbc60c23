# The image that `afloat install` and the chart name: the program, its libraries, and the tools with which agents read a node's
# rules. No shell, no package manager, no root. Without Docker: `afloat image build --self --oci afloat.tar`.
ARG RUST=1.95
FROM rust:${RUST}-bookworm AS build
WORKDIR /afloat
COPY . .
RUN cargo build --release --locked

# Of the same Debian, so that the libraries are those that the program was linked with.
FROM debian:bookworm-slim AS files
RUN apt-get update && apt-get install -y --no-install-recommends iptables nftables conntrack
COPY --from=build /afloat/target/release/afloat /usr/local/bin/afloat
# Programs, what they load, and where they look for it. `cp --parents` keeps each file's place.
RUN set -eu; mkdir /image; cd /; \
    tools='iptables-nft-save ip6tables-nft-save iptables-legacy-save ip6tables-legacy-save nft conntrack'; \
    for tool in $tools; do echo "/usr/sbin/$tool"; done >/list; \
    echo /usr/local/bin/afloat >>/list; \
    find /usr/lib -path '*/xtables/*.so' >>/list; \
    cp /list /all; \
    while read -r file; do ldd "$file" | grep -o '/[^ ]*' || true; done </list | sort -u >>/all; \
    while read -r file; do cp --parents --dereference "$file" /image; done </all; \
    mkdir -m 1777 /image/tmp

FROM scratch
COPY --from=files /image /
USER 65532:65532
ENV PATH=/usr/local/bin:/usr/sbin
ENTRYPOINT ["/usr/local/bin/afloat"]
