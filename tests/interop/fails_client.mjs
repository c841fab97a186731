// @fails-components/webtransport does the common list over HTTP/2: a connection for every session.

import { readFileSync } from 'node:fs';
import { json } from 'node:stream/consumers';

const LIBRARY = '../../target/interop/node/node_modules/@fails-components/webtransport/lib/index.node.js';

// It says loudly, and on standard output too, that its half for HTTP/3 is not installed.
const { log, error } = console;
console.log = console.error = () => {};
const { WebTransport, quicheLoaded } = await import(new URL(LIBRARY, import.meta.url));
await quicheLoaded;
console.error = error;

const list = (0, eval)(readFileSync(new URL('w3c.js', import.meta.url), 'utf8'));
const answers = await list(await json(process.stdin), {
  WebTransport,
  options: { forceReliable: true },
  streamError: (code) => ({ code }),
  // It is told in the words of the failure only.
  code: (failure) => Number(/with code:(\d+)/.exec(failure.message)?.[1]),
});
for (const answer of JSON.parse(answers)) log(JSON.stringify(answer));
