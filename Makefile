# The front door. CMake does the building; this installs what is missing and names the usual jobs.
#
#   make            build; the command is build/palettize
#   make demo       set up, build, and compress the example model at several bit widths
#   make test       set up, build, run the C tests and the interoperability tests
#   make interop    the interoperability tests over the full matrix of models and settings
#   make sanitize   the C tests under AddressSanitizer and UndefinedBehaviorSanitizer
#   make fuzz       mutated models, configurations and data (FUZZ_COUNT=100000 of each kind)
#   make bench      compare speed with coremltools (downloads PyTorch)
#   make install    PREFIX=/usr/local
#   make docs       the public header as HTML, by Doxygen
#   make format     clang-format on all C files

BUILD ?= build
PREFIX ?= /usr/local
FUZZ_COUNT ?= 100000
JOBS ?= $(shell getconf _NPROCESSORS_ONLN)
CMAKE_FLAGS ?=

.PHONY: all setup demo test interop sanitize fuzz bench install format format-check docs clean

all:
	@cmake -S . -B $(BUILD) -DCMAKE_INSTALL_PREFIX=$(PREFIX) $(CMAKE_FLAGS) >$(BUILD).log 2>&1 || \
	    { cat $(BUILD).log; echo "If something is missing: make setup"; exit 1; }
	@rm -f $(BUILD).log
	@cmake --build $(BUILD) --parallel $(JOBS)

setup:
	@scripts/setup.sh

demo: setup all
	@scripts/demo.sh $(BUILD)/palettize

test: setup
	@$(MAKE) all CMAKE_FLAGS="-DPALETTIZE_WERROR=ON"
	@ctest --test-dir $(BUILD) --output-on-failure --timeout 600
	@scripts/interop.sh $(BUILD)/palettize

interop: setup all
	@PALETTIZE_FULL=1 PALETTIZE_JOBS=$(JOBS) scripts/interop.sh $(BUILD)/palettize

sanitize: setup
	@$(MAKE) all BUILD=$(BUILD)-sanitize \
	    CMAKE_FLAGS="-DCMAKE_BUILD_TYPE=RelWithDebInfo -DPALETTIZE_SANITIZE=address,undefined"
	@ctest --test-dir $(BUILD)-sanitize --output-on-failure --timeout 600

fuzz: setup
	@$(MAKE) all BUILD=$(BUILD)-sanitize \
	    CMAKE_FLAGS="-DCMAKE_BUILD_TYPE=RelWithDebInfo -DPALETTIZE_SANITIZE=address,undefined"
	@scripts/fuzz.sh $(BUILD)-sanitize $(FUZZ_COUNT)

bench: setup all
	@scripts/bench.sh $(BUILD)

install: all
	@cmake --install $(BUILD) --prefix $(PREFIX)

docs:
	@command -v doxygen >/dev/null || { echo "Please install doxygen" >&2; exit 1; }
	@mkdir -p build/docs
	@doxygen docs/Doxyfile
	@echo "build/docs/html/index.html"

format:
	@git ls-files '*.c' '*.h' | xargs clang-format -i

format-check:
	@git ls-files '*.c' '*.h' | xargs clang-format --dry-run -Werror

clean:
	rm -rf $(BUILD) $(BUILD)-sanitize
