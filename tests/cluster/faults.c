/* Loaded before libc: counts the calls that change what lies below a folder, and lets one fail.

   cc -shared -fPIC -O1 -o faults.so faults.c -ldl; LD_PRELOAD=./faults.so python ...
   From Python: ctypes.CDLL(None).faults_begin(below, nth, mode). */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

enum { COUNT, FAIL_ONCE, DISK_FULL, KILL };

static char folder[PATH_MAX];
static long calls, nth;
static int mode, touched;
static FILE *trace;

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

void faults_begin(const char *below, long which, int how, const char *noted) {
    snprintf(folder, sizeof folder, "%s", below);
    calls = 0;
    touched = 0;
    nth = which;
    mode = how;
    trace = noted ? fopen(noted, "w") : NULL;
}

int faults_end(void) {
    folder[0] = 0;
    if (trace) fclose(trace);
    trace = NULL;
    return touched;
}

static int below(const char *path) {
    size_t length = strlen(folder);
    return length && !strncmp(path, folder, length) && (!path[length] || path[length] == '/');
}

static int whole_path(int at, const char *path, char *whole) {
    char link[64];
    ssize_t length = 0;
    if (path[0] != '/') {
        snprintf(link, sizeof link, at == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d", at);
        if ((length = readlink(link, whole, PATH_MAX - 1)) < 0) return 0;
        whole[length++] = '/';
    }
    snprintf(whole + length, PATH_MAX - length, "%s", path);
    return 1;
}

/* 0: let the call happen; else the error to give. `room`: whether the call needs some on the disk. */
static int fault(const char *call, const char *path, int room) {
    if (!below(path)) return 0;
    long own = __atomic_add_fetch(&calls, 1, __ATOMIC_SEQ_CST);
    if (trace) fprintf(trace, "%s %s\n", call, path + strlen(folder));
    if (mode == KILL && own == nth) return -1;
    if (mode == FAIL_ONCE && own == nth) return touched = EIO;
    if (mode == DISK_FULL && own >= nth && room) return touched = ENOSPC;
    return 0;
}

static int fault_at(const char *call, int at, const char *path, int room) {
    char whole[PATH_MAX];
    return folder[0] && whole_path(at, path, whole) ? fault(call, whole, room) : 0;
}

static int fault_of(const char *call, int descriptor, int room) {
    char link[64], whole[PATH_MAX];
    ssize_t length;
    if (!folder[0]) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    if ((length = readlink(link, whole, sizeof whole - 1)) < 0) return 0;
    whole[length] = 0;
    return fault(call, whole, room);
}

static void die(void) {
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

#define FAIL(wrong)            \
    do {                       \
        int found = (wrong);   \
        if (found < 0) die();  \
        if (found) {           \
            errno = found;     \
            return -1;         \
        }                      \
    } while (0)

/* A kill in the middle of a write leaves half of it. */
#define WRITING(name, type, arguments, half)          \
    type {                                            \
        int error = fault_of(#name, descriptor, 1);   \
        if (error < 0) {                              \
            REAL(name) half;                          \
            die();                                    \
        }                                             \
        FAIL(error);                                  \
        return REAL(name) arguments;                  \
    }

WRITING(write, ssize_t write(int descriptor, const void *data, size_t size),
        (descriptor, data, size), (descriptor, data, size / 2))
WRITING(pwrite, ssize_t pwrite(int descriptor, const void *data, size_t size, off_t where),
        (descriptor, data, size, where), (descriptor, data, size / 2, where))
WRITING(pwrite64, ssize_t pwrite64(int descriptor, const void *data, size_t size, off64_t where),
        (descriptor, data, size, where), (descriptor, data, size / 2, where))

int ftruncate(int descriptor, off_t size) {
    FAIL(fault_of("ftruncate", descriptor, 0));
    return REAL(ftruncate)(descriptor, size);
}

int ftruncate64(int descriptor, off64_t size) {
    FAIL(fault_of("ftruncate", descriptor, 0));
    return REAL(ftruncate64)(descriptor, size);
}

int fsync(int descriptor) {
    FAIL(fault_of("fsync", descriptor, 1)); /* where room is found late, on a network's disk */
    return REAL(fsync)(descriptor);
}

int fdatasync(int descriptor) {
    FAIL(fault_of("fdatasync", descriptor, 1));
    return REAL(fdatasync)(descriptor);
}

int rename(const char *old, const char *new) {
    FAIL(fault_at("rename", AT_FDCWD, new, 1));
    return REAL(rename)(old, new);
}

int renameat(int old_at, const char *old, int new_at, const char *new) {
    FAIL(fault_at("rename", new_at, new, 1));
    return REAL(renameat)(old_at, old, new_at, new);
}

int mkdir(const char *path, mode_t bits) {
    FAIL(fault_at("mkdir", AT_FDCWD, path, 1));
    return REAL(mkdir)(path, bits);
}

int unlink(const char *path) {
    FAIL(fault_at("unlink", AT_FDCWD, path, 0));
    return REAL(unlink)(path);
}

int unlinkat(int at, const char *path, int flags) {
    FAIL(fault_at("unlink", at, path, 0));
    return REAL(unlinkat)(at, path, flags);
}

int rmdir(const char *path) {
    FAIL(fault_at("rmdir", AT_FDCWD, path, 0));
    return REAL(rmdir)(path);
}

#define OPENING(name, head, at, call)                       \
    int head {                                              \
        mode_t bits = 0;                                    \
        if (flags & O_CREAT) {                              \
            va_list rest;                                   \
            va_start(rest, flags);                          \
            bits = va_arg(rest, mode_t);                    \
            va_end(rest);                                   \
            FAIL(fault_at("create", at, path, 1));          \
        }                                                   \
        return REAL(name) call;                             \
    }

OPENING(open, open(const char *path, int flags, ...), AT_FDCWD, (path, flags, bits))
OPENING(open64, open64(const char *path, int flags, ...), AT_FDCWD, (path, flags, bits))
OPENING(openat, openat(int at, const char *path, int flags, ...), at, (at, path, flags, bits))
OPENING(openat64, openat64(int at, const char *path, int flags, ...), at, (at, path, flags, bits))
