/**
 * The calls of Windows that a tracer makes, as one object, so that everything above it runs on any system against another one.
 *
 *   a call returns what Windows returns, or the negated error of Winsock or of Windows             sockets and handles are numbers
 *   what may block runs on a thread of the pool and reports by a callback; errors of that thread cannot be read here, so only calls
 *   whose outcome lies in memory are made there
 */
import koffi from 'koffi';

export interface WindowsSystem {
  socket(family: number, type: number, protocol: number): number;
  closesocket(socket: number): number;
  setsockopt(socket: number, level: number, option: number, value: Uint8Array): number;
  getsockopt(socket: number, level: number, option: number, into: Uint8Array): number;
  bind(socket: number, address: Uint8Array): number;
  connect(socket: number, address: Uint8Array): number;
  listen(socket: number, backlog: number): number;
  getsockname(socket: number, into: Uint8Array): number;
  ioctlsocket(socket: number, command: number, argument: Uint8Array): number;
  sendto(socket: number, bytes: Uint8Array, length: number, address: Uint8Array): number;
  recv(socket: number, into: Uint8Array): number;
  /** WSAPoll of one socket. `done`: whether anything happened before the time-out. */
  pollLater(socket: number, events: number, milliseconds: number, done: (ready: boolean) => void): void;

  /** Opens the service control manager and the service; a handle. */
  openService(name: string): number;
  startService(service: number): number;
  closeService(service: number): number;

  createFile(path: string, access: number, flags: number): number;
  closeHandle(handle: number): number;
  deviceIoControl(handle: number, code: number, input: Uint8Array, output: Uint8Array): number;
  /** A new completion port for one handle. */
  createPort(handle: number): number;
  /** Overlapped: `at` is where an OVERLAPPED (32 bytes, zeroed) lies in `memory`, and `length` bytes of room behind it. */
  readFile(handle: number, memory: Uint8Array, at: number, length: number): number;
  /** Takes one completion, if there is one: into bytes u32 · padding · key u64 · address of the OVERLAPPED u64. */
  takeCompletion(port: number, into: Uint8Array): boolean;
  /** The same on a thread of the pool, which waits for one. */
  waitCompletion(port: number, milliseconds: number, into: Uint8Array, done: (taken: boolean) => void): void;
  writeFile(handle: number, bytes: Uint8Array, length: number): number;
  cancelIo(handle: number): number;
  address(bytes: Uint8Array): number;
}

export const OVERLAPPED_BYTES = 32;
/** bytes u32 · padding · key u64 · OVERLAPPED* u64 */
export const COMPLETION = { bytes: 0, key: 8, overlapped: 16, size: 24 } as const;

type Native = (...args: readonly unknown[]) => number;
const INVALID = -1;
const OPEN_EXISTING = 3;
const SC_MANAGER_CONNECT = 1;
/** SERVICE_START | SERVICE_QUERY_STATUS */
const SERVICE_RIGHTS = 0x0014;
/** WSADATA on x64. */
const WSADATA_BYTES = 408;
const WINSOCK_2_2 = 0x0202;

