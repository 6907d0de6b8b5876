import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { SeededEntropy } from '../../src/base/entropy.js';
import { Hours, Millis, Seconds } from '../../src/base/time.js';
import { ExpiringCache } from '../../src/trace/cache.js';
import { AddressNames } from '../../src/trace/names.js';
import { Networks, originName, parseName, parseOrigin } from '../../src/trace/networks.js';
import { type Fetched, PublicIp } from '../../src/trace/public-ip.js';
import { Questions } from '../../src/trace/questions.js';
import { resolveTarget } from '../../src/trace/resolve.js';
import { parseTarget } from '../../src/trace/target.js';
import { ip, timerClock } from './fixtures.js';

const never = new AbortController().signal;
const clock = timerClock;

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance', 'Date'] });
});
afterEach(() => {
  vi.useRealTimers();
});

describe('a target’s address', () => {
  const lookup = async (): Promise<readonly string[]> => ['2001:db8::2', '192.0.2.2', '192.0.2.3'];
  const resolve = (text: string, ipv6: boolean, found = lookup) => resolveTarget(parseTarget(text), ipv6, found, never);

  it('is the first of the wanted family, and a literal itself', async () => {
    expect(`${await resolve('h.example', false)}`).toBe('192.0.2.2');
    expect(`${await resolve('h.example', true)}`).toBe('2001:db8::2');
    expect(`${await resolve('192.0.2.9', true)}`).toBe('192.0.2.9');
  });

  it.each<[boolean, readonly string[], string]>([
    [false, ['2001:db8::2'], 'failed to resolve host "h.example": no IPv4 address found'],
    [true, ['192.0.2.2'], 'failed to resolve host "h.example": no IPv6 address found'],
    [false, [], 'failed to resolve host "h.example": no addresses found'],
  ])('may be missing (IPv6: %s, found: %j)', async (ipv6, found, message) => {
    await expect(resolve('h.example', ipv6, async () => found)).rejects.toMatchObject({ code: 'DNS', message });
  });

  it('is a DNS error when the resolver fails, and TIMEOUT when cancelled', async () => {
    const missing = Object.assign(new Error('getaddrinfo ENOTFOUND h.example'), { code: 'ENOTFOUND' });
    await expect(resolve('h.example', false, () => Promise.reject(missing))).rejects.toMatchObject({
      code: 'DNS',
      message: 'failed to resolve host "h.example": lookup h.example: no such host',
    });
    const target = parseTarget('h.example');
    const hanging = (): Promise<never> => new Promise(() => undefined);
    await expect(resolveTarget(target, false, hanging, AbortSignal.abort())).rejects.toMatchObject({ code: 'TIMEOUT' });
  });
});

describe('questions', () => {
  it('are asked once, while they are out and until the answer expires', async () => {
    const ask = vi.fn(async (question: string) => `about ${question}`);
    const questions = new Questions({ ask, clock });
    expect(await Promise.all([questions.answer('a'), questions.answer('a')])).toEqual(['about a', 'about a']);
    await questions.answer('a');
    expect(ask).toHaveBeenCalledTimes(1);
    vi.advanceTimersByTime(3_600_001);
    await questions.answer('a');
    expect(ask).toHaveBeenCalledTimes(2);
  });

  it('without an answer are asked again, and never reject', async () => {
    const ask = vi.fn(() => Promise.reject(new Error('no such name')));
    const questions = new Questions({ ask, clock });
    expect([await questions.answer('a'), await questions.answer('a')]).toEqual([undefined, undefined]);
    expect(ask).toHaveBeenCalledTimes(2);
  });

  it('are out in bounded number, and the others get their turn', async () => {
    let out = 0;
    let most = 0;
    const ask = async (question: string): Promise<string> => {
      most = Math.max(most, ++out);
      await new Promise((resolve) => setTimeout(resolve, 10));
      out--;
      return question;
    };
    const questions = new Questions({ ask, clock, concurrent: 3 });
    const answers = Promise.all(Array.from({ length: 10 }, (_, i) => questions.answer(`${i}`)));
    await vi.advanceTimersByTimeAsync(100);
    expect(await answers).toHaveLength(10);
    expect([most, out]).toEqual([3, 0]);
  });

  it('have a time limit', async () => {
    const questions = new Questions({ ask: () => new Promise<string>(() => undefined), clock, timeLimit: Seconds(5) });
    const answer = questions.answer('a');
    await vi.advanceTimersByTimeAsync(5_000);
    expect(await answer).toBeUndefined();
  });
});

it('a cache keeps as many as it may, the newest', () => {
  const cache = new ExpiringCache<number, number>(Hours(1), 3, clock);
  for (let i = 0; i < 5; i++) cache.set(i, i);
  expect([cache.size, cache.get(1), cache.get(2), cache.get(4)]).toEqual([3, undefined, 2, 4]);
  vi.advanceTimersByTime(Millis(3_600_000) / 1_000);
  expect([cache.get(4), cache.size]).toEqual([undefined, 2]);
});

