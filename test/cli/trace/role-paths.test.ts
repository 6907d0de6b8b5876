import { describe, expect, it } from 'vitest';
import type { RoleStatus } from '../../../src/cli/status-types.js';
import { choosePaths, type PathChoice } from '../../../src/cli/trace/role-paths.js';

type Of<R extends RoleStatus['role']> = Extract<RoleStatus, { readonly role: R }>;

const COMMON = { network: 'lab', name: 'x', policyVersion: 1, policyState: 'valid', counters: {}, drops: {} };
const READY = {
  over: 'udp' as const,
  state: 'ready',
  address: '198.51.100.2:4433',
  observed: undefined,
  secondsInState: 1,
  problem: '',
  lies: 0,
};
const LINK = {
  via: 'relay',
  remote: '198.51.100.2:4433',
  state: 'active',
  why: 'best_rank',
  jitterMilliseconds: 0,
  loss: { in: 0, out: 0 },
  number: 1,
  secondsLive: 1,
  rttMilliseconds: 1,
  packets: { in: 0, out: 0 },
  lostPackets: 0,
  maxDatagram: 1200,
} as const;
const TO_RELAY = { id: 'relay', target: '198.51.100.2', port: 4433, protocols: ['quic', 'icmp', 'udp'] };

const SERVICE = {
  id: 'web',
  virtualIp4: '10.100.0.1',
  virtualIp6: 'fd00::1',
  prefix: undefined,
  protocols: ['tcp'],
  ports: '8080',
  connectors: ['office'],
  available: true,
  path: undefined,
};

function agent(more: Partial<Of<'agent'>> = {}): Of<'agent'> {
  return {
    role: 'agent',
    ...COMMON,
    device: { mode: 'tun', tun: 'sallyport0', reason: undefined, listeners: [] },
    overlay: [],
    relay: READY,
    services: [SERVICE],
    sessions: [
      {
        connector: 'office',
        session: '0a1b',
        state: 'live',
        reason: '',
        secondsInState: 1,
        problem: '',
        link: LINK,
        links: [LINK],
        direct: '',
        reconnects: 0,
        waitingPackets: 0,
        services: ['web'],
      },
    ],
    ...more,
  } as unknown as Of<'agent'>;
}

function connector(backend: string, resolved?: string): Of<'connector'> {
  return {
    role: 'connector',
    ...COMMON,
    relay: READY,
    services: [{ id: 'web', backend, registration: 'ok', resolved }],
    sessions: [],
    echoAnsweredHere: false,
    portMapping: undefined,
    nat: undefined,
  } as unknown as Of<'connector'>;
}

const NODE = { services: [], channels: 1, secondsConnected: 1 };
const RELAY = {
  role: 'relay',
  ...COMMON,
  listening: [],
  drainingSeconds: undefined,
  nodesHiddenBy: undefined,
  nodes: [
    { ...NODE, role: 'agent', name: 'alice', address: '192.0.2.2:5000' },
    { ...NODE, role: 'connector', name: 'office', address: '[2001:db8::2]:5000' },
  ],
  channels: [{ agent: 'alice', connector: 'office', service: 'web', packets: {}, bytes: {}, dropped: {} }],
} as unknown as Of<'relay'>;

const choose = (status: RoleStatus, choice: Partial<PathChoice>) =>
  choosePaths(status, { path: undefined, service: undefined, ...choice });
const error = (status: RoleStatus, choice: Partial<PathChoice>): unknown => {
  try {
    return choose(status, choice);
  } catch (thrown) {
    return thrown;
  }
};

