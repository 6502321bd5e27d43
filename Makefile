# A thin door to CMake (CMakePresets.json) and scripts/. `make` alone says what there is.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
JOBS ?= $(shell nproc 2>/dev/null || sysctl -n hw.ncpu)
ARGS ?=
TARGET ?=
SECONDS ?= 60

# With these two, compiler caches (ccache is used where it is found) hit across checkouts.
export CCACHE_BASEDIR := $(CURDIR)
export CCACHE_COMPILERCHECK := content

rust := . scripts/env.sh

.NOTPARALLEL:
.PHONY: help setup deps build demo test test-arm lint format asan fuzz debug clean

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 16

demo: build ## install what is missing, build, and run the main job end to end (ARGS=--json, ...)
	@build/release/driftwood demo $(ARGS)

test: lint ## install what is missing, lint, build and pass all tests, again on Arm and under sanitizers, fuzz
	@$(rust); cmake --build --preset release -j $(JOBS)
	@ctest --preset release -j $(JOBS)
	@$(MAKE) test-arm
	@$(MAKE) asan
	@$(MAKE) fuzz TARGET=

test-arm: build/arm/build.ninja ## base, memory and compute cross-built for 64-bit Arm; their tests under qemu-user
	@cmake --build --preset arm -j $(JOBS)
	@ctest --preset arm -j $(JOBS)

build: build/release/build.ninja ## the program, at build/release/driftwood
	@$(rust); cmake --build --preset release -j $(JOBS) --target driftwood

asan: build/asan/build.ninja ## build and pass all tests under AddressSanitizer and UndefinedBehaviorSanitizer
	@$(rust); cmake --build --preset asan -j $(JOBS)
	@ctest --preset asan -j $(JOBS)

fuzz: build/fuzz/build.ninja ## fuzz all targets for 5 s each, or one as long as you like: TARGET=module SECONDS=600
	@$(rust); cmake --build --preset fuzz -j $(JOBS) --target fuzz$(addprefix _,$(TARGET))
ifeq ($(TARGET),)
	@ctest --preset fuzz -j $(JOBS)
else
	@mkdir -p build/fuzz/corpus/$(TARGET) build/fuzz/found
	@build/fuzz/fuzz_$(TARGET) -max_total_time=$(SECONDS) -timeout=20 -artifact_prefix=build/fuzz/found/$(TARGET)- \
	    build/fuzz/corpus/$(TARGET) src/*/$(TARGET)_fuzz
endif

debug: build/debug/build.ninja ## a build for the debugger, at build/debug/driftwood
	@$(rust); cmake --build --preset debug -j $(JOBS)

lint: build/release/build.ninja ## the rules of the house, clang-format, clang-tidy
	@$(rust); cmake --build --preset release --target build.ninja >/dev/null
	@scripts/lint.sh

format: setup ## let clang-format rewrite the sources
	@git ls-files '*.h' '*.cc' '*.c' | xargs clang-format-14 -i

setup: ## install what is missing (Debian packages, Rust)
	@scripts/setup.sh

clean: ## remove build/ (the Rust archive stays in its cache)
	@rm -rf build

# The Rust archive, out of its cache: a moment when it is there, about four minutes when it is not.
deps: setup
	@$(rust); deps/build.sh >/dev/null

build/arm/build.ninja: CMakePresets.json cmake/aarch64.cmake | setup
	@cmake --preset arm

build/%/build.ninja: CMakePresets.json | deps
	@$(rust); cmake --preset $*
