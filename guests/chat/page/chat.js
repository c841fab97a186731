// The page of the chat: one WebTransport session is one person in one room.
//
// Lines of text go out on a bidirectional stream, and lines of JSON come in on it. Datagrams tell who types: one that is
// lost does no harm.

const MESSAGE_BYTES_MAX = 1000; // the handler closes the session of who says more
const MESSAGES_MAX = 500; // that the page keeps
const TYPING_TOLD_EVERY = 1500; // milliseconds
const TYPING_SHOWN_FOR = 3000;

const $ = (id) => document.getElementById(id);
const encode = (text) => new TextEncoder().encode(text);

/** The session, while this person is in a room or on the way to it. */
let session = null;

async function join(name, room) {
  const it = { room, you: name, typists: new Map(), told: 0 };
  session = it;
  show('joining', 'Joining…');
  try {
    it.wt = new WebTransport(...await address(room, name));
    it.wt.closed.then((info) => end(it, info), (error) => end(it, { error }));
    await it.wt.ready;
    const { datagrams } = it.wt;
    it.datagrams = (datagrams.createWritable?.() ?? datagrams.writable).getWriter(); // the newer name first
    const { readable, writable } = await it.wt.createBidirectionalStream();
    it.lines = writable.getWriter();
    await it.lines.write(encode('\n')); // some browsers tell of a stream with its first byte only
    showTypists(it, datagrams.readable.getReader()).catch(() => {});
    for await (const line of linesOf(readable)) happened(it, JSON.parse(line));
  } catch (error) {
    if (!it.wt) end(it, { error }); // else `closed` tells of the end
  }
}

/** The arguments of `WebTransport`. A server with a certificate that browsers trust needs the first only. */
async function address(room, name) {
  const { url, hash } = await (await fetch('/session.json', { cache: 'no-store' })).json();
  const address = new URL(encodeURIComponent(room), url);
  address.searchParams.set('name', name);
  const value = Uint8Array.from(atob(hash), (char) => char.charCodeAt(0));
  return [address.href, { serverCertificateHashes: [{ algorithm: 'sha-256', value }] }];
}

async function* linesOf(readable) {
  const reader = readable.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
    const lines = (rest + piece.value).split('\n');
    rest = lines.pop();
    yield* lines;
  }
}

// What happens in the room
function happened(it, event) {
  if (it === session) events[event.type]?.(it, event);
}

const events = {
  /** The room as it is; also when this reader was too slow for it, in place of all that was shown. */
  welcome(it, { you, here }) {
    it.you = you;
    $('messages').replaceChildren();
    $('people').replaceChildren(...here.map((name) => person(it, name)));
    show('joined', `as ${you}`);
  },
  joined(it, { name }) {
    $('people').append(person(it, name));
    add('joined', [text('span', `${name} joined`)]);
  },
  left(it, { name }) {
    [...$('people').children].find(({ dataset }) => dataset.name === name)?.remove();
    stopsTyping(it, name);
    add('left', [text('span', `${name} left`)]);
  },
  said(it, { name, text: said, at }) {
    stopsTyping(it, name);
    const time = text('time', new Date(at).toTimeString().slice(0, 5));
    time.dateTime = new Date(at).toISOString();
    const message = add('said', [text('b', name), time, text('span', said, 'text')]);
    message.dataset.name = name;
    message.classList.toggle('mine', name === it.you);
    message.style.setProperty('--hue', hue(name));
    // One head for what somebody says in a row.
    const { kind, name: before } = message.previousElementSibling?.dataset ?? {};
    message.classList.toggle('goes-on', kind === 'said' && before === name);
  },
};

function add(kind, parts) {
  const list = $('messages');
  const atEnd = list.scrollTop + list.clientHeight > list.scrollHeight - 40; // else somebody reads further up
  const item = document.createElement('li');
  item.dataset.kind = kind;
  item.append(...parts);
  list.append(item);
  if (list.children.length > MESSAGES_MAX) list.firstElementChild.remove();
  if (atEnd) requestAnimationFrame(() => { list.scrollTop = list.scrollHeight; });
  return item;
}

