/* Sees every system call that changes a file below one directory: counts and records them, and kills
 * the process before the n-th, or lets the n-th fail. Loaded by LD_PRELOAD; see harness.py.
 *
 * A record of a sync has the content of the file. A record is a `struct record`, then `first` bytes and `second` bytes. Paths are absolute.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

enum { WRITE = 1, TRUNCATE, SYNC, CREATE, MKDIR, RENAME, UNLINK, RMDIR, MARK };

struct record {
    uint32_t kind, first;
    uint64_t inode;
    int64_t offset;
    uint64_t second;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char directory[PATH_MAX], unsynced[NAME_MAX];
static int log_file = -1, is_on;
static long calls, kill_at, fail_at;
static int fail_with;

#define REAL(name) \
    static __typeof__(name) *real; \
    if (!real) real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

/* Starts to look at changes below `below`; 0 means never for `kill` and `fail`. Nothing is synced
 * of files whose path contains `forgotten`. */
void crash_begin(const char *below, const char *log, long kill, long fail, int with,
                 const char *forgotten)
{
    snprintf(directory, sizeof directory, "%s", below);
    snprintf(unsynced, sizeof unsynced, "%s", forgotten);
    log_file = log[0] ? open(log, O_WRONLY | O_CREAT | O_TRUNC, 0600) : -1;
    calls = 0, kill_at = kill, fail_at = fail, fail_with = with, is_on = 1;
}

long crash_calls(void) { return calls; }

static void put(const void *data, size_t size)
{
    REAL(write);
    while (size) {
        ssize_t n = real(log_file, data, size);
        if (n <= 0) abort();
        data = (const char *)data + n, size -= n;
    }
}

static void note(uint32_t kind, uint64_t inode, int64_t offset, const void *first, size_t n,
                 const void *second, size_t m)
{
    if (log_file < 0) return;
    struct record record = {kind, n, inode, offset, m};
    put(&record, sizeof record);
    put(first, n);
    put(second, m);
}

void crash_mark(int n)
{
    pthread_mutex_lock(&lock);
    note(MARK, 0, n, "", 0, "", 0);
    pthread_mutex_unlock(&lock);
}

static int is_below(const char *path)
{
    size_t n = strlen(directory);
    return is_on && !strncmp(path, directory, n) && (path[n] == '/' || !path[n]);
}

/* Puts the path of an open file into `path`; 0 unless it is below the directory. */
static int path_of(int fd, char *path)
{
    char link[64];
    if (!is_on) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, PATH_MAX - 1);
    path[n < 0 ? 0 : n] = 0;
    return is_below(path);
}

static int full(int at, const char *name, char *path)
{
    char base[PATH_MAX] = "";
    if (!is_on) return 0;
    if (name[0] != '/') {
        if (at == AT_FDCWD) {
            if (!getcwd(base, sizeof base)) return 0;
        } else {
            char link[64];
            snprintf(link, sizeof link, "/proc/self/fd/%d", at);
            ssize_t n = readlink(link, base, sizeof base - 1);
            base[n < 0 ? 0 : n] = 0;
        }
    }
    if ((size_t)snprintf(path, PATH_MAX, "%s%s%s", base, base[0] ? "/" : "", name) >= PATH_MAX)
        return 0;
    return is_below(path);
}

/* Counts a call that is about to change something; -1 if it is to fail. */
static int step(void)
{
    long n = ++calls;
    if (n == kill_at) {
        kill(getpid(), SIGKILL);
        pause();
    }
    if (n == fail_at) {
        errno = fail_with;
        return -1;
    }
    return 0;
}

static uint64_t inode_of(int fd)
{
    struct stat status;
    return fstat(fd, &status) ? 0 : status.st_ino;
}

/* -- files ------------------------------------------------------------------------------- */

