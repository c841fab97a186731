// The developer page of wharf: one WebTransport session, driven by hand.
// In order: the log, the streams, the session, the forms. What tests may hold on to is listed in index.html.

const LOG_ENTRIES_MAX = 500; // index.html says this number too
const ENTRY_CHARS_MAX = 400;
const HEX_BYTES_MAX = 64;
const RECEIVED_CHARS_MAX = 2000; // that the card of a stream keeps, the newest
const CARDS_MAX = 60; // beyond this, streams that ended lose their card

const $ = (id) => document.getElementById(id);
const copyOf = (template) => $(template).content.firstElementChild.cloneNode(true);
const setData = ({ dataset }, data) => {
  for (const [name, value] of Object.entries(data)) if (value !== undefined) dataset[name] = value;
};

/** The session on display. One that was replaced is `over`, and what it still says is not shown. */
let session = null;

// The log
let heightSeen = 0; // of the log, when it was last scrolled from here

function log(dir, kind, { stream, code, bytes, text = '' } = {}) {
  const entry = copyOf('entry-template');
  setData(entry, { dir, kind, stream: stream?.key, code, bytes });
  const now = new Date();
  const time = `${now.toTimeString().slice(0, 8)}.${String(now.getMilliseconds()).padStart(3, '0')}`;
  const ms = session ? (performance.now() - session.start).toFixed(1) : '';
  const arrow = { in: '↓ in', out: '↑ out', note: '' }[dir];
  const cells = [time, ms, arrow, stream?.label ?? '', kind, bytes ?? '', shorten(text, ENTRY_CHARS_MAX)];
  cells.forEach((cell, i) => { entry.children[i].textContent = cell; });
  $('log').append(entry);
  if ($('log').children.length > LOG_ENTRIES_MAX) $('log').firstElementChild.remove();
  requestAnimationFrame(followLog);
}

function followLog() {
  const { classList, scrollHeight } = $('log-view');
  if (classList.contains('follows')) $('log-view').scrollTop = scrollHeight;
  heightSeen = scrollHeight;
}

/** Follows the newest entry until somebody scrolls up to read. Entries may have come and gone since our own scrolling. */
function noteScroll({ target: { classList, clientHeight, scrollHeight, scrollTop } }) {
  classList.toggle('follows', scrollTop + clientHeight > Math.min(heightSeen, scrollHeight) - 30);
}

function shorten(text, max, rest = text.length - max, unit = 'characters') {
  return rest > 0 ? `${text.slice(0, max)} … and ${rest} ${unit} more` : text;
}

function hex(bytes) {
  const pairs = Array.from(bytes.subarray(0, HEX_BYTES_MAX), (byte) => byte.toString(16).padStart(2, '0'));
  return shorten(pairs.join(' '), HEX_BYTES_MAX * 3, bytes.length - HEX_BYTES_MAX, 'bytes');
}

/** A decoder of consecutive pieces, because a character may be split between two. What is not text becomes hex. */
function textOrHex() {
  const decoder = new TextDecoder('utf-8', { fatal: true }); // starts anew after an error
  return (bytes) => {
    try {
      const text = decoder.decode(bytes, { stream: true });
      // Control characters other than tab and line ends mean binary that happens to be valid UTF-8.
      if (!/[\0-\x08\x0b\x0c\x0e-\x1f\x7f]/.test(text)) return text;
    } catch { /* not UTF-8 */ }
    return `${hex(bytes)} `; // apart from the next piece
  };
}

// The streams
const HALVES = {
  send: { open: 'sending', fin: 'FIN sent', reset: 'reset by this page', stopped: 'stopped by the server', over: 'cut off' },
  receive: { open: 'receiving', fin: 'end of stream', reset: 'reset by the server', stopped: 'stopped by this page', over: 'cut off' },
};
const isLive = ({ dataset }) => dataset.send === 'open' || dataset.receive === 'open';

async function openStream(it, kind) {
  try {
    const halves = kind === 'bidi' ? await it.wt.createBidirectionalStream() : { writable: await it.wt.createUnidirectionalStream() };
    if (!it.over) addStream(it, kind, 'page', halves).part('[name=text]').focus();
  } catch (error) {
    if (!it.over) log('note', 'error', { text: `no ${kind} stream (${error.message})` });
  }
}

