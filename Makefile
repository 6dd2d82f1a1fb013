# Thin names for the commands that contributors type often; everything works without make too.
.PHONY: build test race lint bench ci full

build:
	CGO_ENABLED=0 go build -trimpath -o bin/quorlog ./cmd/quorlog

test:
	go test ./...

race:
	go test -race ./...

lint:
	gofmt -l . && go vet ./... && staticcheck ./... && go test ./internal/lint

bench: build
	./bin/quorlog bench produce

ci:
	bash .ci/run

full: # docs/TESTING.md has them one by one
	go test -p 1 -timeout 24h ./replication/simtest $$(go list ./compat/... | grep -v -e /kadm -e /kfakeserver) -full