static ssize_t written(int fd, const void *data, size_t size, off_t at,
                       ssize_t (*call)(int, const void *, size_t, off_t))
{
    char path[PATH_MAX];
    if (!path_of(fd, path)) return call(fd, data, size, at);
    pthread_mutex_lock(&lock);
    ssize_t n = -1;
    if (!step()) {
        off_t offset = at;
        if (at < 0) {
            struct stat status;
            offset = lseek(fd, 0, SEEK_CUR);
            if (fcntl(fd, F_GETFL) & O_APPEND) offset = fstat(fd, &status) ? 0 : status.st_size;
        }
        n = call(fd, data, size, at);
        if (n > 0) note(WRITE, inode_of(fd), offset, "", 0, data, n);
    }
    pthread_mutex_unlock(&lock);
    return n;
}

static ssize_t plain(int fd, const void *data, size_t size, off_t at)
{
    REAL(write);
    (void)at;
    return real(fd, data, size);
}

static ssize_t placed(int fd, const void *data, size_t size, off_t at)
{
    REAL(pwrite64);
    return real(fd, data, size, at);
}

ssize_t write(int fd, const void *data, size_t size) { return written(fd, data, size, -1, plain); }
ssize_t pwrite(int fd, const void *data, size_t size, off_t at)
{
    return written(fd, data, size, at, placed);
}
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at)
{
    return written(fd, data, size, at, placed);
}

/* Python copies by read and write then. */
ssize_t sendfile(int out, int in, off_t *at, size_t size)
{
    REAL(sendfile);
    char path[PATH_MAX];
    if (!path_of(out, path)) return real(out, in, at, size);
    errno = EINVAL;
    return -1;
}
ssize_t sendfile64(int out, int in, off64_t *at, size_t size) { return sendfile(out, in, at, size); }

int ftruncate(int fd, off_t size)
{
    REAL(ftruncate);
    char path[PATH_MAX];
    if (!path_of(fd, path)) return real(fd, size);
    pthread_mutex_lock(&lock);
    int result = step() ? -1 : real(fd, size);
    if (!result) note(TRUNCATE, inode_of(fd), size, "", 0, "", 0);
    pthread_mutex_unlock(&lock);
    return result;
}
int ftruncate64(int fd, off64_t size) { return ftruncate(fd, size); }

/* Notes the whole of a file: the C library writes by calls that cannot be seen here. */
static void content(uint32_t kind, const char *path)
{
    static int (*real)(int, const char *, int, ...);
    if (!real) real = (int (*)(int, const char *, int, ...))dlsym(RTLD_NEXT, "openat64");
    struct stat status;
    int fd = real(AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return; /* the file was deleted meanwhile */
    if (fstat(fd, &status)) abort();
    size_t size = S_ISREG(status.st_mode) ? status.st_size : 0;
    char *data = malloc(size + 1);
    ssize_t n = size ? pread(fd, data, size, 0) : 0;
    if (n != (ssize_t)size) abort();
    note(kind, status.st_ino, 0, path, strlen(path), data, size);
    free(data);
    static int (*shut)(int);
    if (!shut) shut = (int (*)(int))dlsym(RTLD_NEXT, "close");
    shut(fd);
}

int close(int fd)
{
    REAL(close);
    char path[PATH_MAX];
    if (is_on && log_file >= 0 && (fcntl(fd, F_GETFL) & O_ACCMODE) && path_of(fd, path)) {
        pthread_mutex_lock(&lock);
        content(WRITE, path);
        pthread_mutex_unlock(&lock);
    }
    return real(fd);
}

static int synced(int fd, int (*call)(int))
{
    char path[PATH_MAX];
    if (!path_of(fd, path)) return call(fd);
    pthread_mutex_lock(&lock);
    int result = step() ? -1 : 0; /* a process that is killed loses nothing: no need to wait */
    int forgotten = unsynced[0] && strstr(path, unsynced);
    if (!result) content(forgotten ? WRITE : SYNC, path);
    pthread_mutex_unlock(&lock);
    return result;
}
static int whole(int fd)
{
    REAL(fsync);
    return real(fd);
}
int fsync(int fd) { return synced(fd, whole); }
int fdatasync(int fd) { return synced(fd, whole); }

static int opened(int at, const char *name, int flags, mode_t mode)
{
    static int (*real)(int, const char *, int, ...);
    if (!real) real = (int (*)(int, const char *, int, ...))dlsym(RTLD_NEXT, "openat64");
    char path[PATH_MAX];
    if (!(flags & (O_CREAT | O_TRUNC)) || !full(at, name, path)) return real(at, name, flags, mode);
    pthread_mutex_lock(&lock);
    struct stat status;
    int is_new = (flags & O_CREAT) && stat(path, &status);
    int changes = is_new || ((flags & O_TRUNC) && status.st_size);
    int fd = changes && step() ? -1 : real(at, name, flags, mode);
    if (fd >= 0 && changes)
        note(is_new ? CREATE : TRUNCATE, inode_of(fd), 0, path, strlen(path), "", 0);
    pthread_mutex_unlock(&lock);
    return fd;
}

#define OPEN(name) \
    int name(const char *path, int flags, ...) \
    { \
        va_list list; \
        va_start(list, flags); \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(list, mode_t) : 0; \
        va_end(list); \
        return opened(AT_FDCWD, path, flags, mode); \
    }
#define OPENAT(name) \
    int name(int at, const char *path, int flags, ...) \
    { \
        va_list list; \
        va_start(list, flags); \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(list, mode_t) : 0; \
        va_end(list); \
        return opened(at, path, flags, mode); \
    }
OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)