describe('the paths of an agent', () => {
  it('are the one to its relay, and what its sessions’ links go by', () => {
    expect(choose(agent(), { path: 'relay' })).toEqual({ paths: [TO_RELAY], notes: [] });
    for (const path of ['office', '0a1b']) {
      expect(choose(agent(), { path })).toEqual({
        paths: [TO_RELAY],
        notes: [expect.stringContaining('by the relay')],
      });
    }
    expect(error(agent(), { path: 'home' })).toMatchObject({
      code: 'PATH_UNKNOWN',
      hint: expect.stringContaining('relay, office'),
    });
    const sessions = agent().sessions.map((one) => ({ ...one, link: undefined }));
    expect(error(agent({ sessions }), { path: 'office' })).toMatchObject({ code: 'PATH_NOT_READY' });
    const relay = { ...READY, state: 'backing off', address: undefined, problem: 'no answer' };
    expect(error(agent({ relay }), { path: 'relay' })).toMatchObject({
      code: 'PATH_NOT_READY',
      message: expect.stringContaining('no answer'),
    });
  });

  it('are straight to the peer where the link is direct, also below a service', () => {
    const link = { ...LINK, via: 'direct', relay: undefined, remote: '[2001:db8:5::5]:40000' } as const;
    const sessions = agent().sessions.map((one) => ({ ...one, link }));
    const direct = { id: 'session office', target: '2001:db8:5::5', port: 40_000, protocols: ['icmp', 'udp'] };
    expect(choose(agent({ sessions }), { path: 'office' })).toEqual({ paths: [direct], notes: [] });
    expect(choose(agent({ sessions }), { service: 'web' }).paths[1]).toEqual(direct);
    expect(choose(agent({ sessions }), { path: 'relay' }).paths).toEqual([TO_RELAY]);
  });

  it('do not show what is behind a TCP connection to the relay', () => {
    const relay = { ...READY, over: 'tcp', address: '127.0.0.1:40000' } as const;
    expect(error(agent({ relay }), { path: 'relay' })).toMatchObject({
      code: 'PATH_NOT_READY',
      hint: expect.stringContaining('-P tcp'),
    });
  });

  it('to a service lead through the tunnel, by what may be sent there', () => {
    const inner = { id: 'service web', target: '10.100.0.1', port: 8080, protocols: ['tcp'] };
    expect(choose(agent(), { service: 'web' })).toEqual({ paths: [inner, TO_RELAY], notes: [] });
    const as = (change: object) =>
      choose(agent({ services: [{ ...SERVICE, ...change }] }), { service: 'web' }).paths[0];
    expect(as({ ports: '90-99,443' })).toMatchObject({ port: 90, protocols: ['tcp'] });
    expect(as({ ports: 'any' })).toMatchObject({ port: 33_434, protocols: ['icmp'] });
    expect(as({ protocols: ['udp'], ports: '53' })).toMatchObject({ port: 53, protocols: ['icmp'] });
    expect(as({ virtualIp4: undefined })).toMatchObject({ target: 'fd00::1' });
    expect(choose(agent({ services: [{ ...SERVICE, available: false }] }), { service: 'web' }).notes).toHaveLength(1);
  });

  it('do not lead into the tunnel in proxy mode', () => {
    const device = { mode: 'proxy', tun: undefined, reason: 'no', listeners: [] } as const;
    expect(choose(agent({ device }), { service: 'web' })).toEqual({
      paths: [TO_RELAY],
      notes: [expect.stringContaining('proxy mode')],
    });
  });

  it('to nothing and to a whole network are errors that say what to do', () => {
    expect(error(agent(), { service: 'ssh' })).toMatchObject({ code: 'SERVICE_UNKNOWN', hint: 'services: web' });
    expect(error(agent({ services: [] }), { service: 'ssh' })).toMatchObject({ hint: 'services: none' });
    const services = [{ ...SERVICE, virtualIp4: undefined, virtualIp6: undefined, prefix: '10.20.0.0/24' }];
    expect(error(agent({ services }), { service: 'web' })).toMatchObject({
      code: 'SERVICE_IS_PREFIX',
      hint: expect.stringContaining('sallyport trace ADDRESS'),
    });
  });
});

describe('the paths of a connector', () => {
  it('lead to its relay and its backends', () => {
    expect(choose(connector('tcp://10.0.0.1:80'), { path: 'relay' }).paths).toEqual([TO_RELAY]);
    const to = (backend: string, resolved?: string) => choose(connector(backend, resolved), { service: 'web' }).paths;
    expect(to('tcp://10.0.0.1:80')).toEqual([{ id: 'service web', target: '10.0.0.1', port: 80, protocols: ['tcp'] }]);
    expect(to('tcp://[fd00::5]:443')).toMatchObject([{ target: 'fd00::5', port: 443, protocols: ['tcp'] }]);
    expect(to('udp://db.internal:53', '10.0.0.9')).toMatchObject([
      { target: '10.0.0.9', port: 53, protocols: ['icmp'] },
    ]);
    expect(to('any://10.0.0.1')).toMatchObject([{ target: '10.0.0.1', port: 33_434, protocols: ['icmp'] }]);
    expect(error(connector('tcp://db.internal:80'), { service: 'web' })).toMatchObject({ code: 'PATH_NOT_READY' });
    expect(error(connector('any://10.0.0.0/8'), { service: 'web' })).toMatchObject({ code: 'SERVICE_IS_PREFIX' });
    expect(error(connector('tcp://10.0.0.1:80'), { service: 'x' })).toMatchObject({ code: 'SERVICE_UNKNOWN' });
  });
});

describe('the paths of a relay', () => {
  it('lead to its nodes, by name, and to both ends of a channel', () => {
    const alice = { id: 'agent alice', target: '192.0.2.2', port: 33_434, protocols: ['icmp'] };
    const office = { id: 'connector office', target: '2001:db8::2', port: 33_434, protocols: ['icmp'] };
    expect(choose(RELAY, { path: 'alice' }).paths).toEqual([alice]);
    expect(choose(RELAY, { path: 'alice/office' }).paths).toEqual([alice, office]);
    expect(error(RELAY, { path: 'office/alice' })).toMatchObject({ code: 'PATH_UNKNOWN' });
    expect(error(RELAY, { path: 'bob' })).toMatchObject({
      code: 'PATH_UNKNOWN',
      hint: 'nodes of this relay: alice, office',
    });
    expect(error(RELAY, { service: 'web' })).toMatchObject({ code: 'SERVICE_UNKNOWN' });
  });
});