function person(it, name) {
  const item = text('li', name === it.you ? `${name} (you)` : name);
  item.dataset.name = name;
  item.style.setProperty('--hue', hue(name));
  return item;
}

function text(tag, content, className = '') {
  return Object.assign(document.createElement(tag), { textContent: content, className });
}

/** The colour of a name, the same for everybody. */
function hue(name) {
  let hash = 0x811c9dc5; // FNV-1a
  for (const byte of encode(name)) hash = Math.imul(hash ^ byte, 0x01000193) >>> 0;
  return hash % 360;
}

// Who types
async function showTypists(it, reader) {
  for (let datagram = await reader.read(); !datagram.done; datagram = await reader.read()) {
    const name = new TextDecoder().decode(datagram.value);
    clearTimeout(it.typists.get(name));
    it.typists.set(name, setTimeout(() => stopsTyping(it, name), TYPING_SHOWN_FOR));
    describeTypists(it);
  }
}

function stopsTyping(it, name) {
  clearTimeout(it.typists.get(name));
  it.typists.delete(name);
  describeTypists(it);
}

function describeTypists(it) {
  if (it !== session) return;
  const names = [...it.typists.keys()];
  const who = names.length > 3 ? 'Several people' : names.join(' and ');
  $('typing').textContent = who && `${who} ${names.length === 1 ? 'types' : 'type'}…`;
}

function tellTyping(it) {
  const now = performance.now();
  if (!it.datagrams || now - it.told < TYPING_TOLD_EVERY) return;
  it.told = now;
  it.datagrams.write(encode('typing')).catch(() => {});
}

// What this person does
function say(it, input) {
  const line = input.value.trim();
  const tooLong = encode(line).length > MESSAGE_BYTES_MAX;
  input.setCustomValidity(tooLong ? 'This is too long for one message.' : '');
  if (!input.reportValidity() || !line) return;
  it.lines.write(encode(`${line}\n`)).catch(() => {});
  it.told = 0;
  input.value = '';
}

function leave(it) {
  it.wt.close();
  end(it, {});
}

/** The session is over: by this page, by the server with a code and a reason, or by a failure. */
function end(it, { closeCode = 0, reason = '', error }) {
  if (it !== session) return;
  session = null;
  if (!error) return show('left', closeCode ? `Closed: ${reason || `code ${closeCode}`}` : 'You left');
  show('failed', it.lines ? 'The connection was lost' : 'The server does not answer, or refused');
}

/** Says how it is, and shows the door or the room. */
function show(state, words) {
  $('status').dataset.state = state;
  $('status').textContent = words;
  const wasInside = !$('inside').hidden;
  const inside = state === 'joined';
  $('inside').hidden = $('leave').hidden = !inside;
  $('door').hidden = inside;
  $('join').disabled = state === 'joining';
  $('title').textContent = inside ? session.room : 'Chat';
  document.title = inside ? `${session.room} · chat` : 'Chat';
  if (inside !== wasInside) $(inside ? 'text' : 'join').focus();
}

/** The room that the address names, if it names one. */
function linkedRoom() {
  try {
    return decodeURIComponent(location.hash.slice(1));
  } catch {
    return ''; // a lone `%`
  }
}

function start() {
  $('room').value = linkedRoom() || 'harbour';
  $('join-form').addEventListener('submit', (event) => {
    event.preventDefault();
    const [name, room] = [$('name').value.trim(), $('room').value.trim()];
    history.replaceState(null, '', `#${encodeURIComponent(room)}`); // a link to the room
    if (name && room) join(name, room);
  });
  $('say-form').addEventListener('submit', (event) => {
    event.preventDefault();
    say(session, $('text'));
  });
  $('text').addEventListener('input', ({ target }) => {
    target.setCustomValidity('');
    if (target.value) tellTyping(session);
  });
  $('leave').addEventListener('click', () => leave(session));
  if ('WebTransport' in globalThis) return;
  $('join').disabled = true;
  $('status').dataset.state = 'failed';
  $('status').textContent = isSecureContext ? 'This browser has no WebTransport' : 'Open this page as 127.0.0.1: WebTransport is for secure pages only';
}

start();
