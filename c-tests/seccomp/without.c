/*
 * Runs a program as on a kernel, or in a sandbox, that lacks some system calls:
 *
 *     without ERRNO CALL[,CALL…] PROGRAM [ARGUMENT…]
 *
 * ERRNO is ENOSYS (an old kernel) or EPERM (a sandbox). CALL is one of the names below. madvise_populate stands for
 * madvise with MADV_POPULATE_READ or MADV_POPULATE_WRITE, the rest of madvise being as old as Linux. The filter stays
 * with all children.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined __x86_64__
#define MACHINE AUDIT_ARCH_X86_64
#elif defined __aarch64__
#define MACHINE AUDIT_ARCH_AARCH64
#else
#error "add the audit number of this machine"
#endif
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the low half of an argument is expected first"
#endif

#define MADVISE_POPULATE 1000000 /* no system call's number */

/* Numbers above 423 are the same on every machine; headers of the distribution may be older than the kernel. */
static const struct {
    const char *name;
    long number;
} CALLS[] = {
    {"pwritev2", SYS_pwritev2},
    {"preadv2", SYS_preadv2},
    {"timer_create", SYS_timer_create},
    {"memfd_create", SYS_memfd_create},
    {"copy_file_range", SYS_copy_file_range},
    {"renameat2", SYS_renameat2},
    {"statx", SYS_statx},
    {"pidfd_send_signal", 424},
    {"io_uring_setup", 425},
    {"pidfd_open", 434},
    {"close_range", 436},
    {"openat2", 437},
    {"pidfd_getfd", 438},
    {"faccessat2", 439},
    {"process_madvise", 440},
    {"epoll_pwait2", 441},
    {"memfd_secret", 447},
    {"futex_waitv", 449},
    {"futex_wake", 454},
    {"futex_wait", 455},
    {"futex_requeue", 456},
    {"madvise_populate", MADVISE_POPULATE},
};
#define COUNT (sizeof CALLS / sizeof *CALLS)

static long number_of(const char *name) {
    size_t i;
    for (i = 0; i < COUNT; i++)
        if (strcmp(CALLS[i].name, name) == 0) return CALLS[i].number;
    fprintf(stderr, "without: %s is not in the table of calls\n", name);
    _exit(2);
}

static struct sock_filter filter[8 + 6 * COUNT];
static unsigned short length;

static void put(uint16_t code, uint32_t k, uint8_t if_true, uint8_t if_false) {
    if (length == sizeof filter / sizeof *filter) {
        fprintf(stderr, "without: too many calls\n");
        _exit(2);
    }
    filter[length++] = (struct sock_filter){code, if_true, if_false, k};
}

#define LOAD(field) put(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field), 0, 0)
#define EQUAL(value, if_true, if_false) put(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(value), if_true, if_false)
#define RETURN(value) put(BPF_RET | BPF_K, (uint32_t)(value), 0, 0)

int main(int argc, char **argv) {
    uint32_t refuse = SECCOMP_RET_ERRNO | ENOSYS;
    struct sock_fprog program = {0, filter};
    char *name;
    if (argc < 4 || (strcmp(argv[1], "ENOSYS") != 0 && strcmp(argv[1], "EPERM") != 0)) {
        fprintf(stderr, "usage: without ENOSYS|EPERM CALL[,CALL…] PROGRAM [ARGUMENT…]\n");
        return 2;
    }
    if (strcmp(argv[1], "EPERM") == 0) refuse = SECCOMP_RET_ERRNO | EPERM;
    LOAD(arch);
    EQUAL(MACHINE, 1, 0);
    RETURN(SECCOMP_RET_ALLOW); /* a program of another machine type: none of ours */
    for (name = strtok(argv[2], ","); name != NULL; name = strtok(NULL, ",")) {
        long number = number_of(name);
        LOAD(nr);
        if (number == MADVISE_POPULATE) {
            EQUAL(SYS_madvise, 0, 4);
            LOAD(args[2]);
            EQUAL(22, 1, 0); /* MADV_POPULATE_READ */
            EQUAL(23, 0, 1); /* MADV_POPULATE_WRITE */
        } else {
            EQUAL(number, 0, 1);
        }
        RETURN(refuse);
    }
    RETURN(SECCOMP_RET_ALLOW);
    program.len = length;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) {
        perror("without: seccomp");
        return 2;
    }
    execv(argv[3], argv + 3);
    perror(argv[3]);
    return 127;
}