/** Not run on hardware. @throws Error where these libraries are not */
export function openWindowsSystem(): WindowsSystem {
  const winsock = koffi.load('ws2_32.dll');
  const kernel = koffi.load('kernel32.dll');
  const services = koffi.load('advapi32.dll');
  const lastSocketError = winsock.func('int __stdcall WSAGetLastError()') as unknown as () => number;
  const lastError = kernel.func('uint32_t __stdcall GetLastError()') as unknown as () => number;
  /** Negative: failed, with Winsock's error. */
  const ws = (prototype: string): Native => {
    const native = winsock.func(prototype) as unknown as Native;
    return (...args) => {
      const returned = Number(native(...args));
      return returned < 0 ? -lastSocketError() : returned;
    };
  };
  /** 0: failed, with Windows' error. */
  const win = (library: typeof kernel, prototype: string): Native => {
    const native = library.func(prototype) as unknown as Native;
    return (...args) => {
      const returned = Number(native(...args));
      return returned === 0 || returned === INVALID ? -lastError() : returned;
    };
  };
  const startup = ws('int __stdcall WSAStartup(uint16_t version, void *data)');
  startup(WINSOCK_2_2, new Uint8Array(WSADATA_BYTES));
  const poll = winsock.func('int __stdcall WSAPoll(void *sockets, uint32_t count, int milliseconds)');
  const completion = kernel.func(
    'int __stdcall GetQueuedCompletionStatus(intptr_t port, void *bytes, void *key, void *overlapped, uint32_t milliseconds)',
  );
  const [setsockopt, getsockopt, bind, connect, getsockname, sendto, recv] = [
    ws('int __stdcall setsockopt(intptr_t socket, int level, int option, const void *value, int length)'),
    ws('int __stdcall getsockopt(intptr_t socket, int level, int option, void *value, void *length)'),
    ws('int __stdcall bind(intptr_t socket, const void *address, int length)'),
    ws('int __stdcall connect(intptr_t socket, const void *address, int length)'),
    ws('int __stdcall getsockname(intptr_t socket, void *address, void *length)'),
    ws('int __stdcall sendto(intptr_t socket, const void *bytes, int size, int flags, const void *to, int length)'),
    ws('int __stdcall recv(intptr_t socket, void *bytes, int size, int flags)'),
  ] as const;
  const [manager, service, startService] = [
    win(
      services,
      'intptr_t __stdcall OpenSCManagerW(const char16_t *machine, const char16_t *database, uint32_t access)',
    ),
    win(services, 'intptr_t __stdcall OpenServiceW(intptr_t manager, const char16_t *name, uint32_t access)'),
    win(services, 'int __stdcall StartServiceW(intptr_t service, uint32_t count, void *arguments)'),
  ];
  const closeService = win(services, 'int __stdcall CloseServiceHandle(intptr_t handle)');
  const [createFile, control, createPort, readFile, writeFile, cancelIo] = [
    win(
      kernel,
      'intptr_t __stdcall CreateFileW(const char16_t *path, uint32_t access, uint32_t share, void *security, uint32_t creation, uint32_t flags, intptr_t template)',
    ),
    win(
      kernel,
      'int __stdcall DeviceIoControl(intptr_t handle, uint32_t code, const void *input, uint32_t inputSize, void *output, uint32_t outputSize, void *returned, void *overlapped)',
    ),
    win(
      kernel,
      'intptr_t __stdcall CreateIoCompletionPort(intptr_t handle, intptr_t port, uintptr_t key, uint32_t threads)',
    ),
    win(
      kernel,
      'int __stdcall ReadFile(intptr_t handle, uintptr_t bytes, uint32_t size, void *read, uintptr_t overlapped)',
    ),
    win(
      kernel,
      'int __stdcall WriteFile(intptr_t handle, const void *bytes, uint32_t size, void *written, void *overlapped)',
    ),
    win(kernel, 'int __stdcall CancelIoEx(intptr_t handle, void *overlapped)'),
  ] as const;
  const parts = (into: Uint8Array) => [
    into.subarray(COMPLETION.bytes),
    into.subarray(COMPLETION.key),
    into.subarray(COMPLETION.overlapped),
  ];
  return {
    socket: ws('intptr_t __stdcall socket(int family, int type, int protocol)'),
    closesocket: ws('int __stdcall closesocket(intptr_t socket)'),
    setsockopt: (socket, level, option, value) => setsockopt(socket, level, option, value, value.length),
    getsockopt: (socket, level, option, into) => getsockopt(socket, level, option, into, length(into)),
    bind: (socket, address) => bind(socket, address, address.length),
    connect: (socket, address) => connect(socket, address, address.length),
    listen: ws('int __stdcall listen(intptr_t socket, int backlog)'),
    getsockname: (socket, into) => getsockname(socket, into, length(into)),
    ioctlsocket: ws('int __stdcall ioctlsocket(intptr_t socket, long command, void *argument)'),
    sendto: (socket, bytes, size, address) => sendto(socket, bytes, size, 0, address, address.length),
    recv: (socket, into) => recv(socket, into, into.length, 0),
    pollLater: (socket, events, milliseconds, done) => {
      // WSAPOLLFD: socket u64 · events i16 · returned i16 · padding
      const entry = new Uint8Array(16);
      const view = new DataView(entry.buffer);
      view.setBigUint64(0, BigInt(socket), true);
      view.setInt16(8, events, true);
      poll.async(entry, 1, milliseconds, () => done(view.getInt16(10, true) !== 0));
    },
    openService: (name) => {
      const opened = manager!(null, null, SC_MANAGER_CONNECT);
      if (opened < 0) return opened;
      const found = service!(opened, name, SERVICE_RIGHTS);
      closeService(opened);
      return found;
    },
    startService: (handle) => startService!(handle, 0, null),
    closeService,
    createFile: (path, access, flags) => createFile(path, access, 0, null, OPEN_EXISTING, flags, 0),
    closeHandle: win(kernel, 'int __stdcall CloseHandle(intptr_t handle)'),
    deviceIoControl: (handle, code, input, output) =>
      control(handle, code, input, input.length, output, output.length, new Uint8Array(4), null),
    createPort: (handle) => createPort(handle, 0, 0, 0),
    readFile: (handle, memory, at, size) => {
      const address = Number(koffi.address(memory)) + at;
      return readFile(handle, address + OVERLAPPED_BYTES, size, null, address);
    },
    takeCompletion: (port, into) => Number(completion(port, ...parts(into), 0)) !== 0,
    waitCompletion: (port, milliseconds, into, done) => {
      completion.async(port, ...parts(into), milliseconds, (_error: unknown, taken: number) =>
        done(Number(taken) !== 0),
      );
    },
    writeFile: (handle, bytes, size) => writeFile(handle, bytes, size, new Uint8Array(4), null),
    cancelIo: (handle) => cancelIo(handle, null),
    address: (bytes) => Number(koffi.address(bytes)),
  };
}

/** An int that holds the length of a buffer, for calls that change it. */
function length(of: Uint8Array): Uint8Array {
  const out = new Uint8Array(4);
  new DataView(out.buffer).setInt32(0, of.length, true);
  return out;
}
