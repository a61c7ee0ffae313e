/* Clocks and syncs of one process, bent from outside through a shared page (bend.rs). Preloaded, so
 * the program under test is the one that ships. MONOTONIC_RAW is bent as well: what is wrong is the
 * oscillator, which no process can notice. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

struct setting {
  int64_t anchor_ns, shift_ns, ppm, wall_ns;
};

struct page {
  _Atomic uint64_t current;
  struct setting two[2];
  _Atomic uint64_t sync_us, reads, syncs;
};

static struct page *page;
static int (*real_gettime)(clockid_t, struct timespec *);
static int (*real_fsync)(int), (*real_fdatasync)(int);

__attribute__((constructor)) static void open_page(void) {
  real_gettime = dlsym(RTLD_NEXT, "clock_gettime");
  real_fsync = dlsym(RTLD_NEXT, "fsync");
  real_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
  const char *path = getenv("CRYPTORUN_BEND");
  int file = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
  if (file < 0) return;
  void *at = mmap(0, sizeof(struct page), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  close(file);
  if (at != MAP_FAILED) page = at;
}

int clock_gettime(clockid_t id, struct timespec *out) {
  if (!real_gettime) real_gettime = dlsym(RTLD_NEXT, "clock_gettime");
  int failed = real_gettime(id, out);
  int bent = id == CLOCK_REALTIME || id == CLOCK_MONOTONIC || id == CLOCK_MONOTONIC_RAW ||
             id == CLOCK_BOOTTIME;
  if (failed || !page || !bent) return failed;
  struct setting s = page->two[atomic_load(&page->current) & 1];
  struct timespec true_boot;
  real_gettime(CLOCK_BOOTTIME, &true_boot);
  int64_t since = true_boot.tv_sec * 1000000000LL + true_boot.tv_nsec - s.anchor_ns;
  int64_t ns = out->tv_sec * 1000000000LL + out->tv_nsec + s.shift_ns;
  ns += (int64_t)((__int128)since * s.ppm / 1000000);
  if (id == CLOCK_REALTIME) ns += s.wall_ns;
  out->tv_sec = ns / 1000000000LL;
  out->tv_nsec = ns % 1000000000LL;
  atomic_fetch_add(&page->reads, 1);
  return 0;
}

static void wait_first(void) {
  uint64_t us = page ? atomic_load(&page->sync_us) : 0;
  if (!us) return;
  atomic_fetch_add(&page->syncs, 1);
  usleep(us);
}

int fsync(int file) {
  wait_first();
  return real_fsync(file);
}

int fdatasync(int file) {
  wait_first();
  return real_fdatasync(file);
}
