// @fails-components/webtransport does the common list over HTTP/2: a connection for every session.

import { buffer, json, text } from 'node:stream/consumers';

const PATIENCE = 20_000;
const LIBRARY = '../../target/interop/node/node_modules/@fails-components/webtransport/lib/index.node.js';

// It says loudly, and on standard output too, that its half for HTTP/3 is not installed.
const { log, error } = console;
console.log = console.error = () => {};
const { WebTransport, quicheLoaded } = await import(new URL(LIBRARY, import.meta.url));
await quicheLoaded;
console.error = error;

const { url, hash, items } = await json(process.stdin);
const serverCertificateHashes = [{ algorithm: 'sha-256', value: Buffer.from(hash, 'base64') }];
const pattern = (size) => Uint8Array.from({ length: size }, (_, i) => i % 251);
const next = async (readable) => (await readable.getReader().read()).value;

let sessions = [];
async function begin(item, more) {
  const session = new WebTransport(url + item.path, { forceReliable: true, serverCertificateHashes, ...more });
  session.closed.catch(() => {}); // told by `ready`, or asked for
  await session.ready;
  sessions.push(session);
  return session;
}

const same = (sent, received) => (received.equals(sent) ? 'same' : `${received.length} other bytes`);

async function echo(session, size) {
  const { readable, writable } = await session.createBidirectionalStream({ waitUntilAvailable: true });
  const writer = writable.getWriter();
  const sent = pattern(size);
  const [received] = await Promise.all([buffer(readable), writer.write(sent), writer.close()]);
  return same(sent, received);
}

/** A session, and the ends of a stream of it that has sent a byte. */
async function asking(item) {
  const session = await begin(item);
  const { readable, writable } = await session.createBidirectionalStream();
  const [reader, writer] = [readable.getReader(), writable.getWriter()];
  for (const end of [reader, writer]) end.closed.catch(() => {});
  writer.write(pattern(1)).catch(() => {});
  return { session, reader, writer };
}

/** The same, when the byte has come back. */
async function begun(item) {
  const stream = await asking(item);
  await stream.reader.read();
  return stream;
}

/** The code of the failure that ends a promise: it is told in its words only. */
const codeOf = (promise) =>
  promise.then(
    () => 'no failure',
    (failure) => Number(/with code:(\d+)/.exec(failure.message)?.[1]),
  );

const client = {
  bidi: async (item) => echo(await begin(item), item.size),

  async uni(item) {
    const session = await begin(item);
    const writer = (await session.createUnidirectionalStream()).getWriter();
    const sent = pattern(item.size);
    await writer.write(sent);
    await writer.close();
    return same(sent, await buffer(await next(session.incomingUnidirectionalStreams)));
  },

  async datagram(item) {
    const { datagrams } = await begin(item);
    const sent = pattern(item.size);
    await datagrams.createWritable().getWriter().write(sent);
    return same(sent, Buffer.from(await next(datagrams.readable)));
  },

  async pushed(item) {
    const session = await begin(item);
    const bidi = await next(session.incomingBidirectionalStreams);
    const uni = await next(session.incomingUnidirectionalStreams);
    return [await text(bidi.readable), await text(uni)];
  },

  async many(item) {
    const session = await begin(item);
    for (let i = 0; i < item.count; i += 1) {
      const answer = await echo(session, item.size);
      if (answer !== 'same') return answer;
    }
    return 'same';
  },

  async sessions() {
    throw new Error('each session has a connection of its own');
  },

  async reset(item) {
    const { session, writer } = await begun(item);
    await writer.abort({ code: item.code });
    return echo(session, 1);
  },

  async stop(item) {
    const { session, reader } = await begun(item);
    await reader.cancel({ code: item.code });
    return echo(session, 1);
  },

  read_reset: async (item) => codeOf((await asking(item)).reader.read()),
  read_stop: async (item) => codeOf((await asking(item)).writer.closed),

  async close(item) {
    const session = await begin(item);
    await echo(session, 1);
    session.close({ closeCode: item.code, reason: item.reason });
    await session.closed;
    return 'closed';
  },

  async read_close(item) {
    const { session } = await asking(item);
    const { closeCode, reason } = await session.closed;
    return [closeCode, reason];
  },

  protocol: async (item) => (await begin(item, { protocols: item.protocols })).protocol,
  refused: async (item) => begin(item).then(() => 'accepted', () => 'refused'),
};

for (const item of items) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error('nothing came')), PATIENCE);
  });
  const answer = { item: item.item };
  try {
    answer.saw = await Promise.race([client[item.do](item), late]);
  } catch (failure) {
    answer.error = String(failure);
  }
  clearTimeout(timer);
  for (const session of sessions) session.close();
  sessions = [];
  log(JSON.stringify(answer));
}
