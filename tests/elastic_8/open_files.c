/* A container has no more open files than Docker gives it, which may be fewer than the 65535 without which a member of a cluster does
   not start. With this library ahead of the C library's it is told that it has them; in this test it needs some hundreds. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/resource.h>

#define WANTED 65535

int getrlimit(__rlimit_resource_t resource, struct rlimit *limits) {
    int (*original)(__rlimit_resource_t, struct rlimit *) = dlsym(RTLD_NEXT, "getrlimit");
    int result = original(resource, limits);
    if (result == 0 && resource == RLIMIT_NOFILE && limits->rlim_max < WANTED)
        limits->rlim_cur = limits->rlim_max = WANTED;
    return result;
}

int getrlimit64(__rlimit_resource_t resource, struct rlimit64 *limits) {
    return getrlimit(resource, (struct rlimit *)limits);
}
