/** The kernel's own word of changes, in a namespace: each is told once, soon, and by nobody's polling. */
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import type { HostNetwork } from '../../../src/os/io.js';
import { type Transpiled, transpileSources } from '../../os/transpile.js';
import { ip, Namespaces, type Program } from './netns.js';

const namespaces = new Namespaces();
let built: Transpiled;
let space: string;
let program: Program;
let runs = 0;

beforeAll(() => {
  built = transpileSources();
});
afterAll(() => built.remove());
beforeEach(async () => {
  space = namespaces.create();
  ip('-n', space, 'link', 'add', 'ox-v0', 'type', 'veth', 'peer', 'name', 'ox-v1');
  // Link-local addresses would come a moment later than all else.
  for (const end of ['ox-v0', 'ox-v1']) ip('-n', space, 'link', 'set', end, 'addrgenmode', 'none', 'up');
  const script = built.add(
    `network-events-${runs++}.js`,
    `import { writeSync } from 'node:fs';
     import { readHostNetwork } from './os/linux/host-network.js';
     import { createReactor } from './os/linux/linux.js';
     import { watchNetworkEvents } from './os/linux/network-events.js';
     const reactor = createReactor({ onError: (error) => { throw error; } });
     let told = 0;
     const events = watchNetworkEvents(reactor, (isWatched) => {
       writeSync(1, \`told \${++told} \${isWatched} \${JSON.stringify(readHostNetwork())}\\n\`);
     });
     process.stdin.on('end', () => {
       events.close();
       reactor.stop();
     });
     process.stdin.resume();
     console.log('watching');
     await reactor.run();
     console.log('ended after', told);`,
  );
  program = namespaces.spawn(space, process.execPath, script.pathname);
  await program.says('watching');
});
afterEach(() => namespaces.removeAll());

/** Makes a change and waits until it was told; what the host's network then was, as text. */
async function change(number: number, command: string): Promise<string> {
  ip('-n', space, ...command.split(' '));
  const start = `told ${number} true`;
  await program.says(start);
  return program.stdout.split(start)[1]!;
}

it('links, addresses and routes of both families, the next hop of the default route; each once', async () => {
  let number = 1;
  await change(number, 'link set ox-v0 mtu 1400');
  expect(await change(++number, 'addr add 198.18.0.1/24 dev ox-v0')).toContain('"198.18.0.1"');
  expect(await change(++number, 'addr add 2001:db8:7::1/64 dev ox-v0 nodad')).toContain('"2001:db8:7::1"');
  const before = await change(++number, 'route add default via 198.18.0.2');
  expect(before).toContain('"0.0.0.0/0"');
  expect(await change(++number, 'route replace default via 198.18.0.3')).not.toBe(before);
  expect(await change(++number, '-6 route add default via 2001:db8:7::2')).toContain('"::/0"');
  expect(await change(++number, 'addr del 198.18.0.1/24 dev ox-v0')).not.toContain('"198.18.0.1"');
  program.child.stdin!.end();
  expect(await program.ended).toBe(0);
  expect(program.stdout).toContain(`ended after ${number}`);
});

it('a thousand changes at once are few words, and the last of them is in the last word', async () => {
  const batch = Array.from({ length: 1000 }, (_, i) => `route add 198.19.${i >> 8}.${i & 255}/32 dev ox-v0`).join('\n');
  const adding = namespaces.spawn(space, 'ip', '-batch', '-');
  adding.child.stdin!.end(`addr add 198.18.0.1/24 dev ox-v0\n${batch}\n`);
  expect(await adding.ended).toBe(0);
  await program.says('198.19.3.231/32');
  program.child.stdin!.end();
  expect(await program.ended).toBe(0);
  expect(Number(/ended after (\d+)/.exec(program.stdout)![1])).toBeLessThan(12);
});

it('a TAP device is a network like any other, a TUN device a tunnel', async () => {
  for (const [mode, address] of [
    ['tap', '198.18.1.1/24'],
    ['tun', '198.18.2.1/24'],
  ] as const) {
    ip('-n', space, 'tuntap', 'add', `ox-${mode}`, 'mode', mode);
    ip('-n', space, 'link', 'set', `ox-${mode}`, 'up');
    ip('-n', space, 'addr', 'add', address, 'dev', `ox-${mode}`);
  }
  ip('-n', space, 'addr', 'add', '198.18.0.1/24', 'dev', 'ox-v0');
  await program.says('"198.18.0.1"');
  const last = program.stdout.slice(program.stdout.lastIndexOf('true {') + 'true '.length).split('\n')[0]!;
  const { routes } = JSON.parse(last) as HostNetwork;
  const devices = routes.map(({ prefix, isTunnel }) => [prefix, isTunnel]);
  expect(devices).toContainEqual(['198.18.1.0/24', false]);
  expect(devices).toContainEqual(['198.18.2.0/24', true]);
});
