# The steps of tests/run.sh, which works without just.

# Lists the recipes
default:
    @just --list

# Lints, documentation and all tests, as CI runs them
check:
    tests/run.sh --no-install

# Installs what the tests need
install:
    tests/run.sh install

# Formats the code
fmt:
    tests/run.sh fmt

# Style, clippy, licences and advisories
lint:
    tests/run.sh lint

# Builds the documentation; a broken link is an error
doc *args:
    tests/run.sh doc {{args}}

# Unit tests and each crate's own tests; needs no services
test *args:
    tests/run.sh test {{args}}

# The built programs with the real engine, Kafka and SDKs
it *args:
    tests/run.sh it {{args}}

# Runs the benchmarks
bench *args:
    tests/run.sh bench {{args}}

# Anchors of the audit chain at a real S3 server
s3:
    tests/run.sh s3

# Fuzzes the dialects: [SECONDS [TARGET]]
fuzz *args:
    tests/run.sh fuzz {{args}}

# Rewrites the dialects' golden snapshots
bless:
    tests/run.sh bless
