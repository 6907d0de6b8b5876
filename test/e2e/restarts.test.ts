/**
 * Each role restarted, gracefully and by SIGKILL, while a download runs: the flow survives or is reset, and never hangs; both nodes
 * notice at once; new flows work.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Seconds } from '../../src/base/time.js';
import { Lab } from '../lab/lab.js';
import { contentHash } from '../lab/programs/content.mjs';
import { program, startHttp, startTcp } from '../lab/services.js';
import { ADDRESSES } from '../lab/topology.js';
import { type AgentThreadStatus, Network } from './network.js';
import type { LogLine, Role } from './role.js';
import { Download } from './transfer.js';

const BACKEND = ADDRESSES.backend.v4;
const BYTES = 60_000_000;
const RATE = '10M';
/** A node that only an idle timeout (90 s) tells about a lost relay is far beyond this. */
const NOTICE_LIMIT = Seconds(20);

/** How long the relay is away. */
const OUTAGE_MS = 8_000;

/** A restarted agent has no session before a packet asks for one, so a client that only reads needs keep-alives (seconds). */
const KEEPALIVE = ['--keepalive-time', '2'];

describe.skipIf(Lab.unavailable() !== undefined)('restarts', () => {
  let network: Network;
  let url: string;

  beforeAll(async () => {
    network = await Network.make({ services: { web: `tcp://${BACKEND}:8080`, sink: `tcp://${BACKEND}:9` } });
    await startHttp(network.topology.backend);
    await startTcp(network.topology.backend, 'sink', { port: 9 });
    url = `http://${(await network.virtual('web')).v4}:8080`;
  });
  afterAll(async () => {
    await network?.destroy();
  });
  beforeEach((context) => network.reportFailure(context));

  const fetchesAgain = async (): Promise<void> => {
    const argv = ['sh', '-c', 'curl -sSf --max-time 30 "$1" | sha256sum', 'sh', `${url}/bytes/100000?seed=2`];
    const { stdout } = await network.topology.user.exec(argv);
    expect(stdout.slice(0, 64)).toBe(contentHash(2, 100_000));
  };
  const nodes = (): Role[] => [network.connector, network.agent];
  const counts = (message: string): number[] => nodes().map((node) => node.logged(message).length);
  /** Each node's next line with this message, after those that `before` counted. */
  const next = (message: string, before: readonly number[]): Promise<LogLine[]> =>
    Promise.all(
      nodes().map((node, index) =>
        node.waitForLog(message, undefined, { skip: before[index]!, timeout: NOTICE_LIMIT }),
      ),
    );
  const seen = (what: string, since: number, lines: readonly LogLine[]): void => {
    const ms = lines.map((line) => `${Number(line['time']) - since} ms (${line['reason'] ?? 'ready'})`);
    console.log(`${what}: connector ${ms[0]}, agent ${ms[1]}`);
  };

  it('relay, gracefully: the download goes on', async () => {
    const download = await Download.start(network, url, BYTES, RATE);
    const [lost, ready] = [counts('relay-lost'), counts('relay-ready')];
    const at = Date.now();
    await network.relay.stop();
    seen('relay stopped, noticed after', at, await next('relay-lost', lost));
    await network.startRelay();
    await next('relay-ready', ready);
    await download.progress();
    expect(await download.outcome()).toBe('complete');
    await fetchesAgain();
  });

  it('relay, killed under load and started again: both nodes notice, the download goes on', async () => {
    const download = await Download.start(network, url, BYTES, RATE);
    const [lost, ready] = [counts('relay-lost'), counts('relay-ready')];
    const at = Date.now();
    await network.relay.kill();
    await network.startRelay();
    const lines = await next('relay-lost', lost);
    seen('relay killed and started, noticed after', at, lines);
    for (const line of lines) expect(String(line['reason'])).not.toMatch(/timed out|idle/);
    await next('relay-ready', ready);
    await download.progress();
    expect(await download.outcome()).toBe('complete');
    await fetchesAgain();
  });

  it('relay, killed under load and gone: the agent, whose packets wait, notices without an idle timeout', async () => {
    const download = await Download.start(network, url, BYTES, RATE);
    const [lost, ready] = [counts('relay-lost'), counts('relay-ready')];
    const at = Date.now();
    await network.relay.kill();
    seen('relay killed, noticed after', at, await next('relay-lost', lost));
    const { relay } = await network.agent.status<AgentThreadStatus>();
    expect(relay.state).not.toBe('ready');
    expect(relay.problem).not.toBe('');
    // A relay's host takes some seconds to restart; the outage itself is what is tested.
    await delay(Math.max(0, at + OUTAGE_MS - Date.now()));
    await network.startRelay();
    await next('relay-ready', ready);
    await download.progress();
    expect(await download.outcome()).toBe('complete');
    await fetchesAgain();
  });

  it('connector, gracefully: the download is reset at once, and a new one works', async () => {
    const download = await Download.start(network, url, BYTES, RATE);
    await network.connector.stop();
    expect(await download.outcome()).toBe('broken');
    await network.startConnector();
    await network.agent.waitForStatus<AgentThreadStatus>('the service to be back', ({ services }) =>
      services.every((one) => one.available),
    );
    await fetchesAgain();
  });

  it.each([
    ['connector', 'kill'],
    ['agent', 'stop'],
    ['agent', 'kill'],
  ] as const)('%s, %s: uploads and downloads are reset once it is back, and new ones work', async (which, how) => {
    const upload = await uploadUnderWay();
    const download = await Download.start(network, url, 10 * BYTES, RATE, which === 'agent' ? KEEPALIVE : []);
    await (which === 'agent' ? network.agent : network.connector)[how]();
    await (which === 'agent' ? network.startAgent() : network.startConnector());
    expect((await upload.exited).code).not.toBe(0);
    expect(await download.outcome()).toBe('broken');
    await fetchesAgain();
  });

  /** An upload that would last for ever; its end is what the test waits for. */
  const uploadUnderWay = async () => {
    const { v4 } = await network.virtual('sink');
    const before = (await network.agent.status<AgentThreadStatus>()).counters['tun.fromHost'] ?? 0;
    const upload = network.topology.user.spawn(program('tcp-client', v4, '9', '--bytes', '1000000000000'));
    await network.agent.waitForStatus<AgentThreadStatus>(
      'the upload to be under way',
      ({ counters }) => (counters['tun.fromHost'] ?? 0) > before + 500,
    );
    return upload;
  };
});
