/**
 * The engine of this system. What it needs of the system is loaded when it is made, and opened when something is to be traced.
 *
 *   Linux ─► os/linux    macOS ─► os/darwin    Windows ─► os/windows, or, where a run wishes it, the kernel driver there
 */
import type { Entropy } from '../base/entropy.js';
import { SallyportError } from '../base/error.js';
import type { PacketIo } from '../os/packet-io.js';
import type { TraceEngine, TraceEvent, TraceOptions } from './types.js';

/** Opens what a tracer needs of the system. @param driver Windows: the kernel driver */
export type OpenPacketIo = (driver: boolean) => Promise<PacketIo>;

/** To be closed by the caller; until then it may keep the process alive. */
export function openEngine(entropy: Entropy, open: OpenPacketIo = openSystem): TraceEngine {
  return new SystemEngine(entropy, open);
}

class SystemEngine implements TraceEngine {
  readonly #entropy: Entropy;
  readonly #open: OpenPacketIo;
  readonly #engines = new Map<boolean, Promise<TraceEngine>>();
  #closed = false;

  constructor(entropy: Entropy, open: OpenPacketIo) {
    this.#entropy = entropy;
    this.#open = open;
    // Names are looked up meanwhile; an error is the first run's.
    this.#engine(false).catch(() => undefined);
  }

  async *run(options: TraceOptions, signal: AbortSignal): AsyncGenerator<TraceEvent> {
    yield* (await this.#engine(options.windowsDriver)).run(options, signal);
  }

  async probeEnd(options: TraceOptions, signal: AbortSignal): Promise<number> {
    return await (await this.#engine(options.windowsDriver)).probeEnd(options, signal);
  }

  close(): void {
    this.#closed = true;
    for (const engine of this.#engines.values()) {
      engine.then(
        (opened) => opened.close(),
        () => undefined,
      );
    }
  }

  /** The driver is a thing of Windows; elsewhere the wish means nothing. */
  #engine(wantsDriver: boolean): Promise<TraceEngine> {
    const driver = wantsDriver && process.platform === 'win32';
    if (this.#closed) return Promise.reject(new SallyportError('bug', 'ENGINE_CLOSED', 'the engine is closed'));
    const known = this.#engines.get(driver);
    if (known !== undefined) return known;
    const opening = this.#load(driver);
    this.#engines.set(driver, opening);
    return opening;
  }

  async #load(driver: boolean): Promise<TraceEngine> {
    const [io, { Tracer }] = await Promise.all([this.#open(driver), import('./engine/tracer.js')]);
    return new Tracer(io, this.#entropy);
  }
}

async function openSystem(driver: boolean): Promise<PacketIo> {
  switch (process.platform) {
    case 'linux': {
      const { openLinuxPacketIo } = await import('../os/linux/packet-io.js');
      return openLinuxPacketIo((error) => {
        // A handler that throws is a defect of this program: it must not go unseen.
        queueMicrotask(() => {
          throw error;
        });
      });
    }
    case 'darwin': {
      const [{ openDarwinSystem }, { darwinHost, openDarwinPacketIo }] = await Promise.all([
        import('../os/darwin/system.js'),
        import('../os/darwin/packet-io.js'),
      ]);
      const system = openDarwinSystem();
      return openDarwinPacketIo(system, darwinHost(system));
    }
    case 'win32': {
      const [{ openWindowsSystem }, { openWindowsPacketIo }] = await Promise.all([
        import('../os/windows/system.js'),
        import('../os/windows/packet-io.js'),
      ]);
      return openWindowsPacketIo(openWindowsSystem(), driver);
    }
    default:
      throw new SallyportError('environment', 'PLATFORM_NOT_SUPPORTED', `no tracing on ${process.platform}`);
  }
}
