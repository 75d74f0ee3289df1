# perigee: the only build file. `make help` lists the targets; every variable below can be set on the command line.
CC      ?= cc
AR      ?= ar
NVCC    ?= nvcc
LUAJIT  ?= luajit
OPT     ?= -O3
# SAN=1: address and undefined-behaviour sanitizers, in a build folder of its own. WERROR=1: warnings are errors.
# CUDA=1: the CUDA backend too, for CUDA_ARCHS and, as PTX, for what comes after the last of them.
# FAST=1: the quick part of the tests. V=1: show whole commands. BUILD=folder: build elsewhere.
PREFIX  ?= /usr/local
DESTDIR ?=
BINDIR  ?= $(PREFIX)/bin
LIBDIR  ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
DATADIR ?= $(PREFIX)/share
LUADIR  ?= $(DATADIR)/lua/5.1
LUACDIR ?= $(LIBDIR)/lua/5.1
DOCDIR  ?= $(DATADIR)/doc/perigee
MODELDIR ?= $(DATADIR)/perigee/models

BUILD    = build$(if $(SAN),-san)
B       := $(BUILD)
HEADER  := engine/include/perigee.h
MODEL   := examples/models/perigee-voices.q8_0.gguf
VERSION := $(shell awk '/define PG_VERSION_/ { printf "%s%s", dot, $$3; dot = "." }' $(HEADER))
SONAME  := libperigee.so.0
SOFILE  := libperigee.so.$(VERSION)
# Both ask at parse time and may run before there is a compiler (make deps installs it), so both have an answer then.
ARCH    := $(firstword $(subst -, ,$(or $(shell $(CC) -dumpmachine 2>/dev/null),$(shell uname -m))))
LUAINC  = $(or $(shell pkg-config --cflags luajit 2>/dev/null),-I/usr/include/luajit-2.1)

# ---- Debian's names of what is used, by what it is used for -----------------------------------------------------------
DEPS_RUN  := gcc libc6-dev luajit libluajit-5.1-dev libutf8proc-dev libjansson-dev libpcre2-dev \
             lua-lpeg
DEPS_TEST := $(DEPS_RUN) g++ lua-busted lua-cjson
DEPS_LINT := $(DEPS_RUN) git clang-format lua-check
DEPS_ALL  := $(DEPS_TEST) $(DEPS_LINT) lua-ldoc clang pkg-config

# ---- flags -------------------------------------------------------------------------------------------------------------
WARN    := -Wall -Wextra -Wpedantic -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wwrite-strings
COMPILE := -std=c11 -D_GNU_SOURCE -g $(OPT) $(WARN) -fPIC -fvisibility=hidden -ffp-contract=off -fno-math-errno \
           -pthread -Iengine/include
LIBS    := -ljansson -lpcre2-8 -lutf8proc -lm -lpthread -ldl
ifdef SAN
COMPILE += -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -DPG_SAN
LINK    := -fsanitize=address,undefined
else
DEFS    := -Wl,-z,defs
endif
FLAGS    = $(COMPILE) $(EXTRA) $(if $(WERROR),-Werror) $(CPPFLAGS) $(CFLAGS)
DEPFILE  = -MMD -MP -MF $@.d -MT $@
say      = $(if $(V),,@echo "  $1 $@";)

# Files named for an instruction set are compiled for it and reached only after cpuid said yes; elsewhere they stay out.
AVX512  := -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mfma -mf16c
%_avx2.o:   EXTRA := -mavx2 -mfma -mf16c
%_avx512.o: EXTRA := $(AVX512)
%_amx.o:    EXTRA := $(AVX512) -mamx-tile -mamx-int8 -mamx-bf16

