# perigee: the only build file. `make help` lists the targets.
CC      ?= cc
PREFIX  ?= /usr/local
DESTDIR ?=
LUAJIT  ?= luajit
B       := build$(if $(SAN),-san)
VERSION := $(shell awk '/PG_VERSION_(MAJOR|MINOR|PATCH)/ && /define/ { printf "%s%s", d, $$3; d = "." }' engine/include/perigee.h)
SOMAJOR := 0
ARCH    := $(shell uname -m)

OPT     ?= -O3
WARN    := -Wall -Wextra -Wpedantic -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wwrite-strings -Werror
CFLAGS_ := -std=c11 -D_GNU_SOURCE -g $(OPT) $(WARN) -fPIC -fvisibility=hidden -ffp-contract=off -fno-math-errno -pthread -MMD -MP -Iengine/include
LIBS    := -ljansson -lpcre2-8 -lutf8proc -lm -lpthread
ifdef SAN
CFLAGS_ += -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -DPG_SAN
LDSAN   := -fsanitize=address,undefined
endif

SRC := $(shell find kernels engine -name '*.c' | sort)
ifeq ($(filter $(ARCH),x86_64 amd64),)
SRC := $(filter-out %_avx2.c %_avx512.c %_amx.c,$(SRC))
endif
OBJ := $(SRC:%.c=$(B)/%.o)
TESTSRC := $(wildcard tests/c/*.c)
TESTBIN := $(TESTSRC:tests/c/%.c=$(B)/tests/%)

%_avx2.o: CFLAGS_ += -mavx2 -mfma -mf16c
%_avx512.o: CFLAGS_ += -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mfma -mf16c

.PHONY: all
all: $(B)/libperigee.a

$(B)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_) $(CFLAGS) -c -o $@ $<

$(B)/libperigee.a: $(OBJ)
	@rm -f $@
	ar rcs $@ $^

$(B)/tests/%: tests/c/%.c $(B)/libperigee.a
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_) $(CFLAGS) -o $@ $< $(B)/libperigee.a $(LDSAN) $(LIBS)

-include $(OBJ:.o=.d) $(TESTBIN:=.d)
