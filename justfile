# What a developer runs. `just` alone lists it.

_list:
    @just --list --unsorted

# All that is checked before a change is taken
ci:
    bash .ci/run

# The tests
test *args:
    cargo test --workspace {{ args }}

# So many seeds of the simulation, or one again with its story: just sim 10000; just sim --seed 17 --story
sim *args:
    cargo run --locked -p redrive-simulation --example simulate -- {{ args }}

# Clippy, with each warning an error
lint:
    cargo clippy --workspace --all-targets --locked -- -D warnings

# Format the code
fmt:
    cargo fmt --all

# The documentation of the crates
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked

# See it work, on real files
demo:
    cargo run --release -- demo

# Everything in one process, for developing against
dev *args:
    cargo run --locked -- dev {{ args }}

# Write the fixtures that are missing (those that stand are never written again), and docs/asyncapi.yaml
bless:
    REDRIVE_BLESS=1 cargo test -p redrive-domain --test fixtures
    REDRIVE_BLESS=1 cargo test -p redrive-gateway --lib asyncapi

# What the gateway answers against OpenAPI documents: its own, and those of the services that it speaks like
contract:
    REDRIVE_CONTRACT=full cargo test --locked -p redrive-gateway --test contract -- --nocapture

# Licences, advisories, sources and bans of dependencies (cargo install --locked cargo-deny)
deny:
    cargo deny check

# How fast it is on this machine; see docs/performance.md
bench *args:
    cargo run --release --locked -- bench {{ args }}