# ---- files -------------------------------------------------------------------------------------------------------------
SRC := $(shell find kernels engine -name '*.c' | LC_ALL=C sort)
ifeq ($(filter $(ARCH),x86_64 amd64),)
SRC := $(filter-out %_avx2.c %_avx512.c %_amx.c,$(SRC))
endif
OBJ     := $(SRC:%.c=$(B)/%.o)
EXTOBJ  := $(patsubst %.c,$(B)/%.o,$(wildcard ext/*.c))
LUAFILES := $(shell find lua/perigee -name '*.lua' | LC_ALL=C sort)
TESTS   := $(patsubst tests/c/%.c,$(B)/tests/%,$(wildcard tests/c/*.c))
BENCHES := $(patsubst tests/bench/%.c,$(B)/bench/%,$(wildcard tests/bench/*.c))
EXAMPLES := $(patsubst examples/%.c,$(B)/examples/%,$(wildcard examples/*.c))
LIB     := $(B)/libperigee.a
CORE    := $(B)/lua/perigee/core.so

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.PHONY: all deps demo test test-cuda bench bench-cuda lint doc install install-module uninstall env clean help examples tests FORCE
FORCE:

all: $(LIB) $(B)/libperigee.so $(CORE) $(B)/bin/perigee $(B)/perigee.pc ## libraries, Lua module, command (default)

# A change of compiler or flags rebuilds everything; an unchanged one nothing.
$(B)/flags: FORCE
	$(shell mkdir -p $(@D))$(file >$@.new,$(CC) $(COMPILE) $(AVX512) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS))
	@if cmp -s $@.new $@; then rm -f $@.new; else mv -f $@.new $@; fi

$(B)/%.o: %.c $(B)/flags
	@mkdir -p $(@D)
	$(call say,CC)$(CC) $(FLAGS) $(DEPFILE) -c -o $@ $<

$(LIB): $(OBJ)
	@rm -f $@
	$(call say,AR)$(AR) rcs $@ $^

$(B)/$(SOFILE): $(OBJ)
	$(call say,LD)$(CC) -shared -Wl,-soname,$(SONAME) $(DEFS) $(LINK) $(LDFLAGS) -o $@ $^ $(LIBS)

$(B)/libperigee.so: $(B)/$(SOFILE)
	@ln -sf $(SOFILE) $(B)/$(SONAME)
	@ln -sf $(SONAME) $@

# The module carries the whole library, so that one file serves Lua. Lua's own symbols come from the program that loads
# it; -Bsymbolic keeps it to its own copy when that program has a libperigee already.
$(CORE): $(EXTOBJ) $(OBJ)
	@mkdir -p $(@D)
	$(call say,LD)$(CC) -shared -Wl,-Bsymbolic $(LINK) $(LDFLAGS) -o $@ $^ $(LIBS)

$(EXTOBJ): EXTRA = -I$(B)/ext $(LUAINC)
$(EXTOBJ): $(B)/ext/cdef.inc
$(B)/ext/cdef.inc: ext/cdef.awk $(HEADER)
	@mkdir -p $(@D)
	$(call say,AWK)awk -f ext/cdef.awk $(HEADER) >$@

# The command as it stands in the tree, and (in install) as it stands under a prefix: the same script, told where to look.
launcher = sed -e 's|@LUADIR@|$1|g' -e 's|@LUACDIR@|$2|g' ext/perigee.sh
$(B)/bin/perigee: ext/perigee.sh
	@mkdir -p $(@D)
	@$(call launcher,$$here/../../lua,$$here/../lua) >$@
	@chmod 755 $@

pkgconfig = printf '%s\n' 'prefix=$(PREFIX)' 'libdir=$(LIBDIR)' 'includedir=$(INCLUDEDIR)' '' 'Name: perigee' \
	'Description: mixture-of-experts language-model engine' 'Version: $(VERSION)' \
	'Libs: -L$${libdir} -lperigee' 'Libs.private: $(LIBS)' 'Cflags: -I$${includedir}'
$(B)/perigee.pc: FORCE
	@mkdir -p $(@D)
	@$(pkgconfig) >$@

define program
	@mkdir -p $(@D)
	$(call say,LD)$(CC) $(FLAGS) $(DEPFILE) $(LINK) $(LDFLAGS) -o $@ $< $(LIB) $(LIBS)
endef
$(B)/tests/%: tests/c/%.c $(LIB)
	$(program)
$(B)/bench/%: tests/bench/%.c $(LIB)
	$(program)
$(B)/examples/%: examples/%.c $(LIB)
	$(program)
tests: $(TESTS)
examples: all $(EXAMPLES) ## C examples into build/examples (those in Lua run as they stand)

# ---- the CUDA backend ------------------------------------------------------------------------------------------------
# A library of its own beside the module: it is looked for when a device is asked for. It carries what it needs of
# kernels/, since the module keeps its symbols to itself; of CUDA only the driver is left outside.
CUDA_ARCHS ?= 80 86 89 90
CUSRC   := $(shell find kernels -name '*.cu' | LC_ALL=C sort)
CUOBJ   := $(CUSRC:%=$(B)/%.o)
PLUGIN  := $(B)/lua/perigee/perigee_cuda.so
CUDA_LIB = $(abspath $(dir $(realpath $(shell command -v $(NVCC))))../lib64)
CUDA_NEWEST = $(lastword $(CUDA_ARCHS))
CUTARGET = $(foreach a,$(CUDA_ARCHS),-gencode arch=compute_$a,code=sm_$a) \
           -gencode arch=compute_$(CUDA_NEWEST),code=compute_$(CUDA_NEWEST)
# Functions for both sides carry pragmas that only the device's compiler knows.
CUFLAGS  = -std=c++17 -O3 $(CUTARGET) -Xcompiler -fPIC,-fvisibility=hidden,-Wall,-Wno-unknown-pragmas -Ikernels/cuda
ifdef CUDA
all: $(PLUGIN)
endif
$(B)/cuflags: FORCE
	$(shell mkdir -p $(@D))$(file >$@.new,$(NVCC) $(CUFLAGS))
	@if cmp -s $@.new $@; then rm -f $@.new; else mv -f $@.new $@; fi
$(CUOBJ): $(B)/%.cu.o: %.cu $(B)/cuflags
	@mkdir -p $(@D)
	$(call say,NVCC)$(NVCC) $(CUFLAGS) $(DEPFILE) -c -o $@ $<
# Products by whole warp groups are sm_90a's alone: elsewhere this file is empty, and a check at open finds that out.
$(if $(filter 90,$(CUDA_ARCHS)),$(B)/kernels/matmul/gemm_wgmma_cuda.cu.o): CUTARGET += -gencode arch=compute_90a,code=sm_90a
$(PLUGIN): $(CUOBJ) $(LIB)
	@mkdir -p $(@D)
	$(call say,LD)$(NVCC) -shared $(CUTARGET) -Xlinker -Bsymbolic,--exclude-libs=ALL,-rpath=$(CUDA_LIB) -o $@ $^ -lpthread
-include $(CUOBJ:=.d)

# ---- CUDA on the CPU ---------------------------------------------------------------------------------------------------
# Device code compiled for the emulator (tests/cuda/emu), and the programs that test it; only where there is a C++ compiler.
# Objects are in an archive: a test takes the ops that it names. Sanitizers see the tests that need no products, which would
# take them many minutes to compile.
EMUFLAGS := -std=c++17 -D_GNU_SOURCE -g $(if $(SAN),-O1,-O2) -Wall -Wextra -Wno-missing-field-initializers -Wno-unknown-pragmas \
            -fPIC -fvisibility=hidden -ffp-contract=off -fno-strict-aliasing -pthread -DPG_EMU -Itests/cuda/emu -Ikernels/cuda $(if $(SAN),$(filter -fsan% -fno-san% -fno-omit%,$(COMPILE)))
# Device code tells of its loads and stores, so that races are found (emu/watch.cc), and of addresses that are not aligned
# (gcc only: the options are its own).
EMUWATCH := $(if $(SAN)$(findstring clang,$(shell $(CXX) --version 2>/dev/null)),,-fsanitize=thread --param tsan-instrument-func-entry-exit=0 --param tsan-distinguish-volatile=1 \
            -fsanitize=alignment -fno-sanitize-recover=alignment)
EMULIB   := $(B)/emu/libemu.a
EMUSRC   := $(wildcard tests/cuda/emu/*.cc) $(shell find kernels -name '*.cu' | LC_ALL=C sort)
CUTESTS  := $(if $(shell command -v $(CXX) 2>/dev/null),$(patsubst tests/cuda/%.cc,$(B)/tests/cuda/%,$(wildcard tests/cuda/*.cc)))
ifdef SAN
EMUSRC   := $(filter-out kernels/attn/% kernels/matmul/% kernels/moe/%,$(EMUSRC))
CUTESTS  := $(filter $(addprefix %/,decode emu_test program_test route_test sample_test),$(CUTESTS))
endif
EMUOBJ   := $(EMUSRC:%=$(B)/emu/%.o)
$(B)/emu/flags: FORCE
	$(shell mkdir -p $(@D))$(file >$@.new,$(CXX) $(EMUFLAGS) $(EMUWATCH) $(CPPFLAGS) $(CXXFLAGS))
	@if cmp -s $@.new $@; then rm -f $@.new; else mv -f $@.new $@; fi
$(EMUOBJ): $(B)/emu/%.o: % $(B)/emu/flags
	@mkdir -p $(@D)
	$(call say,CXX)$(CXX) -x c++ $(EMUFLAGS) $(if $(filter %.cu,$<),$(EMUWATCH)) $(if $(WERROR),-Werror) $(CPPFLAGS) $(CXXFLAGS) $(DEPFILE) -c -o $@ $<
$(EMULIB): $(EMUOBJ)
	@rm -f $@
	$(call say,AR)$(AR) rcs $@ $^
$(B)/tests/cuda/%: tests/cuda/%.cc $(EMULIB) $(LIB)
	@mkdir -p $(@D)
	$(call say,CXX)$(CXX) $(EMUFLAGS) $(EMUWATCH) $(if $(WERROR),-Werror) $(CPPFLAGS) $(CXXFLAGS) $(DEPFILE) $(LINK) $(LDFLAGS) \
		-c -o $@.o $<
	@$(CXX) $(LINK) $(LDFLAGS) -o $@ $@.o $(EMULIB) $(LIB) $(LIBS)
# All of it as the library that an engine loads (PERIGEE_CUDA names it): whole models on the emulated device.
EMUPLUGIN := $(B)/emu/perigee_cuda.so
$(EMUPLUGIN): $(EMUOBJ) $(LIB)
	$(call say,LD)$(CXX) -shared -Wl,-Bsymbolic,--exclude-libs=ALL $(LINK) $(LDFLAGS) -o $@ $^ -lm -lpthread
tests: $(CUTESTS) $(if $(SAN),,$(if $(CUTESTS),$(EMUPLUGIN)))
-include $(EMUOBJ:=.d) $(CUTESTS:=.d)

# ---- on a machine with a GPU -------------------------------------------------------------------------------------------
# The tests of device code for a device, the golden models on it, and timings: programs that need libc and CUDA alone, so
# that they can be built here and run there: build/gpu, tests/golden and what PERIGEE_GOLDEN names are all they want.
# EMU=1: the same table for the emulated device.
GPUTESTS := $(filter-out emu_%,$(patsubst tests/cuda/%.cc,%,$(wildcard tests/cuda/*.cc))) golden
GPU      := $(B)/$(if $(EMU),tests/cuda,gpu)
CULIB    := $(B)/gpu/libcuda.a
STATIC   := -Wl,-Bstatic -ljansson -lpcre2-8 -lutf8proc -Wl,-Bdynamic -lm -lpthread -ldl
GPUDEFS  := -D_GNU_SOURCE -DPROGRAMS='"$(GPUTESTS)"' -Iengine/include
define gpu_object
	@mkdir -p $(@D)
	$(call say,NVCC)$(NVCC) $(CUFLAGS) $(GPUDEFS) $(DEPFILE) -x cu -c -o $@ $<
endef
$(CULIB): $(CUOBJ)
	@mkdir -p $(@D) && rm -f $@
	$(call say,AR)$(AR) rcs $@ $^
$(B)/gpu/%.o: tests/cuda/%.cc $(B)/cuflags
	$(gpu_object)
$(B)/gpu/%.o: tests/cuda/gpu/%.cc $(B)/cuflags
	$(gpu_object)
$(B)/gpu/%.o: tests/bench/cuda/%.cc $(B)/cuflags
	$(gpu_object)
$(B)/gpu/bench_cuda: GPULIBS := -lcublasLt
$(B)/gpu/%: $(B)/gpu/%.o $(CULIB) $(LIB)
	$(call say,LD)$(NVCC) $(CUTARGET) -Xlinker -rpath=$(CUDA_LIB) -o $@ $^ $(GPULIBS) \
		$(subst -Wl$(comma),-Xlinker ,$(STATIC))
$(B)/gpu/golden: tests/c/golden.c $(LIB)
	@mkdir -p $(@D)
	$(call say,LD)$(CC) $(FLAGS) $(DEPFILE) $(LDFLAGS) -o $@ $< $(LIB) $(STATIC)
$(B)/gpu/perigee_cuda.so: $(PLUGIN)
	@mkdir -p $(@D)
	@cp $< $@
$(B)/tests/cuda/%: tests/cuda/gpu/%.cc $(EMULIB)
	@mkdir -p $(@D)
	$(call say,CXX)$(CXX) $(EMUFLAGS) $(GPUDEFS) $(DEPFILE) $(LINK) $(LDFLAGS) -o $@ $< $(EMULIB) -lpthread
$(B)/tests/cuda/golden: $(B)/tests/golden
	@ln -sf ../golden $@
$(B)/tests/cuda/perigee_cuda.so: $(EMUPLUGIN)
	@ln -sf ../../emu/perigee_cuda.so $@
comma := ,
.SECONDARY: $(GPUTESTS:%=$(B)/gpu/%.o)
test-cuda: $(GPUTESTS:%=$(GPU)/%) $(GPU)/test_cuda $(GPU)/perigee_cuda.so ## ops and golden models on a GPU
	@$(GPU)/test_cuda
bench-cuda: $(B)/gpu/bench_cuda ## a V2-Lite-shaped model on a GPU against that GPU's limits
	@$(B)/gpu/bench_cuda
-include $(wildcard $(B)/gpu/*.d)

# ---- what people call --------------------------------------------------------------------------------------------------
# Each installs what it needs before it builds: hence a make below this one, with all the cores unless told otherwise.
MAKEFLAGS += --no-print-directory
jobs = $(if $(findstring jobserver,$(MAKEFLAGS)),,-j$(shell nproc 2>/dev/null || echo 1))

STORY := Once upon a time there was a little fox who lived at the edge of the forest.
demo: ## install what is missing, build, and let the bundled model tell a story
	@$(MAKE) deps WANT="$(DEPS_RUN)"
	@$(MAKE) $(jobs) all
	@printf '\n%s' '$(STORY)'
	@$(B)/bin/perigee run -p '$(STORY)' --seed 7 --max-new 160

test: ## everything that needs no GPU and no download
	@$(MAKE) deps WANT="$(DEPS_TEST)"
	@$(MAKE) $(jobs) all tests
	@B='$(B)' SAN='$(SAN)' FAST='$(FAST)' LUAJIT='$(LUAJIT)' CC='$(CC)' bash tests/run.sh

bench: all $(BENCHES) ## time the kernels, and the engine with the bundled model
	@for b in $(BENCHES); do echo "== $${b##*/}"; $$b || exit 1; done
	@echo "== perigee bench"; $(B)/bin/perigee bench

lint: ## format, luacheck, direction of includes, exported symbols, file length, words
	@$(MAKE) deps WANT="$(DEPS_LINT)"
	@$(MAKE) $(jobs) all
	@B=$(B) bash tests/lint/run.sh

doc: ## the Lua reference into doc/, the C header beside it
	ldoc -q --fatalwarnings -f markdown .
	cp $(HEADER) doc/

deps: ## install the Debian or Ubuntu packages that are missing
	@sh tests/deps.sh $(or $(WANT),$(DEPS_ALL))

env: ## print what a shell needs to use the tree: eval "$$(make -s env)"
	@printf '%s\n' "export LUA_PATH='$(CURDIR)/lua/?.lua;$(CURDIR)/lua/?/init.lua;'\"\$${LUA_PATH:-;}\"" \
		"export LUA_CPATH='$(abspath $(B))/lua/?.so;'\"\$${LUA_CPATH:-;}\"" \
		"export PATH='$(abspath $(B))/bin':\"\$$PATH\"" \
		"export LD_LIBRARY_PATH='$(abspath $(B))'\"\$${LD_LIBRARY_PATH:+:\$$LD_LIBRARY_PATH}\""

# Paths in the installed command are relative where they can be, so that a staged or moved prefix works too.
beside = $(patsubst $(PREFIX)/%,$$here/../%,$1)
COMMAND_LUADIR  = $(call beside,$(LUADIR))
COMMAND_LUACDIR = $(call beside,$(LUACDIR))
install: install-module ## into PREFIX (default /usr/local), below DESTDIR; LIBDIR, INCLUDEDIR, LUADIR, LUACDIR ... move parts
	install -d '$(DESTDIR)$(LIBDIR)/pkgconfig' '$(DESTDIR)$(INCLUDEDIR)' '$(DESTDIR)$(DOCDIR)'
	install -m 644 $(LIB) '$(DESTDIR)$(LIBDIR)'
	install -m 755 $(B)/$(SOFILE) '$(DESTDIR)$(LIBDIR)'
	ln -sf $(SOFILE) '$(DESTDIR)$(LIBDIR)/$(SONAME)'
	ln -sf $(SONAME) '$(DESTDIR)$(LIBDIR)/libperigee.so'
	$(if $(CUDA),install -m 755 $(PLUGIN) '$(DESTDIR)$(LIBDIR)')
	install -m 644 $(HEADER) '$(DESTDIR)$(INCLUDEDIR)'
	install -m 644 $(B)/perigee.pc '$(DESTDIR)$(LIBDIR)/pkgconfig'
	install -m 644 README.md CHANGELOG.md LICENSE '$(DESTDIR)$(DOCDIR)'

# What a Lua package holds: module, core, command and model, the last beside the module since a rock has no other place.
install-module: all
	@for f in $(LUAFILES:lua/%=%); do install -D -m 644 lua/$$f '$(DESTDIR)$(LUADIR)'/$$f || exit 1; done
	install -D -m 755 $(CORE) '$(DESTDIR)$(LUACDIR)/perigee/core.so'
	$(if $(CUDA),install -D -m 755 $(PLUGIN) '$(DESTDIR)$(LUACDIR)/perigee/perigee_cuda.so')
	@$(call launcher,$(COMMAND_LUADIR),$(COMMAND_LUACDIR)) >$(B)/perigee.installed
	install -D -m 755 $(B)/perigee.installed '$(DESTDIR)$(BINDIR)/perigee'
	install -D -m 644 $(MODEL) '$(DESTDIR)$(MODELDIR)/$(notdir $(MODEL))'

uninstall: ## take out what install put there
	rm -f '$(DESTDIR)$(LIBDIR)'/libperigee.a '$(DESTDIR)$(LIBDIR)'/libperigee.so* '$(DESTDIR)$(LIBDIR)/perigee_cuda.so'
	rm -f '$(DESTDIR)$(LIBDIR)/pkgconfig/perigee.pc' '$(DESTDIR)$(INCLUDEDIR)/perigee.h' '$(DESTDIR)$(BINDIR)/perigee'
	rm -rf '$(DESTDIR)$(LUADIR)/perigee' '$(DESTDIR)$(LUACDIR)/perigee' '$(DESTDIR)$(DOCDIR)'
	rm -f '$(DESTDIR)$(MODELDIR)/$(notdir $(MODEL))'
	-rmdir '$(DESTDIR)$(MODELDIR)' '$(DESTDIR)$(DATADIR)/perigee' 2>/dev/null

clean: ## remove every build folder and the made documents
	rm -rf build build-* doc

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { gsub(/\$$\$$/, "$$", $$2); printf "  %-10s %s\n", $$1, $$2 }' Makefile

-include $(OBJ:=.d) $(EXTOBJ:=.d) $(TESTS:=.d) $(BENCHES:=.d) $(EXAMPLES:=.d)
