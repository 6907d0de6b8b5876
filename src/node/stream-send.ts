/**
 * What goes into a stream of datagrams: as much as it drains in some milliseconds, the rest waits, fairly by channel (FQ-CoDel).
 *
 *   take ─┬──────── there is room ────────┬─► batch ─► stream: unsent here and in the kernel ≤ `StreamRoom`
 *         └─ none ─► FQ-CoDel by channel ─┘
 *
 * A channel's packets are told by its id in front of them (`tunnel/frames`); what else there is, the relay connection's own packets
 * above all, is one more flow. What cannot wait is dropped and counted: the oldest of the channel that has most.
 */
import type { Counters } from '../base/counters.js';
import type { Instant } from '../base/time.js';
import { DatagramBatchWriter, MAX_PAYLOAD } from '../tunnel/datagram-batch.js';
import { EMPTY, FqCodel, type FqCodelCounter } from '../tunnel/fq-codel.js';
import { Frame, RELAYED_HEADER } from '../tunnel/frames.js';
import { Arena } from '../wire/arena.js';
import { StreamRoom } from './stream-room.js';

/** 512 KiB: 24 ms at 125 Mbit/s, and six times what CoDel lets stand at 5 Mbit/s. */
export const STREAM_SLOTS = 256;
/** 512 streams of a relay have it each; a channel's neighbour in a queue shares its turn only. */
const QUEUES = 64;

/** The stream below. */
export interface StreamSink {
  /** Bytes it has been given and the network has not. */
  readonly unsent: number;
  write(message: Uint8Array): void;
}

export class StreamSend {
  readonly #sink: StreamSink;
  readonly #room = new StreamRoom();
  readonly #batch = new DatagramBatchWriter();
  readonly #scratch = new Arena(MAX_PAYLOAD);
  /** Made when first needed: 512 KiB. */
  #queue: FqCodel | undefined;
  /** Bytes of payload the sink has been given. */
  #given = 0;
  /** Of these, not sent when it was last asked, and given since. */
  #unsent = 0;
  #wasBusy = false;
  /** Datagrams and bytes taken, and datagrams no queue takes. */
  taken = 0;
  takenBytes = 0;
  #misfits = 0;

  constructor(sink: StreamSink) {
    this.#sink = sink;
  }

  /** Something waits, here or below: `pump` is to be called again in about 2 ms. */
  get isBusy(): boolean {
    return this.#unsent > 0 || this.#backlog() > 0;
  }

  /** Bytes that may be taken now without standing in the queue. */
  get room(): number {
    return Math.max(0, this.#room.bytes - this.#unsent - this.#backlog());
  }

  /** Bytes that the stream has taken. */
  get gone(): number {
    return this.#given - this.#unsent;
  }

  /** Datagrams dropped. */
  get dropped(): number {
    const drops: Counters<FqCodelCounter> | undefined = this.#queue?.counters;
    if (drops === undefined) return this.#misfits;
    return this.#misfits + drops.get('dropped_queue_full') + drops.get('dropped_queue_delay');
  }

  #backlog(): number {
    return this.#queue === undefined ? 0 : this.#queue.backlog + this.#queue.size;
  }

  /** One datagram; what has been taken goes with the next `pump`. */
  take(now: Instant, payload: Uint8Array): void {
    const { length } = payload;
    this.taken++;
    this.takenBytes += length;
    if (length === 0 || length > MAX_PAYLOAD) {
      this.#misfits++;
      return;
    }
    if (this.#unsent < this.#room.bytes && (this.#queue === undefined || this.#queue.size === 0)) {
      this.#put(payload);
      return;
    }
    this.#queue ??= new FqCodel({ slots: STREAM_SLOTS, mtu: MAX_PAYLOAD, queues: QUEUES, ecn: false });
    // More than the queue holds in one turn of a loop: what has room goes first.
    if (this.#queue.size === STREAM_SLOTS) this.pump(now);
    this.#scratch.bytes.set(payload);
    this.#queue.enqueue(now, this.#scratch, 0, length, channelOf(payload));
  }

  /** Asks the stream what it has sent and gives it what there is room for. */
  pump(now: Instant): void {
    this.#flush();
    this.#unsent = this.#sink.unsent;
    this.#room.sample(now, this.gone, this.#wasBusy || this.isBusy);
    const queue = this.#queue;
    if (queue !== undefined) while (this.#unsent < this.#room.bytes && this.#move(now, queue));
    this.#wasBusy = this.isBusy;
    this.#flush();
  }

  #move(now: Instant, queue: FqCodel): boolean {
    const slot = queue.dequeue(now);
    if (slot === EMPTY) return false;
    const length = queue.lengths[slot]!;
    const at = queue.offsetOf(slot);
    this.#put(queue.arena.bytes.subarray(at, at + length));
    queue.release(slot);
    return true;
  }

  #put(payload: Uint8Array): void {
    if (!this.#batch.add(payload)) {
      this.#flush();
      this.#batch.add(payload);
    }
    this.#given += payload.length;
    this.#unsent += payload.length;
  }

  #flush(): void {
    if (!this.#batch.isEmpty) this.#sink.write(this.#batch.take());
  }
}

/** The low bits of the channel's id, which is random; 0: no channel's. */
function channelOf(payload: Uint8Array): number {
  if (payload[0] !== Frame.relayed || payload.length < RELAYED_HEADER) return 0;
  return payload[RELAYED_HEADER - 1]! + 1;
}
