"""The student's process gives up, for good, what it does not need: memory, time, files, and calls to the system.

Three layers, each of which the process takes upon itself and cannot shed again:

* limits (setrlimit): bytes of memory, seconds of CPU, no file may grow;
* Landlock (Linux 5.13, https://docs.kernel.org/userspace-api/landlock.html): it may read the files that are named, no others;
* a seccomp filter (Linux 3.17, seccomp(2)): calls that a computation needs are let through; those that make a process or a
  connection, or that write, end the process; all others fail.

There are Python packages for both, but none that is kept well: `landlock` has had development versions only, `pyseccomp` had
its last one in 2021 and needs a C library beside it. All that is needed of them is below: four calls and a hundred numbers.

This file is loaded by the student's process, where there is no minunet.
"""

import contextlib
import ctypes
import os
import struct
import sys
from collections.abc import Iterable

BOTH = "landlock+seccomp"

# A call's number on x86_64 and on aarch64; - where it does not exist.
HARMLESS = """read 0 63, write 1 64, readv 19 65, writev 20 66, pread64 17 67, close 3 57, lseek 8 62, fstat 5 80, stat 4 -,
lstat 6 -, newfstatat 262 79, statx 332 291, access 21 -, faccessat 269 48, faccessat2 439 439, readlink 89 -, readlinkat 267
78, getcwd 79 17, getdents64 217 61, fadvise64 221 223, dup 32 23, dup2 33 -, dup3 292 24, poll 7 -, ppoll 271 73, select 23
-, pselect6 270 72, mmap 9 222, mprotect 10 226, munmap 11 215, mremap 25 216, madvise 28 233, brk 12 214, membarrier 324 283,
futex 202 98, set_robust_list 273 99, get_robust_list 274 100, rseq 334 293, set_tid_address 218 96, sched_yield 24 124,
sched_getaffinity 204 123, gettid 186 178, getpid 39 172, getppid 110 173, getuid 102 174, geteuid 107 175, getgid 104 176,
getegid 108 177, getgroups 115 158, getrusage 98 165, times 100 153, getrlimit 97 163, sysinfo 99 179, uname 63 160, getrandom
318 278, clock_gettime 228 113, clock_getres 229 114, clock_nanosleep 230 115, nanosleep 35 101, gettimeofday 96 169, time 201
-, rt_sigaction 13 134, rt_sigprocmask 14 135, rt_sigreturn 15 139, sigaltstack 131 132, restart_syscall 219 128, exit 60 93,
exit_group 231 94"""
FATAL = """fork 57 -, vfork 58 -, execve 59 221, execveat 322 281, socket 41 198, socketpair 53 199, connect 42 203, bind 49
200, kill 62 129, tkill 200 130, rt_sigqueueinfo 129 138, rt_tgsigqueueinfo 297 240, pidfd_open 434 434, pidfd_send_signal 424
424, ptrace 101 117, process_vm_readv 310 270, process_vm_writev 311 271, mknod 133 -, mknodat 259 33, mkdir 83 -, mkdirat 258
34, symlink 88 -, symlinkat 266 36, link 86 -, linkat 265 37, unlink 87 -, unlinkat 263 35, rmdir 84 -, rename 82 -, renameat
264 38, renameat2 316 276, chmod 90 -, fchmod 91 52, fchmodat 268 53, chown 92 -, lchown 94 -, fchown 93 55, fchownat 260 54,
truncate 76 45, ftruncate 77 46, creat 85 -"""
LOOKED_AT = """open 2 -, openat 257 56, clone 56 220, clone3 435 435, ioctl 16 29, fcntl 72 25, prlimit64 302 261, tgkill 234
131, prctl 157 167, seccomp 317 277"""

MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # which number of a call, and AUDIT_ARCH_*
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # Landlock's, the same on all
READ_FILE, READ_DIR = 1 << 2, 1 << 3
FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 5: 16}  # how many rights there are from which version on
ALLOW, FAIL, END = 0x7FFF0000, 0x00050001, 0x80000000  # SECCOMP_RET_*: let through, EPERM, end the process


def confine(memory: int, cpu: int, folders: Iterable[str], alone: Iterable[str]) -> str:
    """Take on all that this system offers.

    Parameters
    ----------
    memory, cpu : int
        Bytes and seconds.
    folders : paths
        What may be read and listed, with all that lies in it.
    alone : paths
        Folders that may not be listed; of what lies in them, all but the packages that were installed there may be read.

    Returns
    -------
    str
        `BOTH` if both are in force, else "".
    """
    limit(memory, cpu)
    machine = MACHINES.get(os.uname().machine) if sys.platform == "linux" else None
    if machine is None or struct.calcsize("P") != 8:
        return ""
    libc = ctypes.CDLL(None, use_errno=True)  # local: the student's code is not to find it
    die_with_the_grader, no_new_privileges = (1, 9), (38, 1)  # PR_SET_*
    for option, value in (die_with_the_grader, no_new_privileges):
        libc.prctl(option, ctypes.c_ulong(value), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0))
    read_only = landlock(libc, folders, alone)
    return BOTH if seccomp(libc, *machine) and read_only else ""


def limit(memory: int, cpu: int) -> None:
    """Memory in bytes, time in seconds of CPU; no files, no core dumps. On systems without `resource` nothing is limited."""
    with contextlib.suppress(ImportError):
        import resource

        for what, n in (("AS", memory), ("CPU", cpu), ("FSIZE", 0), ("CORE", 0)):
            with contextlib.suppress(ValueError, OSError):
                resource.setrlimit(getattr(resource, f"RLIMIT_{what}"), (n, n))