it('names end in a dot when they are domain names', async () => {
  const reverse = async (): Promise<readonly string[]> => ['dns.example', 'localhost', 'already.example.'];
  expect(await new AddressNames(reverse, clock).of(ip('192.0.2.1'))).toEqual([
    'dns.example.',
    'localhost',
    'already.example.',
  ]);
});

describe('networks', () => {
  it('are asked for by reversed addresses', () => {
    expect(originName(ip('216.90.108.31'))).toBe('31.108.90.216.origin');
    expect(originName(ip('2001:4860:b002::68'))).toBe(
      '8.6.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.2.0.0.b.0.6.8.4.1.0.0.2.origin6',
    );
  });

  it('are parsed, and anything else is refused', () => {
    expect(parseOrigin('23028 | 216.90.108.0/24 | US | arin | 1998-09-25')).toEqual({
      asn: 23_028,
      prefix: '216.90.108.0/24',
      country: 'US',
    });
    expect(parseOrigin('23028 3356 | 2001:4860::/32 |  | arin |')).toEqual({ asn: 23_028, prefix: '2001:4860::/32' });
    expect(parseName('23028 | US | arin | 2002-01-04 | TEAM-CYMRU - Team Cymru Inc., US')).toBe('TEAM-CYMRU');
    expect(parseName('15169 | US | arin | 2000-03-30 | GOOGLE, US')).toBe('GOOGLE');
    for (const record of ['', 'NA | | |', '23028', '99999999999 | 192.0.2.0/24 | US', '1 | nonsense | US']) {
      expect(parseOrigin(record)).toBeUndefined();
    }
    fc.assert(
      fc.property(fc.string(), (record) => {
        const origin = parseOrigin(record);
        expect(origin === undefined || origin.asn !== undefined).toBe(true);
        expect(typeof (parseName(record) ?? '')).toBe('string');
      }),
    );
  });

  it('are not asked for where nobody can announce', async () => {
    const lookUp = vi.fn(async () => ['64500 | 198.51.100.0/24 | NL | ripencc | ']);
    const networks = new Networks(lookUp, clock);
    for (const text of [
      '10.0.0.1',
      '127.0.0.1',
      '100.64.1.1',
      '169.254.0.1',
      '224.0.0.1',
      '::1',
      'fe80::1',
      'fd00::1',
    ]) {
      expect(await networks.of(ip(text))).toBeUndefined();
    }
    expect(lookUp).not.toHaveBeenCalled();
    expect(await networks.of(ip('198.51.100.1'))).toMatchObject({ asn: 64_500 });
  });
});

describe('the public address', () => {
  const find = async (fetch: (url: string) => Promise<Fetched>): Promise<{ found: string; asked: string[] }> => {
    const asked: string[] = [];
    const service = new PublicIp(
      (url) => {
        asked.push(new URL(url).hostname);
        return fetch(url);
      },
      clock,
      new SeededEntropy(1),
    );
    const found = service.find(never);
    await vi.advanceTimersByTimeAsync(20_000);
    return { found: await found, asked };
  };
  const body = async (text: string, status = 200): Promise<Fetched> => ({ status, body: text });

  it.each([
    ['192.0.2.7\n', 200],
    ['2001:db8::7', 200],
    [' 192.0.2.7 ', 503],
    ['192.0.2.7', 302],
  ])('is the whole body %j, status %d', async (text, status) => {
    const { found, asked } = await find(() => body(text, status));
    expect([found, asked]).toEqual([text.trim(), ['icanhazip.com']]);
  });

  it.each([
    ['192.0.2.7', 404],
    ['192.0.2.7', 429],
    ['not an address', 200],
    ['192.0.2.7 192.0.2.8', 200],
    ['<p>192.0.2.7</p>', 200],
    ['', 500],
  ])('is not in %j, status %d: the next service is asked at once', async (text, status) => {
    const { found, asked } = await find((url) => (url.includes('icanhazip') ? body(text, status) : body('192.0.2.8')));
    expect([found, asked]).toEqual(['192.0.2.8', ['icanhazip.com', 'ipinfo.io']]);
  });

  it('is asked for again after connection errors, within two seconds for each service', async () => {
    const { found, asked } = await find((url) =>
      url.includes('api.ipify') ? body('192.0.2.9') : Promise.reject(new Error('ECONNRESET')),
    );
    expect(found).toBe('192.0.2.9');
    expect([...new Set(asked)]).toEqual(['icanhazip.com', 'ipinfo.io', 'checkip.amazonaws.com', 'api.ipify.org']);
    const first = asked.filter((host) => host === 'icanhazip.com').length;
    expect(first).toBeGreaterThanOrEqual(2);
    expect(first).toBeLessThanOrEqual(5);
  });

  it('is empty when nobody tells, and kept for two hours when somebody does', async () => {
    expect((await find(() => body('none', 404))).found).toBe('');
    const fetch = vi.fn(() => body('192.0.2.7'));
    const service = new PublicIp(fetch, clock, new SeededEntropy(1));
    await service.find(never);
    vi.advanceTimersByTime(7_199_000);
    await service.find(never);
    expect(fetch).toHaveBeenCalledTimes(1);
    vi.advanceTimersByTime(2_000);
    await service.find(never);
    expect(fetch).toHaveBeenCalledTimes(2);
  });
});
