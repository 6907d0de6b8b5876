/**
 * The C library as seen from here: the only place that loads koffi. Every pointer parameter is a plain number (the address
 * that `NativeMemory` took once): measured, a call costs 0.19 µs with numbers and 0.32 µs when koffi has to look a Buffer up.
 *
 * Byte counts are declared `int`: no call here moves 2 GiB, and koffi never has to make a BigInt of one.
 *
 * All calls return −1 on failure and leave the cause in errno; `check` and `result` turn that into a negated errno at once,
 * before anything else can overwrite it. Structures are laid out by hand for 64-bit little-endian Linux (x64, arm64).
 */
import koffi from 'koffi';
import { SallyportError } from '../../base/error.js';

if (process.platform !== 'linux' || (process.arch !== 'x64' && process.arch !== 'arm64')) {
  throw new SallyportError(
    'environment',
    'PLATFORM_NOT_SUPPORTED',
    `the Linux backend does not run on ${process.platform}/${process.arch}`,
    { hint: 'use the portable backend' },
  );
}

const library = loadLibrary();

/** A C function of integers and addresses. */
type Native = (...args: number[]) => number;

const declare = (prototype: string): Native => library.func(prototype) as Native;

export const socket = declare('int socket(int, int, int)');
export const bind = declare('int bind(int, uintptr_t, uint32_t)');
export const connect = declare('int connect(int, uintptr_t, uint32_t)');
export const listen = declare('int listen(int, int)');
export const accept4 = declare('int accept4(int, uintptr_t, uintptr_t, int)');
export const getsockname = declare('int getsockname(int, uintptr_t, uintptr_t)');
export const setsockopt = declare('int setsockopt(int, int, int, uintptr_t, uint32_t)');
export const getsockopt = declare('int getsockopt(int, int, int, uintptr_t, uintptr_t)');
export const shutdown = declare('int shutdown(int, int)');
export const close = declare('int close(int)');
export const read = declare('int read(int, uintptr_t, uint64_t)');
export const write = declare('int write(int, uintptr_t, uint64_t)');
export const writev = declare('int writev(int, uintptr_t, int)');
export const send = declare('int send(int, uintptr_t, uint64_t, int)');
export const sendto = declare('int sendto(int, uintptr_t, uint64_t, int, uintptr_t, uint32_t)');
export const recvfrom = declare('int recvfrom(int, uintptr_t, uint64_t, int, uintptr_t, uintptr_t)');
export const sendmmsg = declare('int sendmmsg(int, uintptr_t, uint32_t, int)');
export const recvmmsg = declare('int recvmmsg(int, uintptr_t, uint32_t, int, uintptr_t)');
/** `poll` with a timeout in nanoseconds. */
export const ppoll = declare('int ppoll(uintptr_t, uint64_t, uintptr_t, uintptr_t)');
/**
 * `ppoll` on a thread of libuv's pool: `done` is called on this thread when it returned. What its addresses point to must be
 * kept until then.
 */
export const ppollAsync = declareAsync('int ppoll(uintptr_t, uint64_t, uintptr_t, uintptr_t)');
export const clockGettime = declare('int clock_gettime(int, uintptr_t)');
export const epollCreate1 = declare('int epoll_create1(int)');
export const epollCtl = declare('int epoll_ctl(int, int, int, uintptr_t)');
export const epollWait = declare('int epoll_wait(int, uintptr_t, int, int)');
/** With a timeout in nanoseconds; absent from C libraries before glibc 2.35 (the kernel has it since 5.11). */
export const epollPwait2 = declareOptional('int epoll_pwait2(int, uintptr_t, int, uintptr_t, uintptr_t)');
export const madvise = declare('int madvise(uintptr_t, size_t, int)');
/** glibc's own; returns memory that was freed to the kernel. */
export const mallocTrim = declareOptional('int malloc_trim(size_t)');
/** Of the thread with this id, of the caller for 0. */
export const schedGetscheduler = declare('int sched_getscheduler(int)');
export const schedSetscheduler = declare('int sched_setscheduler(int, int, uintptr_t)');
export const eventfd = declare('int eventfd(uint32_t, int)');
export const open = library.func('int open(const char*, int)') as (path: string, flags: number) => number;
/** With a pointer, and with a plain value: both are register-sized, so one declaration serves. */
export const ioctl = declare('int ioctl(int, uint64_t, uintptr_t)');

/** errno of the last failed call on this thread. */
export const errno = koffi.errno as () => number;

/** The address of the first byte; see `NativeMemory` for who keeps the bytes alive. */
export const addressOf = (bytes: Uint8Array): number => Number(koffi.address(bytes));

/** A call's return value as an `IoResult`: counts stay, −1 becomes the negated errno. */
export function result(returned: number): number {
  return returned >= 0 ? returned : -errno();
}

/** EIO, EINVAL … as text for messages; numbers that have no name here stay numbers. */
export function errnoName(code: number): string {
  return Object.entries(koffi.os.errno).find(([, value]) => value === code)?.[0] ?? `errno ${code}`;
}

/**
 * The value of a call that must not fail outside the packet path.
 * @throws SallyportError (environment) with the given code, naming the call and the cause.
 */
export function check(returned: number, what: string, code = 'SYSTEM_CALL_FAILED', hint?: string): number {
  if (returned >= 0) return returned;
  const cause = errnoName(errno());
  throw new SallyportError('environment', code, `${what}: ${cause}`, hint === undefined ? {} : { hint });
}

function loadLibrary(): ReturnType<typeof koffi.load> {
  for (const name of ['libc.so.6', `libc.musl-${process.arch === 'x64' ? 'x86_64' : 'aarch64'}.so.1`]) {
    try {
      return koffi.load(name);
    } catch {
      // The next name is tried.
    }
  }
  throw new SallyportError('environment', 'LIBC_NOT_FOUND', 'no C library could be loaded');
}

/** A C function that is called on another thread with these arguments and reports by a callback. */
function declareAsync(prototype: string): (args: readonly number[], done: () => void) => void {
  const native = library.func(prototype);
  return (args, done) => native.async(...args, done);
}

function declareOptional(prototype: string): Native | undefined {
  try {
    return declare(prototype);
  } catch {
    return undefined;
  }
}
