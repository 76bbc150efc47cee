/* A wall clock that a test can set, for one process: loaded with LD_PRELOAD. The file that MANUMIT_TEST_CLOCK names holds, as a
 * 64-bit number, by how many seconds it is ahead. The monotonic clock stays as it is, as it does when somebody sets the time.
 *
 * A wait that ends at a time of day ends when the clock shows that, as with a real one: when the clock is set back by an hour
 * meanwhile, it takes an hour longer. Set forward, it does not end early. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000LL

static const int64_t *ahead;

__attribute__((constructor)) static void begin(void) {
  const char *path = getenv("MANUMIT_TEST_CLOCK");
  int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
  if (file < 0) return;
  void *mapped = mmap(NULL, sizeof(int64_t), PROT_READ, MAP_SHARED, file, 0);
  close(file);
  if (mapped != MAP_FAILED) ahead = mapped;
}

static int64_t real_now(void) {
  struct timespec now;
  syscall(SYS_clock_gettime, CLOCK_REALTIME, &now);
  return now.tv_sec * SECOND + now.tv_nsec;
}

static int64_t shift(void) { return ahead ? __atomic_load_n(ahead, __ATOMIC_RELAXED) * SECOND : 0; }

static struct timespec of(int64_t nanos) {
  struct timespec time = {.tv_sec = nanos / SECOND, .tv_nsec = nanos % SECOND};
  return time;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
  if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE) {
    *time = of(real_now() + shift());
    return 0;
  }
  return syscall(SYS_clock_gettime, clock, time);
}

int gettimeofday(struct timeval *restrict time, void *restrict zone) {
  (void)zone;
  int64_t now = real_now() + shift();
  time->tv_sec = now / SECOND;
  time->tv_usec = now % SECOND / 1000;
  return 0;
}

time_t time(time_t *place) {
  time_t now = (real_now() + shift()) / SECOND;
  if (place) *place = now;
  return now;
}

int timespec_get(struct timespec *time, int base) {
  if (base != TIME_UTC) return 0;
  *time = of(real_now() + shift());
  return base;
}

/* When a wait ends by the real clock; 0 when it is over. */
static int ends(const struct timespec *until, struct timespec *end) {
  int64_t nanos = until->tv_sec * SECOND + until->tv_nsec - shift();
  *end = of(nanos > 0 ? nanos : 0);
  return nanos > real_now();
}

int cnd_timedwait(cnd_t *restrict condition, mtx_t *restrict mutex, const struct timespec *restrict until) {
  static int (*real)(cnd_t *, mtx_t *, const struct timespec *);
  if (!real) real = (int (*)(cnd_t *, mtx_t *, const struct timespec *))dlsym(RTLD_NEXT, "cnd_timedwait");
  struct timespec end;
  int how = thrd_timedout;
  while (ends(until, &end) && how == thrd_timedout) how = real(condition, mutex, &end);
  return how;
}

int pthread_cond_timedwait(pthread_cond_t *restrict condition, pthread_mutex_t *restrict mutex,
                           const struct timespec *restrict until) {
  typedef int wait(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
  static wait *real;
  if (!real) real = (wait *)dlvsym(RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2");
  if (!real) real = (wait *)dlsym(RTLD_NEXT, "pthread_cond_timedwait");
  /* No machine has been up for thirty years: so early a time is one of the monotonic clock. */
  if (until->tv_sec < SECOND) return real(condition, mutex, until);
  struct timespec end;
  int how = ETIMEDOUT;
  while (ends(until, &end) && how == ETIMEDOUT) how = real(condition, mutex, &end);
  return how;
}
