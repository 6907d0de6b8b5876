/** The relay channels of a node: whose an id is, for how long, and how many there may be. */
import { expect, test } from 'vitest';
import { instantAt, later, Micros, Seconds } from '../../src/base/time.js';
import { LinkChannels } from '../../src/node/link-channels.js';

const NOW = instantAt(1_000_000);

test('a channel is found by its id and its address, and its id is nobody else’s while it is known', () => {
  const channels = new LinkChannels();
  const one = channels.open(0, 1, 2)!;
  const other = channels.open(1, 2, 1)!;
  for (const channel of [one, other]) {
    expect(channels.byId(channel.high, channel.low)).toBe(channel);
    expect(channels.at(channel.address)).toBe(channel);
    expect(channels.behind(channel.words)).toBe(channel);
  }
  expect(channels.open(1, 1, 2)).toBeUndefined();
  channels.close(NOW, one);
  channels.forgetClosed(later(NOW, Micros(Seconds(3) - 1)));
  expect([channels.byId(1, 2), channels.at(one.address), channels.open(0, 1, 2)]).toEqual([one, one, undefined]);
  channels.forgetClosed(later(NOW, Seconds(3)));
  expect([channels.byId(1, 2), channels.at(one.address), channels.byId(2, 1)]).toEqual([undefined, undefined, other]);
  // The same id again is another channel with another address; what stood for the old one stands for nothing.
  const again = channels.open(0, 1, 2)!;
  expect(again.address.equals(one.address)).toBe(false);
  expect([channels.at(one.address), channels.at(again.address)]).toEqual([undefined, again]);
});

test('closed twice, or by an id that is gone or another relay’s, it does no harm', () => {
  const channels = new LinkChannels();
  const one = channels.open(0, 1, 2)!;
  channels.closeById(NOW, 1, 1, 2);
  channels.closeById(NOW, 0, 9, 9);
  channels.forgetClosed(later(NOW, Seconds(10)));
  expect(channels.byId(1, 2)).toBe(one);
  channels.closeById(NOW, 0, 1, 2);
  channels.close(later(NOW, Seconds(2)), one);
  channels.forgetClosed(later(NOW, Seconds(4)));
  const again = channels.open(0, 1, 2)!;
  channels.forgetClosed(later(NOW, Seconds(9)));
  expect(channels.byId(1, 2)).toBe(again);
});

test('32,768 are known, and one more is refused until one is forgotten', () => {
  const channels = new LinkChannels();
  for (let n = 0; n < 32_768; n++) expect(channels.open(0, 7, n)).toBeDefined();
  expect(channels.open(0, 8, 0)).toBeUndefined();
  channels.closeById(NOW, 0, 7, 0);
  expect(channels.open(0, 8, 0)).toBeUndefined();
  channels.forgetClosed(later(NOW, Seconds(3)));
  expect(channels.open(0, 8, 0)).toBeDefined();
  expect(channels.open(0, 8, 1)).toBeUndefined();
});