def landlock(libc: ctypes.CDLL, folders: Iterable[str], alone: Iterable[str]) -> bool:
    """Of all files only those named may be read; nothing may be written. False where the kernel has no Landlock."""
    version = libc.syscall(CREATE_RULESET, None, ctypes.c_size_t(0), 1)
    threads = os.listdir("/proc/self/task") if os.path.exists("/proc/self/task") else ["1"]
    if version < 1 or len(threads) > 1:  # it binds this thread, and those that it will start
        return False
    files = (1 << max(n for least, n in FILE_RIGHTS.items() if version >= least)) - 1
    net, scoped = 3 if version >= 4 else 0, 3 if version >= 6 else 0  # no TCP; no signals and sockets to the outside
    rights = struct.pack("=QQQ", files, net, scoped)
    ruleset = libc.syscall(CREATE_RULESET, rights, ctypes.c_size_t(24 if scoped else 16 if net else 8), 0)
    if ruleset < 0:
        return False
    inside = [
        os.path.join(p, name) for p in alone for name in os.listdir(p) if name not in ("site-packages", "dist-packages")
    ]
    for path in (*folders, *inside, "/dev/urandom", os.devnull):
        with contextlib.suppress(OSError):
            place = os.open(path, os.O_PATH | os.O_CLOEXEC)
            allowed = READ_FILE | (READ_DIR if os.path.isdir(path) else 0)
            libc.syscall(ADD_RULE, ruleset, 1, struct.pack("=Qi", allowed, place), 0)
            os.close(place)
    done = libc.syscall(RESTRICT_SELF, ruleset, 0) == 0
    os.close(ruleset)
    return done


def seccomp(libc: ctypes.CDLL, which: int, arch: int) -> bool:
    """Install the filter for all threads of this process. False where the kernel has none."""
    program = b"".join(struct.pack("=HBBI", *step) for step in steps(which, arch, os.getpid()))
    code = ctypes.create_string_buffer(program, len(program))
    filter_ = struct.pack("@HP", len(program) // 8, ctypes.addressof(code))
    set_filter, all_threads = 1, 1
    return libc.syscall(numbers(LOOKED_AT, which)["seccomp"], set_filter, all_threads, filter_) == 0


Step = tuple[int, int, int, int]  # of a filter, see bpf(4): code, steps to skip if true, if false, a number


def steps(which: int, arch: int, pid: int) -> list[Step]:
    """The filter: the call's number is compared with one after another."""
    looked_at = numbers(LOOKED_AT, which)
    writes = os.O_ACCMODE | os.O_CREAT | os.O_TRUNC | os.O_APPEND | 0o20000000  # O_TMPFILE
    thread, terminal_and_exec = 0x10000, (0x5401, 0x5413, 0x5450, 0x5451)  # CLONE_THREAD; TCGETS, size, close on exec
    tests = {
        "open": [*argument(1, writes), *allow_if(0), back(END)],
        "openat": [*argument(2, writes), *allow_if(0), back(END)],
        "clone": [*argument(0, thread), *allow_if(thread), back(END)],
        "clone3": [back(0x00050000 | 38)],  # ENOSYS: the C library then takes clone, whose flags can be seen
        "ioctl": [*argument(1), *allow_if(*terminal_and_exec), back(FAIL)],
        "fcntl": [*argument(1), *allow_if(0, 1, 2, 3, 1030), back(FAIL)],  # duplicate, and ask
        "prlimit64": [*argument(2), jump(0, 0, 3), load(16 + 8 * 2 + 4), *allow_if(0), back(FAIL)],  # ask, not set
        "tgkill": [*argument(0), *allow_if(pid), back(END)],  # abort() signals oneself
    }
    found = [load(4), jump(arch, 1, 0), back(END), load(0)]
    for number in numbers(HARMLESS, which).values():
        found += [jump(number, 0, 1), back(ALLOW)]
    for name, test in tests.items():
        if name in looked_at:
            found += [jump(looked_at[name], 0, len(test)), *test]
    for number in numbers(FATAL, which).values():
        found += [jump(number, 0, 1), back(END)]
    return [*found, back(FAIL)]


def numbers(table: str, which: int) -> dict[str, int]:
    """The calls of a table that exist on this machine."""
    rows = [row.split() for row in table.split(",")]
    return {row[0]: int(row[1 + which]) for row in rows if row[1 + which] != "-"}


def load(place: int) -> Step:
    """Take 32 bits of struct seccomp_data: 0 the call's number, 4 the machine's kind, from 16 on the arguments."""
    return (0x20, 0, 0, place)


def argument(number: int, mask: int = 0xFFFFFFFF) -> list[Step]:
    """Take the lower half of an argument, and of it the bits of a mask."""
    return [load(16 + 8 * number), (0x54, 0, 0, mask)]


def jump(value: int, yes: int, no: int) -> Step:
    """Skip so many steps if what was taken is `value`, or so many if not."""
    return (0x15, yes, no, value)


def allow_if(*values: int) -> list[Step]:
    """Let the call through if what was taken is one of these."""
    return [step for value in values for step in (jump(value, 0, 1), back(ALLOW))]


def back(action: int) -> Step:
    """Decide."""
    return (0x06, 0, 0, action)