function addStream(it, kind, by, { readable, writable }) {
  const name = by === 'page' ? kind : `server ${kind}`;
  it.counts[name] = (it.counts[name] ?? 0) + 1;
  const label = `${name} ${it.counts[name]}`; // browsers do not tell the id on the wire
  const card = copyOf('stream-template');
  const stream = {
    it, label, key: label.replaceAll(' ', '-'), card, part: (selector) => card.querySelector(selector),
    writer: writable?.getWriter(), reader: readable?.getReader(), sent: 0, received: 0, decode: textOrHex(),
  };
  it.streams.add(stream);
  setData(card, { stream: stream.key, kind, by, send: writable ? 'open' : 'none', receive: readable ? 'open' : 'none' });
  addCard(stream);
  log(by === 'page' ? 'out' : 'in', 'open', { stream, text: `opened by ${by === 'page' ? 'this page' : 'the server'}` });
  if (writable) stream.writer.closed.catch((error) => endByServer(stream, 'send', error));
  if (readable) receive(stream);
  return stream;
}

function addCard(stream) {
  const { card, label, part } = stream;
  part('h3').textContent = label;
  part('[name=text]').setAttribute('aria-label', `Text for ${label}`);
  part('[name=code]').setAttribute('aria-label', `Code to reset or stop ${label} with`);
  onSubmit(part('.send'), (form, action) => send(stream, form.elements.text, action === 'fin'));
  onSubmit(part('.give-up'), (form, action) => giveUp(stream, action, Number(form.elements.code.value)));
  refresh(stream);
  $('streams').prepend(card);
  if ($('streams').children.length > CARDS_MAX) [...$('streams').children].findLast((old) => !isLive(old))?.remove();
}

/** Shows how far both halves are, and offers only what can still be done. */
function refresh({ card, part, sent, received }) {
  const { send: sending, receive: receiving, sendCode, receiveCode } = card.dataset;
  const describe = (count, words, code) => words ? `${count} B, ${words}${code === undefined ? '' : `, code ${code}`}` : '';
  part('.sending').textContent = describe(`↑ ${sent}`, HALVES.send[sending], sendCode);
  part('.receiving').textContent = describe(`↓ ${received}`, HALVES.receive[receiving], receiveCode);
  part('.send').hidden = part('[value=reset]').hidden = part('[value=reset]').disabled = sending !== 'open';
  part('[value=stop]').hidden = receiving !== 'open';
  part('.give-up').hidden = !isLive(card);
  // The keyboard must not fall back to the top of the page when the control it was on disappears.
  if (card.contains(document.activeElement) && document.activeElement.closest('[hidden]')) card.focus();
}

/** Ends one half of a stream, once. */
function end(stream, half, state, code) {
  if (stream.card.dataset[half] !== 'open') return;
  setData(stream.card, { [half]: state, [`${half}Code`]: code });
  if (!isLive(stream.card)) stream.it.streams.delete(stream);
  refresh(stream);
}

function endByServer(stream, half, error) {
  const [kind, state] = half === 'send' ? ['stop', 'stopped'] : ['reset', 'reset'];
  if (!['open', 'fin'].includes(stream.card.dataset[half])) return; // the echo of what this page did
  // The session's end fails its streams too, sometimes before it is told itself.
  if (stream.it.over || error?.source === 'session') return end(stream, half, 'over');
  const code = error?.streamErrorCode ?? undefined;
  log('in', kind, { stream, code, text: `${state} by the server, ${code === undefined ? 'this browser does not tell the code' : `code ${code}`}` });
  end(stream, half, state, code);
}

async function receive(stream) {
  try {
    await each(stream.reader, (piece) => {
      const text = stream.decode(piece);
      const place = stream.part('.received');
      log('in', 'data', { stream, bytes: piece.length, text });
      place.textContent = (place.textContent + text).slice(-RECEIVED_CHARS_MAX);
      place.parentElement.hidden = false;
      stream.received += piece.length;
      refresh(stream);
    });
    if (stream.card.dataset.receive !== 'open') return; // this page stopped it
    log('in', 'fin', { stream, text: 'end of stream' });
    end(stream, 'receive', 'fin');
  } catch (error) {
    endByServer(stream, 'receive', error);
  }
}

