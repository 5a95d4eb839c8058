/* A library to preload: the wall clock is shifted, and writes below a folder fail, as a shared file of control says.

   FAULTY_CONTROL names the file: struct control, which may be written to at any time.
   FAULTY_FOLDER names the folder; without it no write fails. Steady clocks are never touched. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

struct control {
    int64_t shift_ms;
    int32_t fault;      /* 0 none, 1 no space, 2 an error of the device, 3 only a part is written */
    int32_t per_mille;  /* of the writes */
};

static const struct control none;
static const volatile struct control *control = &none;
static char folder[PATH_MAX];
static size_t folder_length;

__attribute__((constructor)) static void open_control(void) {
    const char *path = getenv("FAULTY_CONTROL"), *below = getenv("FAULTY_FOLDER");
    int descriptor = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (descriptor >= 0) {
        void *found = mmap(NULL, sizeof(struct control), PROT_READ, MAP_SHARED, descriptor, 0);
        if (found != MAP_FAILED) control = found;
        close(descriptor);
    }
    if (below && strlen(below) < sizeof folder) {
        strcpy(folder, below);
        folder_length = strlen(folder);
    }
}

/* The clock */

static int (*real_clock_gettime)(clockid_t, struct timespec *);

int clock_gettime(clockid_t clock, struct timespec *now) {
    if (!real_clock_gettime) real_clock_gettime = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real_clock_gettime(clock, now);
    if (!result && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        int64_t shift = control->shift_ms;
        now->tv_sec += shift / 1000;
        now->tv_nsec += shift % 1000 * 1000000;
        if (now->tv_nsec >= 1000000000) { now->tv_nsec -= 1000000000; now->tv_sec++; }
        if (now->tv_nsec < 0) { now->tv_nsec += 1000000000; now->tv_sec--; }
    }
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec precise;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &precise);
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *place) {
    struct timespec precise;
    clock_gettime(CLOCK_REALTIME, &precise);
    if (place) *place = precise.tv_sec;
    return precise.tv_sec;
}

/* Writes */

static int fault_of(int descriptor) {
    static __thread unsigned int seed;
    char name[64], path[PATH_MAX];
    int fault = control->fault;
    if (!fault || !folder_length) return 0;
    if (!seed) seed = (unsigned int)(uintptr_t)&seed ^ (unsigned int)getpid();
    if (rand_r(&seed) % 1000 >= control->per_mille) return 0;
    snprintf(name, sizeof name, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(name, path, sizeof path - 1);
    if (length < (ssize_t)folder_length || strncmp(path, folder, folder_length)) return 0;
    return fault;
}

static int fails(int fault) {
    if (fault != 1 && fault != 2) return 0;
    errno = fault == 1 ? ENOSPC : EIO;
    return 1;
}

#define REAL(type, name, ...) \
    static type (*real)(__VA_ARGS__); \
    if (!real) real = dlsym(RTLD_NEXT, name)

ssize_t write(int descriptor, const void *content, size_t size) {
    REAL(ssize_t, "write", int, const void *, size_t);
    int fault = fault_of(descriptor);
    if (fails(fault)) return -1;
    return real(descriptor, content, fault == 3 && size > 1 ? size / 2 : size);
}

ssize_t pwrite64(int descriptor, const void *content, size_t size, off64_t place) {
    REAL(ssize_t, "pwrite64", int, const void *, size_t, off64_t);
    int fault = fault_of(descriptor);
    if (fails(fault)) return -1;
    return real(descriptor, content, fault == 3 && size > 1 ? size / 2 : size, place);
}

ssize_t pwrite(int descriptor, const void *content, size_t size, off_t place) {
    return pwrite64(descriptor, content, size, place);
}

int fsync(int descriptor) {
    REAL(int, "fsync", int);
    return fails(fault_of(descriptor)) ? -1 : real(descriptor);
}

int fdatasync(int descriptor) {
    REAL(int, "fdatasync", int);
    return fails(fault_of(descriptor)) ? -1 : real(descriptor);
}