/* -- names ------------------------------------------------------------------------------- */

int mkdirat(int at, const char *name, mode_t mode)
{
    REAL(mkdirat);
    char path[PATH_MAX];
    if (!full(at, name, path)) return real(at, name, mode);
    pthread_mutex_lock(&lock);
    struct stat status;
    int result = !stat(path, &status) || !step() ? real(at, name, mode) : -1;
    if (!result && !stat(path, &status))
        note(MKDIR, status.st_ino, 0, path, strlen(path), "", 0);
    pthread_mutex_unlock(&lock);
    return result;
}
int mkdir(const char *name, mode_t mode) { return mkdirat(AT_FDCWD, name, mode); }

int renameat(int from_at, const char *from, int to_at, const char *to)
{
    REAL(renameat);
    char old[PATH_MAX], new[PATH_MAX];
    if (!full(from_at, from, old) || !full(to_at, to, new)) return real(from_at, from, to_at, to);
    pthread_mutex_lock(&lock);
    int result = step() ? -1 : real(from_at, from, to_at, to);
    if (!result) note(RENAME, 0, 0, old, strlen(old), new, strlen(new));
    pthread_mutex_unlock(&lock);
    return result;
}
int rename(const char *from, const char *to) { return renameat(AT_FDCWD, from, AT_FDCWD, to); }

static int removed(int at, const char *name, int flags)
{
    static int (*real)(int, const char *, int);
    if (!real) real = (int (*)(int, const char *, int))dlsym(RTLD_NEXT, "unlinkat");
    char path[PATH_MAX];
    struct stat status;
    if (!full(at, name, path) || lstat(path, &status)) return real(at, name, flags);
    pthread_mutex_lock(&lock);
    int result = step() ? -1 : real(at, name, flags);
    if (!result)
        note(flags & AT_REMOVEDIR ? RMDIR : UNLINK, 0, 0, path, strlen(path), "", 0);
    pthread_mutex_unlock(&lock);
    return result;
}
int unlinkat(int at, const char *name, int flags) { return removed(at, name, flags); }
int unlink(const char *name) { return removed(AT_FDCWD, name, 0); }
int rmdir(const char *name) { return removed(AT_FDCWD, name, AT_REMOVEDIR); }