function send(stream, input, fin) {
  const bytes = new TextEncoder().encode(input.value);
  // A failure is told once, by `writer.closed`; the promises of the single calls need no answer.
  if (bytes.length > 0) {
    stream.writer.write(bytes).catch(() => {});
    stream.sent += bytes.length;
    log('out', 'data', { stream, bytes: bytes.length, text: input.value });
  }
  if (fin) {
    stream.writer.close().catch(() => {});
    log('out', 'fin', { stream, text: 'end of stream' });
    end(stream, 'send', 'fin');
  }
  refresh(stream);
  if (!fin) input.select(); // type to replace, Enter to send again
}

function giveUp(stream, action, wanted) {
  const [half, state] = action === 'reset' ? ['send', 'reset'] : ['receive', 'stopped'];
  const error = streamError(wanted);
  const code = error.streamErrorCode; // today's browsers make 255 of anything higher
  const text = `${state} by this page, code ${code}${code < wanted ? ', the highest that this browser sends' : ''}`;
  log('out', action, { stream, code, text });
  end(stream, half, state, code);
  (half === 'send' ? stream.writer.abort(error) : stream.reader.cancel(error)).catch(() => {});
}

/** The current draft's constructor, or the older one: each refuses the other's arguments. */
function streamError(streamErrorCode) {
  try {
    return new WebTransportError('', { streamErrorCode });
  } catch { return new WebTransportError({ streamErrorCode }); }
}

/** Gives every piece to `take` until the reader's end; a failure is the caller's to explain. */
async function each(reader, take) {
  for (let piece = await reader.read(); !piece.done; piece = await reader.read()) take(piece.value);
}

// The session
async function connect(path) {
  replaceSession();
  const it = { start: performance.now(), stage: 'config', streams: new Set(), counts: {}, over: false };
  session = it;
  show('connecting', 'Connecting…');
  try {
    const { url, hash } = await loadConfig();
    if (it.over) return;
    it.stage = 'address';
    const address = new URL(url).origin + path.replaceAll('#', '%23');
    log('note', 'session', { text: `connecting to ${path}` });
    const value = Uint8Array.from(atob(hash), (char) => char.charCodeAt(0));
    it.wt = new WebTransport(address, { serverCertificateHashes: [{ algorithm: 'sha-256', value }] });
    it.stage = 'handshake';
    it.wt.closed.then((info) => closed(it, info, 'server'), (error) => failed(it, error));
    await it.wt.ready;
    if (!it.over) opened(it, address);
  } catch (error) {
    failed(it, error);
  }
}

function replaceSession() {
  if (session && !session.over) {
    log('out', 'session', { text: 'closed by this page to reconnect' });
    session.over = true;
    session.wt?.close();
  }
  $('streams').replaceChildren();
}

/** Asked anew for every session: the certificate is replaced while wharf runs. */
async function loadConfig() {
  const answer = await fetch('/session.json', { cache: 'no-store' });
  if (!answer.ok) throw new Error(`/session.json answers with status ${answer.status}`);
  const config = await answer.json();
  $('component').textContent = config.component;
  $('version').textContent = config.version;
  $('origin').textContent = new URL(config.url).origin;
  document.title = `${config.component} · wharf`;
  return config;
}

function opened(it, address) {
  const { datagrams } = it.wt;
  it.stage = 'open';
  it.datagrams = (datagrams.createWritable?.() ?? datagrams.writable).getWriter(); // the newer name first
  $('datagram-max').textContent = `at most ${datagrams.maxDatagramSize} bytes each`;
  show('open', 'Open', { detail: address });
  log('note', 'session', { text: 'open' });
  // These loops end with the session, whose end is told by `closed`.
  const accept = (incoming, take) => each(incoming.getReader(), (value) => it.over || take(value)).catch(() => {});
  accept(it.wt.incomingBidirectionalStreams, (halves) => addStream(it, 'bidi', 'server', halves));
  accept(it.wt.incomingUnidirectionalStreams, (readable) => addStream(it, 'uni', 'server', { readable }));
  accept(datagrams.readable, (bytes) => log('in', 'datagram', { bytes: bytes.length, text: textOrHex()(bytes) }));
  it.wt.draining?.then(() => it.over || drained(address), () => {}); // where the browser tells
}

