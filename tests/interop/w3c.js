// Who has the API of the W3C does the common list: run as a function of the order, it resolves with the answers as JSON.
// In a page nothing else is needed; `own` says what another program has instead.
async ({ url, hash, items }, own = {}) => {
  const Session = own.WebTransport ?? WebTransport;
  const PATIENCE = 20_000;
  const serverCertificateHashes = [{ algorithm: 'sha-256', value: Uint8Array.from(atob(hash), (c) => c.charCodeAt(0)) }];
  const text = (bytes) => new TextDecoder().decode(bytes);
  const pattern = (size) => Uint8Array.from({ length: size }, (_, i) => i % 251);
  const readAll = async (readable) => new Uint8Array(await new Response(readable).arrayBuffer());
  const next = async (readable) => (await readable.getReader().read()).value;

  let sessions = [];
  async function begin(item, more) {
    const session = new Session(url + item.path, { serverCertificateHashes, ...own.options, ...more });
    session.closed.catch(() => {}); // told by `ready`, or asked for
    await session.ready;
    sessions.push(session);
    return session;
  }

  function same(sent, received) {
    const equal = sent.length === received.length && sent.every((byte, i) => byte === received[i]);
    return equal ? 'same' : `${received.length} other bytes`;
  }

  async function echo(session, size) {
    const { readable, writable } = await session.createBidirectionalStream({ waitUntilAvailable: true });
    const writer = writable.getWriter();
    const sent = pattern(size);
    const [received] = await Promise.all([readAll(readable), writer.write(sent), writer.close()]);
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

  /** The code of the failure that ends a promise. */
  const code = own.code ?? ((error) => error.streamErrorCode);
  const codeOf = (promise) => promise.then(() => 'no failure', (error) => code(error) ?? null);

  /** The current draft's constructor, or the older one: each refuses the other's arguments. */
  function streamError(streamErrorCode) {
    if (own.streamError) return own.streamError(streamErrorCode);
    try {
      return new WebTransportError('', { streamErrorCode });
    } catch { return new WebTransportError({ streamErrorCode }); }
  }

  const client = {
    bidi: async (item) => echo(await begin(item), item.size),

    async uni(item) {
      const session = await begin(item);
      const writer = (await session.createUnidirectionalStream()).getWriter();
      const sent = pattern(item.size);
      await writer.write(sent);
      await writer.close();
      return same(sent, await readAll(await next(session.incomingUnidirectionalStreams)));
    },

    async datagram(item) {
      const { datagrams } = await begin(item);
      const writer = (datagrams.writable ?? datagrams.createWritable()).getWriter();
      const sent = pattern(item.size);
      const again = setInterval(() => writer.write(sent).catch(() => {}), 100); // any datagram may be lost
      try {
        return same(sent, await next(datagrams.readable));
      } finally { clearInterval(again); }
    },

    async pushed(item) {
      const session = await begin(item);
      const bidi = await next(session.incomingBidirectionalStreams);
      const uni = await next(session.incomingUnidirectionalStreams);
      return [text(await readAll(bidi.readable)), text(await readAll(uni))];
    },

    async many(item) {
      const session = await begin(item);
      for (let i = 0; i < item.count; i += 1) {
        const answer = await echo(session, item.size);
        if (answer !== 'same') return answer;
      }
      return 'same';
    },

    async sessions() { throw new Error('each session has a connection of its own'); },

    async reset(item) {
      const { session, writer } = await begun(item);
      await writer.abort(streamError(item.code));
      return echo(session, 1);
    },

    async stop(item) {
      const { session, reader } = await begun(item);
      await reader.cancel(streamError(item.code));
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

    protocol: async (item) => (await begin(item, { protocols: item.protocols })).protocol ?? null,
    refused: async (item) => begin(item).then(() => 'accepted', () => 'refused'),
  };

  const answers = [];
  for (const item of items) {
    let timer;
    const late = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error('nothing came')), PATIENCE);
    });
    const answer = { item: item.item };
    try {
      answer.saw = await Promise.race([client[item.do](item), late]);
    } catch (error) { answer.error = String(error); }
    clearTimeout(timer);
    for (const session of sessions) session.close();
    sessions = [];
    answers.push(answer);
  }
  return JSON.stringify(answers);
}