function drained(address) {
  show('draining', 'Draining', { detail: `the server asks to finish · ${address}` });
  log('in', 'session', { text: 'the server asks to bring the session to its end' });
}

function closed(it, { closeCode = 0, reason = '' }, by) {
  if (!finish(it)) return;
  const ofHost = closeCode >>> 8 === 0xffffff; // the codes that wharf itself closes with
  const told = `code ${ofHost ? `0x${closeCode.toString(16)}` : closeCode}${reason && `, “${reason}”`}`;
  const who = by === 'page' ? 'this page' : 'the server';
  log(by === 'page' ? 'out' : 'in', 'session', { code: closeCode, text: `closed by ${who}, ${told}` });
  const advice = ofHost && by === 'server' ? $('advice-host') : undefined;
  show('closed', `Closed by ${who}`, { detail: told, data: { by, code: closeCode, reason }, advice });
}

function failed(it, error) {
  if (!finish(it)) return;
  const advice = $(`advice-${it.stage}`); // index.html has the words
  log('note', 'error', { text: `${advice.title} (${error.name}: ${error.message})` });
  show('failed', advice.title, { advice });
}

/** Ends the session and what is left of its streams; false if that is done already. */
function finish(it) {
  if (it.over) return false;
  it.over = true;
  for (const stream of it.streams) for (const half of ['send', 'receive']) end(stream, half, 'over');
  return true;
}

function closeSession() {
  const [closeCode, reason] = [Number($('close-code').value), $('close-reason').value];
  session.wt.close({ closeCode, reason });
  closed(session, { closeCode, reason }, 'page');
  $('connect').focus();
}

function sendDatagram(it, input) {
  const bytes = new TextEncoder().encode(input.value);
  const max = it.wt.datagrams.maxDatagramSize;
  if (bytes.length > max) return log('note', 'error', { text: `${bytes.length} bytes: a datagram has at most ${max} here` });
  it.datagrams.write(bytes).catch(() => {}); // a lost datagram is no failure, and a lost session speaks for itself
  log('out', 'datagram', { bytes: bytes.length, text: input.value });
  input.select();
}

/** Says how the session is, and allows what can be done in that state. */
function show(state, title, { detail = '', advice, data = {} } = {}) {
  for (const name of ['by', 'code', 'reason']) delete $('status').dataset[name];
  setData($('status'), { ...data, state });
  $('state').textContent = title;
  $('detail').textContent = detail;
  $('advice').replaceChildren(advice?.content.cloneNode(true) ?? '');
  const usable = state === 'open' || state === 'draining';
  for (const control of document.querySelectorAll('.needs-session')) control.disabled = !usable;
  $('connect').textContent = usable ? 'Reconnect' : 'Connect';
}

// The forms
function onSubmit(form, act) {
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    act(form, event.submitter?.value);
  });
}

function start() {
  $('path').value = location.hash.slice(1) || '/';
  addEventListener('hashchange', () => { $('path').value = location.hash.slice(1); });
  onSubmit($('connect-form'), () => {
    history.replaceState(null, '', `#${$('path').value}`); // a reload, or a bookmark, keeps the path
    connect($('path').value);
  });
  onSubmit($('close-form'), closeSession);
  onSubmit($('datagram-form'), () => sendDatagram(session, $('datagram-text')));
  $('open-bidi').addEventListener('click', () => openStream(session, 'bidi'));
  $('open-uni').addEventListener('click', () => openStream(session, 'uni'));
  $('log-view').addEventListener('scroll', noteScroll);
  $('log-clear').addEventListener('click', () => $('log').replaceChildren());
  loadConfig().catch((error) => failed({ stage: 'config', streams: [] }, error));
  if ('WebTransport' in globalThis) return;
  $('connect').disabled = true;
  const advice = $(isSecureContext ? 'advice-unsupported' : 'advice-insecure');
  show('unsupported', advice.title, { advice });
}

start();
