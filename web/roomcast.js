/**
 * Roomcast client: holds one session with a Roomcast cluster (client protocol version 1, in JSON or protobuf), keeps its rooms
 * over reconnects, and hands every push to the application once, in the order of its log. Where messages may be missing it says so.
 *
 * One ES module without dependencies or build step, for browsers and for runtimes with a global `WebSocket`.
 *
 * ```js
 * import { RoomcastClient } from "http://localhost:8080/roomcast.js";
 *
 * const client = new RoomcastClient({
 *   url: "ws://localhost:8080/ws", userId: "user-001", rooms: ["room-001"],
 *   onGap: ({ room, from, to }) => reloadHistoryOf(room, from, to),
 * });
 * client.on("push", (push) => console.log(push.room_id, push.text));
 * await client.connect();
 * ```
 *
 * @module roomcast
 */

/** Message ids remembered to recognise repeats, and handlers whose end is remembered for them. */
const REMEMBERED_IDS_MAX = 1000;
/** Epochs remembered that a log left: as many as may change during one move, and some. */
const PAST_EPOCHS_MAX = 8;
/** Joins of one room whose answers still count. */
const REQUESTS_MAX = 4;
/**
 * Acknowledgements wait `delayMs` for company, `max` in one frame (the protocol's limit). `gapMs` between two frames makes
 * at most 40 a second of the 50 that a session may send. Past `kept` the oldest are given up.
 */
const ACK_RULE = { delayMs: 50, gapMs: 25, max: 256, kept: 4096 };
/** Reports of arrival, by the same rule: at most 4 frames a second; they are samples, so losing some costs little. */
const RECEIVED_RULE = { delayMs: 250, gapMs: 250, max: 64, kept: 256 };
/** A socket without `welcome` after this time is given up. The server needs at most about two seconds. */
const WELCOME_TIMEOUT_MS = 10_000;
/** Silence allowed after a `ping`. */
const PONG_TIMEOUT_MS = 10_000;
/** Used when `welcome` names no interval. */
const PING_INTERVAL_MS = 25_000;
const REQUEST_TIMEOUT_MS = 10_000;
const NODES_REFRESH_MS = 30_000;
const NODES_TIMEOUT_MS = 3_000;
/** A session that lived this long was a success: backoff starts over and failed nodes are forgiven. */
const STABLE_AFTER_MS = 5_000;
/** The old socket of a move is closed after this time even if a room could not be joined on the new one. */
const OVERLAP_MAX_MS = 30_000;
/** It stays for this long after every room was: what no log keeps is then still on its way to it. */
const LINGER_MS = 500;
/** Full jitter backoff until a node list names other values. */
const RETRY = { first_ms: 500, max_ms: 20_000 };

const RETRYABLE_CODES = new Set(["RATE_LIMITED", "UNAVAILABLE", "INTERNAL"]);
const RECONNECTABLE_CLOSES = new Set([1001, 1005, 1006, 1011, 1012, 1013]);
const CLOSE_NORMAL = 1000;
const CLOSE_LOST = 1006;
const CLOSE_TOO_SLOW = 4002;
const CLOSE_NO_PONG = 4003;
const CLOSE_TAKEN_OVER = 4500;

/** Key of the bytes in content that came as bytes; no field can equal it. */
const BYTES = Symbol("bytes");
/** Key of the user's own log among the positions; no room id can equal it. */
const OWN_LOG = Symbol("own log");
/** Events that say something went wrong: without a listener they go to the console. */
const LOUD_EVENTS = new Set(["error"]);
const OPEN = 1;

/**
 * A refusal by the server or a failure of this client.
 *
 * `code` is one of the protocol's codes (`ROOM_FULL`, `FORBIDDEN`, …) or one of this module's: `TIMEOUT` (no answer in
 * time), `CLOSED` (the client ended first), `NOT_CONNECTED`, `LEFT` (left before the join was answered),
 * `BAD_FRAME` (the server sent something that is no frame of the protocol), `BAD_OPTION`.
 */
export class RoomcastError extends Error {
  /**
   * @param {string} code
   * @param {string} message
   * @param {{id?: number, room_id?: string, retry_after_ms?: number}} [details]
   */
  constructor(code, message, { id, room_id, retry_after_ms } = {}) {
    super(message || code);
    this.name = "RoomcastError";
    this.code = code;
    this.id = id;
    this.room_id = room_id;
    this.retry_after_ms = retry_after_ms;
    /** True when the client itself will ask again. */
    this.retrying = false;
  }
}

/** One message pushed to this session: the fields of the frame plus its content in decoded form. */
export class Push {
  /**
   * @param {object} frame the `push` frame as received
   * @param {number} receivedAtMs local time of arrival, milliseconds since 1970
   * @param {number | null} [ageMs] from its acceptance to its arrival, where the server's clock is known
   */
  constructor(frame, receivedAtMs, ageMs = null) {
    Object.assign(this, frame);
    this.content = frame.content ?? {};
    this.received_at_ms = receivedAtMs;
    this.age_ms = ageMs;
  }

  /** Id of the trace that this push belongs to; null when it is not sampled. */
  get traceId() { return this.traceparent?.split("-")[1] ?? null; }

  /** True when the publisher sent bytes (`data_base64`) and not text. */
  get isBinary() { return this.content[BYTES] !== undefined || this.content.data_base64 !== undefined; }

  /** The content as bytes, in a buffer of their own. Throws when `data_base64` is not base64. */
  get bytes() {
    if (this.content[BYTES]) return this.content[BYTES].slice();
    return this.isBinary ? decodeBase64(this.content.data_base64) : new TextEncoder().encode(this.content.data ?? "");
  }

  /** The content as text; null for bytes that are not UTF-8. */
  get text() {
    if (!this.isBinary) return this.content.data ?? "";
    try {
      return new TextDecoder("utf-8", { fatal: true }).decode(this.bytes);
    } catch {
      return null;
    }
  }
}

/**
 * The origin under which the node behind a WebSocket address serves HTTP: `ws://h:8080/ws` -> `http://h:8080`.
 * @param {string} wsUrl
 * @returns {string}
 */
export function httpOrigin(wsUrl) {
  const url = new URL(wsUrl);
  return `${url.protocol === "wss:" ? "https:" : "http:"}//${url.host}`;
}

/**
 * Whether a client may connect again after a close with this code.
 * @param {number} code
 * @returns {boolean}
 */
export function isReconnectable(code) {
  return RECONNECTABLE_CLOSES.has(code) || (code >= 4000 && code <= 4499);
}

/**
 * @param {string} text base64, standard alphabet
 * @returns {Uint8Array}
 */
export function decodeBase64(text) {
  return Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
}

function encodeBase64(bytes) { return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join("")); }

/**
 * A client_id as the protocol wants it, from 128 random bits.
 * `crypto.randomUUID` would need a secure context; a page served by a node over plain http is none.
 */
function randomClientId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

const systemClock = {
  now: () => Date.now(),
  setTimeout: (callback, ms) => setTimeout(callback, ms),
  clearTimeout: (timer) => clearTimeout(timer),
};

function deferred() {
  const result = {};
  result.promise = new Promise((resolve, reject) => Object.assign(result, { resolve, reject }));
  return result;
}

/** What a listener that threw returned. */
const FAILED = Symbol("failed");

/** Listeners by event. A listener that throws does not keep the others, or the client, from their work. */
class Events {
  #listeners = new Map();

  on(type, listener) {
    if (!this.#listeners.has(type)) this.#listeners.set(type, new Set());
    this.#listeners.get(type).add(listener);
  }

  off(type, listener) { this.#listeners.get(type)?.delete(listener); }
  has(type) { return (this.#listeners.get(type)?.size ?? 0) > 0; }

  /** Calls the listeners; gives what each returned. */
  emit(type, event) {
    if (!this.has(type)) {
      if (LOUD_EVENTS.has(type)) console.warn(`roomcast: ${type} without a listener`, event);
      return [];
    }
    return [...this.#listeners.get(type)].map((listener) => {
      try {
        return listener(event);
      } catch (error) {
        reportFailure(type, error);
        return FAILED;
      }
    });
  }
}

function reportFailure(type, error) { console.error(`roomcast: a listener of "${type}" failed`, error); }

/** The client's listeners of pushes at work: which messages they took, so that those can be acknowledged afterwards. */
class Handled {
  /** By message id, in the order of arrival: true, false, or a promise of it. */
  #results = new Map();

  /** Notes what the listeners of a push returned. */
  note(id, results) {
    let taken = results.length > 0 && !results.includes(FAILED);
    if (taken && results.some((result) => typeof result?.then === "function")) {
      taken = Promise.all(results).then(
        () => this.#settle(id, true),
        (error) => {
          reportFailure("push", error);
          return this.#settle(id, false);
        },
      );
    }
    this.#results.set(id, taken);
    if (this.#results.size > REMEMBERED_IDS_MAX) this.#results.delete(this.#results.keys().next().value);
  }

  /** Calls back once the listeners have taken the message: at once, later, or never. */
  whenTaken(id, callback) {
    const taken = this.#results.get(id);
    if (taken === true) callback();
    else if (taken) taken.then((isTaken) => isTaken && callback());
  }

  #settle(id, isTaken) {
    if (this.#results.has(id)) this.#results.set(id, isTaken);
    return isTaken;
  }
}

/** Promises that a frame id settles. */
class Requests {
  #clock;
  #open = new Map();

  constructor(clock) { this.#clock = clock; }

  open(id, timeoutMs, what) {
    const request = deferred();
    const expire = () => this.fail(id, new RoomcastError("TIMEOUT", `no answer to ${what} within ${timeoutMs} ms`, { id }));
    this.#open.set(id, { ...request, timer: this.#clock.setTimeout(expire, timeoutMs) });
    return request.promise;
  }

  settle(id, value) { this.#take(id)?.resolve(value); }
  fail(id, error) { this.#take(id)?.reject(error); }

  failAll(error) {
    for (const id of [...this.#open.keys()]) this.fail(id, error);
  }

  #take(id) {
    const request = this.#open.get(id);
    if (!request) return undefined;
    this.#clock.clearTimeout(request.timer);
    this.#open.delete(id);
    return request;
  }
}

/**
 * Positions in logs and the memory of recent message ids: decides what is new, what is a repeat, and what may be missing.
 *
 * A stream is what one session brings of one log: in order, and with a `gap` for each hole. It begins with a `joined` or
 * `welcome`:
 *
 * | the stream before            | `since` | the answer                                       | continuity  | position           |
 * |------------------------------|---------|--------------------------------------------------|-------------|--------------------|
 * | another session's, or none   | yes     | recovered, epoch of `since`                      | `recovered` | the own one stays  |
 * | another session's            | yes, no | behind the own position, which moved on meanwhile | `unbroken`  | the own one stays  |
 * | another session's, or none   | yes     | anything else                                    | `lost`      | as given           |
 * | none                         | no      | anything                                         | `first`     | as given           |
 * | another session's, still open | no     | no position                                      | `unbroken`  | -                  |
 * | another session's            | no      | anything else                                    | `unknown`   | as given           |
 * | this session's               | no      | the own epoch, or no position                    | `unbroken`  | the own one stays  |
 * | this session's               | no      | another epoch, or the first position             | `lost`      | as given           |
 *
 * "As given" leaves the own position where the answer has none. A move has two sessions open. The new stream is whole from
 * its `since` on, so the old one is listened to as long as it fits: what either brings late is behind the position that the
 * other has reached, and a hole of either's own ends the old one's part.
 */
class Positions {
  /**
   * By log: `at`; `past`, where it stood in epochs that it left, each with a hole; `session` whose stream began last; `former`,
   * the one before as long as its stream fits; `lags` while the stream may be behind the own position.
   */
  #places = new Map();
  #seen = new Set();

  get(log) { return this.#places.get(log)?.at; }
  forget(log) { this.#places.delete(log); }
  entries() { return [...this.#places].filter(([, { at }]) => at).map(([log, { at }]) => [log, at]); }

  /** Starts from a position that an earlier life of the application reached. */
  restore(log, { epoch, offset }) { this.#place(log).at = { epoch, offset }; }

  /** Takes a `joined` or `welcome`; `hole` is to be told. `retiring`: the session that a move left, while it is open. */
  begin(log, session, { retiring, since, frame }) {
    const place = this.#place(log);
    const given = positionOf(frame);
    const from = place.at;
    const isSame = place.session === session;
    const continuity = this.#continuity(place, { session, retiring, since, given, isRecovered: frame.recovered === true });
    if (!isSame) Object.assign(place, { former: place.session, session, lags: true });
    if (continuity === "recovered") place.at ??= since;
    const hole = continuity === "lost" || continuity === "unknown" ? { from, to: given } : null;
    if (hole || continuity === "first") {
      place.former = undefined;
      if (given) place.lags = false;
      this.#go(place, given);
    }
    return { continuity, hole };
  }

  /** Takes a `gap`. null when nothing is missing: the other session of a move brought it, or will. */
  gap(log, session, frame) {
    const place = this.#places.get(log);
    let to = positionOf(frame);
    if (place?.session !== session) {
      if (!place || place.former !== session) return null;
      place.former = undefined;
      // A new stream without a position is whole from nowhere on: what the old one still had is not filled.
      return place.at ? null : { from: undefined, to };
    }
    if (place.lags && to && to.epoch === place.at?.epoch && isPast(place, to)) return null;
    place.former = undefined;
    const passed = place.lags && to ? place.past.get(to.epoch) : undefined;
    if (passed > to?.offset) to = { epoch: to.epoch, offset: passed };
    const from = place.at;
    this.#go(place, to);
    return { from, to };
  }

  /**
   * Takes a message; moves the position. `new`; `repeat`; `behind`: had long ago, or told to be missing, and too late in either
   * case; `foreign`: the session has no part in this log, because the room was left, or is not yet joined there.
   */
  accept(push, session) {
    const log = { room: push.room_id, user: OWN_LOG }[push.target];
    const at = positionOf(push);
    if (log !== undefined) {
      const place = this.#places.get(log);
      if (!place || (place.session !== session && place.former !== session)) return "foreign";
      if (at && isPast(place, at)) return this.#seen.has(push.message_id) ? "repeat" : "behind";
      if (at && at.epoch === place.at?.epoch) place.at = at;
    }
    return this.#remember(push.message_id) ? "new" : "repeat";
  }

  #continuity(place, { session, retiring, since, given, isRecovered }) {
    if (place.session === session) return given && isElsewhere(place, given) ? "lost" : "unbroken";
    if (since && isRecovered && (!given || given.epoch === since.epoch)) return "recovered";
    // Without a move since `since` was sent, a log that is behind it is one that went back.
    if (given && !isEqual(place.at, since) && isPast(place, given)) return "unbroken";
    if (since) return "lost";
    if (!place.session) return "first";
    return place.session === retiring && !given ? "unbroken" : "unknown";
  }

  #place(log) {
    if (!this.#places.has(log)) this.#places.set(log, { at: undefined, past: new Map(), session: undefined, former: undefined, lags: false });
    return this.#places.get(log);
  }

  #go(place, to) {
    if (!to) return;
    const { at, past } = place;
    past.delete(to.epoch);
    if (at && at.epoch !== to.epoch) past.set(at.epoch, at.offset);
    if (past.size > PAST_EPOCHS_MAX) past.delete(past.keys().next().value);
    place.at = to;
  }

  #remember(id) {
    if (id === undefined) return true;
    if (this.#seen.has(id)) return false;
    this.#seen.add(id);
    if (this.#seen.size > REMEMBERED_IDS_MAX) this.#seen.delete(this.#seen.values().next().value);
    return true;
  }
}

/** The position a frame names, when it names one whole. */
function positionOf({ epoch, offset }) { return epoch === undefined || offset === undefined ? undefined : { epoch, offset }; }

function isEqual(one, other) { return one?.epoch === other?.epoch && one?.offset === other?.offset; }

/** Whether everything up to there came, or is known to be missing. */
function isPast({ at, past }, { epoch, offset }) { return at?.epoch === epoch ? offset <= at.offset : past.has(epoch); }

/** Whether a session is in another epoch, and not only behind another session; or tells its first position. */
function isElsewhere(place, given) {
  if (!place.at) return true;
  return place.at.epoch !== given.epoch && !(place.lags && isPast(place, given));
}

/** Collects what one session sends together. What it cannot send any more is dropped: no other session was asked for it. */
class Batch {
  #clock;
  #rule;
  #send;
  #items = new Map();
  #timer = null;
  #dueAt = 0;
  #sentAt = -Infinity;

  /** `rule`: delayMs, gapMs, max, kept. `send(items)` says whether the session took them. */
  constructor(clock, rule, send) {
    this.#clock = clock;
    this.#rule = rule;
    this.#send = send;
  }

  add(id, item) {
    this.#items.set(id, item);
    if (this.#items.size > this.#rule.kept) this.#items.delete(this.#items.keys().next().value);
    this.#schedule();
  }

  /** Sends everything now: the session ends, or leaves a room. */
  flush() {
    this.stop();
    while (this.#items.size > 0) this.#sendSome();
  }

  stop() {
    this.#clock.clearTimeout(this.#timer);
    this.#timer = null;
  }

  #schedule() {
    if (this.#items.size === 0) return;
    const { delayMs, gapMs, max } = this.#rule;
    const now = this.#clock.now();
    // A clock that was set back must not stretch the gap.
    const gap = Math.min(gapMs, this.#sentAt + gapMs - now);
    const wait = Math.max(gap, this.#items.size >= max ? 0 : delayMs);
    if (wait > 0) return this.#arm(now, wait);
    this.stop();
    this.#sendSome();
    this.#schedule();
  }

  #arm(now, wait) {
    if (this.#timer !== null && this.#dueAt <= now + wait) return;
    this.stop();
    this.#dueAt = now + wait;
    this.#timer = this.#clock.setTimeout(() => {
      this.#timer = null;
      this.#sendSome();
      this.#schedule();
    }, wait);
  }

  #sendSome() {
    const some = [...this.#items].slice(0, this.#rule.max);
    this.#sentAt = this.#clock.now();
    if (!this.#send(some.map(([, item]) => item))) return this.#items.clear();
    for (const [id] of some) this.#items.delete(id);
  }
}

/** The nodes of the cluster as last heard, which of them failed, and which one to try next. */
class NodeDirectory {
  nodes = [];
  retry = RETRY;
  #configured;
  #last;
  #avoided = new Set();
  #nodeIds = new Map();
  #fetch;
  #clock;
  #random;
  #isFetching = false;

  constructor(url, { fetch, clock, random }) {
    this.#configured = this.#last = url;
    this.#fetch = fetch;
    this.#clock = clock;
    this.#random = random;
  }

  /** Full jitter: anything between nothing and a ceiling that doubles with each attempt. */
  jitter(attempt) { return this.#random() * Math.min(this.retry.max_ms, this.retry.first_ms * 2 ** attempt); }
  identify(url, nodeId) { this.#nodeIds.set(url, nodeId); }

  /** A node may be known under two addresses (the configured one and its public one): both are avoided. */
  fail(url) {
    const nodeId = this.#nodeIds.get(url);
    this.#avoided.add(url);
    if (nodeId === undefined) return;
    for (const node of this.nodes) if (node.node_id === nodeId) this.#avoided.add(node.url);
    for (const [known, id] of this.#nodeIds) if (id === nodeId) this.#avoided.add(known);
  }

  forgive() { this.#avoided.clear(); }

  /** The last address unless it failed, then a ready node, then the configured address; starts over when all failed. */
  choose() {
    if (this.#avoided.has(this.#last)) this.#last = this.#alternative() ?? this.#startOver();
    return this.#last;
  }

  #startOver() {
    const failed = this.#last;
    this.#avoided.clear();
    this.fail(failed);
    return this.#avoided.has(this.#configured) ? this.#alternative() ?? failed : this.#configured;
  }

  #alternative() {
    const ready = this.nodes.filter((node) => node.state === "ready" && !this.#avoided.has(node.url));
    if (ready.length > 0) return this.#fewestOfTwo(ready).url;
    return this.#avoided.has(this.#configured) ? undefined : this.#configured;
  }

  /** The better of two random nodes: when a node dies its clients would otherwise all run to the same neighbour. */
  #fewestOfTwo(nodes) {
    const rest = [...nodes];
    const draw = () => rest.splice(Math.floor(this.#random() * rest.length), 1)[0];
    const [first, second] = [draw(), draw()];
    const load = (node) => node.sessions ?? Infinity;
    return second && load(second) < load(first) ? second : first;
  }

  /** Asks for the node list, first at `preferredUrl`, then at up to three others that did not fail. True if answered. */
  async refresh(preferredUrl) {
    if (!this.#fetch || this.#isFetching) return false;
    this.#isFetching = true;
    const others = this.nodes.map((node) => node.url).filter((url) => url !== preferredUrl && !this.#avoided.has(url));
    const urls = [...(preferredUrl ? [preferredUrl] : []), ...others.slice(0, 3)];
    try {
      for (const url of urls) if (await this.#load(url)) return true;
      return false;
    } finally {
      this.#isFetching = false;
    }
  }

  async #load(url) {
    const abort = new AbortController();
    const timer = this.#clock.setTimeout(() => abort.abort(), NODES_TIMEOUT_MS);
    try {
      const response = await this.#fetch(`${httpOrigin(url)}/nodes`, { signal: abort.signal, cache: "no-store" });
      if (!response.ok) return false;
      this.#take(await response.json());
      return true;
    } catch {
      return false;
    } finally {
      this.#clock.clearTimeout(timer);
    }
  }

  #take({ nodes, retry }) {
    if (!Array.isArray(nodes)) return;
    this.nodes = nodes.filter((node) => this.#isUsable(node?.url));
    if (retry?.first_ms > 0 && retry?.max_ms >= retry.first_ms) this.retry = retry;
  }

  /** From a `wss:` address never down to `ws:`: the token would travel in the open, and browsers refuse it. */
  #isUsable(url) { return isWebSocketUrl(url) && (url.startsWith("wss:") || !this.#configured.startsWith("wss:")); }
}

function isWebSocketUrl(url) {
  try {
    return ["ws:", "wss:"].includes(new URL(url).protocol);
  } catch {
    return false;
  }
}

/** How protobuf writes a field: its wire type. */
const VARINT = 0;
const FIXED64 = 1;
const LENGTH_DELIMITED = 2;
const FIXED32 = 5;
const TOO_SHORT = "it ends too early";

/** Reads the pieces of a protobuf message; throws when it ends within one. */
class PieceReader {
  #bytes;
  #at = 0;

  constructor(bytes) { this.#bytes = bytes; }

  get isAtEnd() { return this.#at === this.#bytes.length; }

  /** A number as `JSON.parse` gives it: exact below 2^53, the nearest one above. */
  varint(isSigned = false) {
    let [low, high] = [0, 0];
    for (let shift = 0; shift < 64; shift += 7) {
      if (this.isAtEnd) throw new RangeError(TOO_SHORT);
      const byte = this.#bytes[this.#at];
      const bits = byte & 0x7f;
      this.#at += 1;
      if (shift < 32) low |= bits << shift;
      if (shift >= 28) high |= shift < 32 ? bits >>> 4 : bits << (shift - 32);
      if (byte < 0x80) return (isSigned ? high : high >>> 0) * 2 ** 32 + (low >>> 0);
    }
    throw new RangeError("a number has more than 64 bits");
  }

  /** So many bytes, within the buffer of the frame. */
  take(count) {
    const end = this.#at + count;
    if (end > this.#bytes.length) throw new RangeError(TOO_SHORT);
    const taken = this.#bytes.subarray(this.#at, end);
    this.#at = end;
    return taken;
  }

  delimited() { return this.take(this.varint()); }

  skip(wireType) {
    if (wireType === VARINT) this.varint();
    else if (wireType === FIXED64) this.take(8);
    else if (wireType === LENGTH_DELIMITED) this.delimited();
    else if (wireType === FIXED32) this.take(4);
    else throw new RangeError(`wire type ${wireType} is unknown`);
  }
}

function varintBytes(number) {
  const bytes = [];
  let rest = BigInt.asUintN(64, BigInt(number));
  for (; rest > 0x7fn; rest >>= 7n) bytes.push(Number(rest & 0x7fn) | 0x80);
  return [...bytes, Number(rest)];
}

/** Made when it is first needed: a runtime without it still speaks JSON. */
let utf8 = null;

function decodeUtf8(bytes) {
  utf8 ??= new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  return utf8.decode(bytes);
}

const ULID_DIGITS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/** The 26 digits of 5 bits have room for two bits more than 16 bytes: the first two are 0. */
function ulidOf(bytes) {
  if (bytes.length !== 16) throw new RangeError(`message_id has ${bytes.length} bytes; it takes 16`);
  let [digits, kept, bits] = ["", 0, 2];
  for (const byte of bytes) {
    kept = (kept << 8) | byte;
    bits += 8;
    while (bits >= 5) {
      bits -= 5;
      digits += ULID_DIGITS[(kept >>> bits) & 0x1f];
    }
  }
  return digits;
}

function ulidBytes(digits) {
  const bytes = [];
  let [kept, bits] = [0, -2];
  for (const digit of digits) {
    kept = (kept << 5) | ULID_DIGITS.indexOf(digit);
    bits += 5;
    if (bits < 8) continue;
    bits -= 8;
    bytes.push((kept >>> bits) & 0xff);
  }
  return Uint8Array.from(bytes);
}

function epochOf(bytes) {
  const number = new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true);
  return number === 0n ? undefined : number.toString(16).padStart(16, "0");
}

/** An epoch that no node wrote is 0, which nobody knows. */
function epochBytes(epoch) {
  const bytes = new Uint8Array(8);
  if (/^[0-9a-f]{16}$/.test(epoch)) new DataView(bytes.buffer).setBigUint64(0, BigInt(`0x${epoch}`), true);
  return bytes;
}

/**
 * Kinds of fields: `wireType`; `absent`, the value that is not written and that a field which did not come has, `undefined` where
 * JSON then lacks it, too; `read(pieces)` gives the value that JSON has; `write(value)` gives bytes.
 */
const NUMBER = { wireType: VARINT, absent: 0, read: (pieces) => pieces.varint(), write: varintBytes };
const SIGNED = { ...NUMBER, read: (pieces) => pieces.varint(true) };
const FLAG = { wireType: VARINT, absent: false, read: (pieces) => pieces.varint() !== 0 };
const TEXT = {
  wireType: LENGTH_DELIMITED, absent: "",
  read: (pieces) => decodeUtf8(pieces.delimited()),
  write: (text) => new TextEncoder().encode(text),
};
const BASE64 = { wireType: LENGTH_DELIMITED, read: (pieces) => pieces.delimited(), write: decodeBase64 };
const ULID = { wireType: LENGTH_DELIMITED, read: (pieces) => ulidOf(pieces.delimited()), write: ulidBytes };
const EPOCH = { wireType: FIXED64, read: (pieces) => epochOf(pieces.take(8)), write: epochBytes };
const optional = (kind) => ({ ...kind, absent: undefined });
const unlessZero = (kind) => ({ ...kind, absent: undefined, read: (pieces) => kind.read(pieces) || undefined });
const listOf = (kind) => ({ ...kind, isList: true });

/** One of these words, in the order of their numbers; of one that a later version brought, the number. */
function wordOf(...words) {
  const read = (pieces) => {
    const index = pieces.varint(true);
    return words[index] ?? String(index);
  };
  const write = (word) => {
    if (!words.includes(word)) throw new RoomcastError("BAD_REQUEST", `content.type takes ${words.join(", ")}, not "${word}"`);
    return varintBytes(words.indexOf(word));
  };
  return { wireType: VARINT, absent: words[0], read, write };
}

/** A message whose fields are numbered from 1 on. */
function messageOf(fieldsByName) {
  const fields = Object.entries(fieldsByName);
  return {
    wireType: LENGTH_DELIMITED,
    read: (pieces) => readMessage(pieces.delimited(), fields),
    write: (object) => writeMessage(object, fields),
    fields,
  };
}

function readMessage(bytes, fields) {
  const pieces = new PieceReader(bytes);
  const values = [];
  while (!pieces.isAtEnd) {
    const tag = pieces.varint();
    const [wireType, index] = [tag % 8, Math.floor(tag / 8) - 1];
    const [name, kind] = fields[index] ?? [];
    if (index < 0) throw new RangeError("a field has the number 0");
    if (kind && kind.wireType !== wireType) throw new RangeError(`${name} has wire type ${wireType}; it takes ${kind.wireType}`);
    if (kind) values[index] = kind.read(pieces);
    else pieces.skip(wireType);
  }
  const object = {};
  fields.forEach(([name, kind], index) => put(object, name, kind, values[index] ?? kind.absent));
  return object;
}

/** An offset is one in an epoch. Bytes are written in base64 when somebody asks for that. */
function put(object, name, kind, value) {
  if (value === undefined || (name === "offset" && object.epoch === undefined)) return;
  if (kind === BASE64) {
    Object.defineProperty(object, name, { enumerable: true, get: () => encodeBase64(value) });
    Object.defineProperty(object, BYTES, { value });
  } else {
    object[name] = value;
  }
}

/** The parts of a field: its tag, its length if that is not known from the tag, its value. */
function fieldBytes(number, kind, value) {
  const bytes = kind.write(value);
  const tag = varintBytes(number * 8 + kind.wireType);
  return kind.wireType === LENGTH_DELIMITED ? [tag, varintBytes(bytes.length), bytes] : [tag, bytes];
}

function writeMessage(object, fields) {
  const parts = fields.flatMap(([name, kind], index) => {
    const values = kind.isList ? object[name] : [object[name]].filter((value) => value !== undefined && value !== kind.absent);
    return values.flatMap((value) => fieldBytes(index + 1, kind, value));
  });
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

/** The messages of `proto/pubsub/client.proto`, with the names of JSON. */
const CONTENT = messageOf({
  type: wordOf("TEXT", "AUDIO", "TRANSLATION", "SYSTEM", "STATE"),
  data: optional(TEXT), data_base64: BASE64, timestamp: SIGNED,
});
const SERVER_FRAME = messageOf({
  id: optional(NUMBER),
  welcome: messageOf({
    protocol: NUMBER, session_id: TEXT, node_id: TEXT, user_id: TEXT, client_id: TEXT,
    ping_interval_ms: NUMBER, server_time_ms: SIGNED, limits: messageOf({ frame_bytes: NUMBER, rooms: NUMBER }),
    epoch: EPOCH, offset: NUMBER, recovered: optional(FLAG),
  }),
  joined: messageOf({
    room_id: TEXT, members: NUMBER, epoch: EPOCH, offset: NUMBER, recovered: optional(FLAG), read_offset: optional(NUMBER),
  }),
  left: messageOf({ room_id: TEXT, reason: wordOf("LEFT", "KICKED", "EVICTED", "ROOM_DELETED") }),
  push: messageOf({
    target: wordOf("room", "user", "all"), message_id: ULID, room_id: unlessZero(TEXT), epoch: EPOCH, offset: NUMBER,
    content: CONTENT, timestamp_ms: SIGNED, ack: unlessZero(FLAG), traceparent: unlessZero(TEXT),
  }),
  gap: messageOf({ room_id: unlessZero(TEXT), epoch: EPOCH, offset: NUMBER }),
  notice: messageOf({ reason: wordOf("DRAINING"), reconnect_after_ms: NUMBER }),
  error: messageOf({ room_id: unlessZero(TEXT), code: TEXT, message: TEXT, retry_after_ms: unlessZero(NUMBER) }),
  pong: messageOf({}),
});
const CLIENT_FRAME = messageOf({
  id: optional(NUMBER),
  join: messageOf({ room_id: TEXT, since: messageOf({ epoch: EPOCH, offset: NUMBER }) }),
  leave: messageOf({ room_id: TEXT }),
  ack: messageOf({ message_ids: listOf(ULID) }),
  received: messageOf({ items: listOf(messageOf({ message_id: ULID, at_ms: NUMBER })) }),
  ping: messageOf({}),
  publish: messageOf({ room_id: TEXT, content: CONTENT }),
});

function readJson(data) {
  const frame = JSON.parse(data);
  if (frame === null || typeof frame !== "object" || Array.isArray(frame)) throw new TypeError("it is another value");
  return frame;
}

/** A frame that has nothing known is of no type. */
function readProto(data) {
  if (data?.byteLength === undefined) throw new TypeError("it is no binary message");
  const { id, ...frames } = readMessage(new Uint8Array(data), SERVER_FRAME.fields);
  const [[type, fields] = []] = Object.entries(frames);
  return { type, ...(id === undefined ? {} : { id }), ...fields };
}

function writeProto({ type, id, ...fields }) { return writeMessage({ id, [type]: fields }, CLIENT_FRAME.fields); }

/**
 * How frames are written, by the option `protocol`. `subprotocol` is offered to the node, which takes none for JSON; `write(frame)`
 * gives what the socket sends; `read(data)` gives the frame of what it brought and throws when it is none, that is no `what`.
 */
const FORMS = {
  json: { subprotocol: undefined, what: "JSON object", write: (frame) => JSON.stringify(frame), read: readJson },
  proto: { subprotocol: "pubsub.proto.v1", what: "protobuf of pubsub.proto.v1", write: writeProto, read: readProto },
};

/** What cannot be read counts as an error that the server sent. */
function readFrame(form, data) {
  try {
    return form.read(data);
  } catch (error) {
    return { type: "error", code: "BAD_FRAME", message: `the server sent a frame that is no ${form.what}: ${error.message}` };
  }
}

/**
 * One socket from its opening to its end, with the liveness rules.
 * `hooks`: `onFrame(connection, frame)`, `onClose(connection, code, reason)`, `onRaw(direction, data, frame, connection)`,
 * `onAcknowledged(message_ids)`.
 */
class Connection {
  welcome = null;
  isOpen = true;
  /** Node time minus local time, without the way of `welcome`; half of the shortest round trip comes on top. */
  #ahead = null;
  #roundTrip = 0;
  #acks;
  #reports;
  #form;
  #clock;
  #nextId;
  #hooks;
  #socket = null;
  #timer = null;
  #heardAt = 0;

  constructor({ url, since, address, form, WebSocket, clock, nextId, hooks }) {
    this.url = url;
    this.since = since;
    this.#form = form;
    this.#clock = clock;
    this.#nextId = nextId;
    this.#hooks = hooks;
    this.#acks = new Batch(clock, ACK_RULE, (message_ids) => {
      const isSent = this.send({ type: "ack", message_ids });
      if (isSent) hooks.onAcknowledged(message_ids);
      return isSent;
    });
    this.#reports = new Batch(clock, RECEIVED_RULE, (items) => this.send({ type: "received", items }));
    this.#arm(WELCOME_TIMEOUT_MS, () => this.#give(CLOSE_LOST, "no welcome in time"));
    try {
      this.#socket = new WebSocket(address(), form.subprotocol);
      this.#socket.binaryType = "arraybuffer";
      this.#socket.onmessage = (event) => this.#receive(event.data);
      this.#socket.onclose = (event) => this.#give(event.code, event.reason);
      this.#socket.onerror = () => {};
    } catch (error) {
      this.#arm(0, () => this.#give(CLOSE_LOST, error.message));
    }
  }

  /** False when the socket cannot take it. */
  send(frame) {
    if (!this.isOpen || this.#socket?.readyState !== OPEN) return false;
    const data = this.#form.write(frame);
    this.#socket.send(data);
    this.#hooks.onRaw("sent", data, frame, this);
    return true;
  }

  /** Acknowledges a message of this session; in vain when it has ended. */
  acknowledge(id) { if (this.isOpen) this.#acks.add(id, id); }

  /** Reports when a sampled message came. */
  report(id, receivedAtMs) { this.#reports.add(id, { message_id: id, at_ms: Math.round(this.serverTime(receivedAtMs)) }); }

  /** Sends what waits to be acknowledged or reported. */
  flush() {
    this.#acks.flush();
    this.#reports.flush();
  }

  /** A round trip on this session took so long. */
  measured(ms) { this.#roundTrip = this.#roundTrip > 0 ? Math.min(this.#roundTrip, ms) : ms; }

  /** What the node's clock showed at a local time; null before `welcome`. */
  serverTime(localMs) { return this.#ahead === null ? null : localMs + this.#ahead + this.#roundTrip / 2; }

  /** Ends without a call to `onClose`; sends what waits if it can. */
  close(code, reason) {
    this.flush();
    this.isOpen = false;
    this.#clock.clearTimeout(this.#timer);
    if (!this.#socket) return;
    this.#socket.onmessage = this.#socket.onclose = null;
    try {
      this.#socket.close(code, reason);
    } catch {
      // Some runtimes refuse close() on a socket that never opened; it is let go all the same.
    }
  }

  #give(code, reason) {
    if (!this.isOpen) return;
    this.close(code === CLOSE_NO_PONG ? CLOSE_NO_PONG : undefined);
    this.#hooks.onClose(this, code, reason ?? "");
  }

  #receive(data) {
    this.#heardAt = this.#clock.now();
    const frame = readFrame(this.#form, data);
    this.#hooks.onRaw("received", data, frame, this);
    if (frame.type === "welcome" && !this.welcome) {
      this.welcome = frame;
      if (frame.server_time_ms > 0) this.#ahead = frame.server_time_ms - this.#heardAt;
      this.#awaitSilence(this.#pingIntervalMs);
    }
    this.#hooks.onFrame(this, frame);
  }

  get #pingIntervalMs() {
    return this.welcome.ping_interval_ms > 0 ? this.welcome.ping_interval_ms : PING_INTERVAL_MS;
  }

  #awaitSilence(waitMs) {
    this.#arm(waitMs, () => {
      const left = this.#heardAt + this.#pingIntervalMs - this.#clock.now();
      if (left > 0) this.#awaitSilence(Math.min(left, this.#pingIntervalMs));
      else this.#probe();
    });
  }

  #probe() {
    const askedAt = this.#heardAt;
    this.send({ type: "ping", id: this.#nextId() });
    this.#arm(PONG_TIMEOUT_MS, () => {
      if (this.#heardAt === askedAt) this.#give(CLOSE_NO_PONG, "no pong");
      else this.#awaitSilence(this.#pingIntervalMs);
    });
  }

  #arm(ms, callback) {
    this.#clock.clearTimeout(this.#timer);
    this.#timer = this.#clock.setTimeout(callback, ms);
  }
}

/**
 * The rooms that the application wants, and where each stands.
 *
 * | room                | join sent    | joined        | refused, retryable | refused            | connection lost     |
 * |---------------------|--------------|---------------|--------------------|--------------------|---------------------|
 * | asked (`requests`)  | stays        | in            | waits (`timer`)    | forgotten          | asks after welcome  |
 * | in (`session`)      | asked        | stays         | asks again later   | stays              | asks after welcome  |
 * | `leaving`           | asked        | ignored       | in                 | in, or forgotten   | forgotten           |
 */
class RoomSet {
  #rooms = new Map();
  #io;

  /** `io`: clock, timeoutMs, nextId, jitter, positions, requests, send(frame), session(), retiring(), emit(type, event), gap(room, continuity, hole). */
  constructor(io) { this.#io = io; }

  list() {
    return [...this.#rooms.values()].map((room) => ({
      room_id: room.id,
      state: room.leaving ? "leaving" : room.session?.isOpen ? "joined" : "joining",
      members: room.members,
      read_offset: room.readOffset,
      position: this.#io.positions.get(room.id) ?? null,
    }));
  }

  /** Wants a room without a promise: it is asked for until it is joined or refused for good. */
  want(roomId) {
    if (!this.#rooms.has(roomId)) this.#add(roomId).isPinned = true;
  }

  join(roomId, timeoutMs = this.#io.timeoutMs) {
    const room = this.#rooms.get(roomId) ?? this.#add(roomId);
    room.leaving = null;
    if (room.answer) return room.answer.promise;
    room.answer = { ...deferred(), timer: this.#io.clock.setTimeout(() => this.#giveUp(room, timeoutMs), timeoutMs) };
    const { promise } = room.answer;
    if (room.timer === null) this.#ask(room);
    return promise;
  }

  leave(roomId, timeoutMs = this.#io.timeoutMs) {
    const room = this.#rooms.get(roomId);
    const id = this.#io.nextId();
    if (room) {
      this.#stop(room);
      this.#reject(room, new RoomcastError("LEFT", `left ${roomId} before the join was answered`, { room_id: roomId }));
    }
    if (!this.#io.send({ type: "leave", id, room_id: roomId })) {
      const left = { type: "left", room_id: roomId, reason: "LEFT" };
      this.#forget(roomId, left);
      return Promise.resolve(left);
    }
    if (room) room.leaving = id;
    return this.#io.requests.open(id, timeoutMs, `leave ${roomId}`);
  }

  /** Asks for every room on a new session. */
  rejoin() {
    for (const room of this.#rooms.values()) if (!room.leaving) this.#ask(room);
  }

  /** The session is gone and with it every unanswered frame; a room that was being left is left. */
  sessionEnded() {
    for (const room of [...this.#rooms.values()]) {
      this.#stop(room);
      if (!room.leaving) continue;
      const left = { type: "left", id: room.leaving, room_id: room.id, reason: "LEFT" };
      this.#io.requests.settle(room.leaving, left);
      this.#forget(room.id, left);
    }
  }

  isSettledOn(session) { return [...this.#rooms.values()].every((room) => room.leaving || room.session === session); }

  onJoined(session, frame) {
    if (typeof frame.room_id !== "string") return;
    const room = this.#rooms.get(frame.room_id) ?? this.#add(frame.room_id);
    // An answer that came late counts, because what follows it on the session begins at its `since`.
    const request = room.requests.find(({ id }) => id === frame.id);
    if (room.leaving || (room.requests.length > 0 && !request)) return;
    // `recovered` says that a position was named, also in a join that was given up since.
    const { positions, retiring } = this.#io;
    const since = request?.since ?? (frame.recovered === undefined ? undefined : positions.get(room.id));
    this.#stop(room);
    Object.assign(room, { session, members: frame.members, readOffset: frame.read_offset, wasJoined: true, attempt: 0 });
    const { continuity, hole } = positions.begin(room.id, session, { retiring: retiring(), since, frame });
    const event = { ...frame, continuity, position: positions.get(room.id) ?? null };
    this.#io.emit("joined", event);
    if (hole) this.#io.gap(room.id, continuity, hole);
    this.#takeAnswer(room)?.resolve(event);
  }

  onLeft(frame) {
    const room = this.#rooms.get(frame.room_id);
    if (room?.requests.length > 0) {
      // A join was sent after the leave that this answers: its own answer decides.
      Object.assign(room, { session: null, wasJoined: false });
      this.#io.positions.forget(room.id);
      this.#io.emit("left", frame);
    } else {
      this.#forget(frame.room_id, frame);
    }
    this.#io.requests.settle(frame.id, frame);
  }

  /** Takes an `error` that answers a join or a leave of a room; marks it when the join will be repeated. */
  onError(session, error) {
    const room = [...this.#rooms.values()].find((room) => answers(room, error));
    if (!room) return;
    if (room.leaving) this.#leaveRefused(room, error);
    else if (RETRYABLE_CODES.has(error.code)) this.#askLater(room, error);
    else this.#joinRefused(room, session, error);
  }

  close(error) {
    for (const room of this.#rooms.values()) {
      this.#stop(room);
      this.#reject(room, error);
    }
    this.#rooms.clear();
  }

  #add(roomId) {
    const room = { id: roomId, session: null, members: undefined, wasJoined: false, isPinned: false, leaving: null,
      requests: [], timer: null, attempt: 0, answer: null };
    this.#rooms.set(roomId, room);
    return room;
  }

  /** Sends the join, with the position unless this session has the room already, and again if no answer comes. */
  #ask(room) {
    const { clock, nextId, positions, session, send, timeoutMs } = this.#io;
    clock.clearTimeout(room.timer);
    room.timer = null;
    const since = room.session && room.session === session() ? undefined : positions.get(room.id);
    const id = nextId();
    if (!send({ type: "join", id, room_id: room.id, since })) return;
    // Answers come in order: the first are the ones to wait for.
    room.requests = [...room.requests.slice(0, REQUESTS_MAX - 1), { id, since }];
    room.timer = clock.setTimeout(() => this.#ask(room), timeoutMs);
  }

  #askLater(room, error) {
    this.#stop(room);
    error.retrying = true;
    const delay = error.retry_after_ms ?? this.#io.jitter(room.attempt);
    room.attempt += 1;
    room.timer = this.#io.clock.setTimeout(() => this.#ask(room), delay);
  }

  #joinRefused(room, session, error) {
    this.#stop(room);
    this.#reject(room, error);
    if (room.session === session) return;
    const left = { type: "left", room_id: room.id, reason: "REFUSED", code: error.code };
    this.#forget(room.id, room.wasJoined ? left : undefined);
  }

  #leaveRefused(room, error) {
    room.leaving = null;
    if (error.code === "NOT_JOINED") this.#forget(room.id, { type: "left", room_id: room.id, reason: "LEFT" });
  }

  #giveUp(room, timeoutMs) {
    this.#reject(room, new RoomcastError("TIMEOUT", `${room.id} not joined within ${timeoutMs} ms`, { room_id: room.id }));
    if (room.wasJoined || room.isPinned) return;
    if (room.requests.length > 0) this.#io.send({ type: "leave", id: this.#io.nextId(), room_id: room.id });
    this.#forget(room.id);
  }

  #forget(roomId, left) {
    const room = this.#rooms.get(roomId);
    if (room) {
      this.#stop(room);
      this.#rooms.delete(roomId);
      this.#reject(room, new RoomcastError(left?.reason ?? "LEFT", `left ${roomId}`, { room_id: roomId }));
    }
    this.#io.positions.forget(roomId);
    if (left) this.#io.emit("left", left);
  }

  #stop(room) {
    this.#io.clock.clearTimeout(room.timer);
    Object.assign(room, { requests: [], timer: null });
  }

  #reject(room, error) { this.#takeAnswer(room)?.reject(error); }

  #takeAnswer(room) {
    const { answer } = room;
    this.#io.clock.clearTimeout(answer?.timer);
    room.answer = null;
    return answer;
  }
}

/** Whether an error frame answers what this room waits for; an error without id answers by its room. */
function answers(room, error) {
  const waitsFor = room.leaving ? [room.leaving] : room.requests.map(({ id }) => id);
  if (waitsFor.length === 0) return false;
  return error.id === undefined ? error.room_id === room.id : waitsFor.includes(error.id);
}

/**
 * One user's session with the cluster, over as many sockets as it takes.
 *
 * States: `idle` -> `connecting` -> `connected` <-> `reconnecting` -> `closed`. A client that is closed stays closed.
 *
 * Events (see roomcast.d.ts for their fields): `state`, `welcome`, `joined`, `left`, `push`, `notice`, `error`, `acknowledged`,
 * `nodes`, `frame`. `error` is written to the console while nobody listens to it. Gaps are no event that one may forget to
 * listen to: the option `onGap` is required, and called between the messages where some may be missing.
 */
export class RoomcastClient {
  #options;
  #clock;
  #events = new Events();
  #positions = new Positions();
  #requests;
  #directory;
  #handled = new Handled();
  #rooms;
  #state = "idle";
  #ready = deferred();
  #lastId = 0;
  #attempt = 0;
  /** The session that frames are sent on; the attempt in the air; the session that a move left behind. */
  #current = null;
  #opening = null;
  #retiring = null;
  #timers = new Map();
  #retryAt = 0;
  /** A connection was tried beside the current one, which may be told so with 4500. */
  #isMoving = false;
  /** A page that goes away, for good or into the browser's back-forward cache, sends what waits while it can. */
  #onPageHide = () => [this.#current, this.#retiring].forEach((connection) => connection?.flush());

  /**
   * @param {import("./roomcast").RoomcastOptions} options
   * @throws {TypeError} without `onGap`: null says that the application does without
   */
  constructor(options) {
    this.#options = checkOptions(options);
    const { url, rooms, resume, clock, requestTimeoutMs } = this.#options;
    this.#clock = clock;
    this.#requests = new Requests(clock);
    this.#directory = new NodeDirectory(url, this.#options);
    const send = (frame) => this.#current?.send(frame) ?? false;
    this.#rooms = new RoomSet({
      clock, send, timeoutMs: requestTimeoutMs, positions: this.#positions, requests: this.#requests,
      nextId: () => this.#nextId(),
      jitter: (attempt) => this.#directory.jitter(attempt),
      session: () => this.#current,
      retiring: () => this.#retiring,
      emit: (type, event) => this.#events.emit(type, event),
      gap: (room, continuity, hole) => this.#tellGap(room, causeOf(continuity), hole),
    });
    if (resume?.own) this.#positions.restore(OWN_LOG, resume.own);
    for (const roomId of rooms) if (resume?.rooms?.[roomId]) this.#positions.restore(roomId, resume.rooms[roomId]);
    for (const roomId of rooms) this.#rooms.want(roomId);
    this.#ready.promise.catch(() => {}); // Who does not wait for connect() learns the end from `state`.
  }

  /** `idle`, `connecting`, `connected`, `reconnecting` or `closed`. */
  get state() { return this.#state; }

  /** The same on each reconnect: it names this client's place in the cluster. */
  get clientId() { return this.#options.clientId; }

  /** Id of the node of the current session, or null. */
  get nodeId() { return this.#current?.welcome.node_id ?? null; }

  /** Id of the current session, or null. */
  get sessionId() { return this.#current?.welcome.session_id ?? null; }

  /**
   * What the clock of the current node showed at a local time, now by default; null while disconnected. Exact to the way of
   * `welcome`, or to the difference between the ways there and back once a `ping` was answered.
   * @param {number} [localMs] milliseconds since 1970
   * @returns {number | null}
   */
  serverTime(localMs = this.#clock.now()) { return this.#current?.serverTime(localMs) ?? null; }

  /** The wanted rooms: `{room_id, state: "joining"|"joined"|"leaving", members, read_offset, position}`. */
  get rooms() { return this.#rooms.list(); }

  /**
   * Where the application stands in the logs: what it was handed so far. Given as the option `resume` to a later client, that one
   * goes on from here. Plain data, for instance for `sessionStorage`.
   */
  get positions() {
    const { [OWN_LOG]: own = null, ...rooms } = Object.fromEntries(this.#positions.entries());
    return { own, rooms };
  }

  /** The nodes as last heard: `{node_id, url, sessions, state}`. */
  get nodes() { return [...this.#directory.nodes]; }

  /**
   * Calls `listener` with every event of a type.
   * @throws {TypeError} for `gap`, which is an option and not an event
   * @returns {() => void} takes the listener away again
   */
  on(type, listener) {
    if (type === "gap") throw new TypeError("gap is no event: gaps are told to the option onGap");
    this.#events.on(type, listener);
    return () => this.off(type, listener);
  }

  off(type, listener) { this.#events.off(type, listener); }

  /**
   * Connects, and keeps trying where that makes sense. Resolves with the first `welcome`; rejects with `CLOSED` when the
   * client ends before it. A second call returns the same promise.
   */
  connect() {
    if (this.#state === "idle") {
      globalThis.addEventListener?.("pagehide", this.#onPageHide);
      this.#setState("connecting", { url: this.#options.url });
      this.#open();
    }
    return this.#ready.promise;
  }

  /**
   * Joins a room and stays in it over reconnects. Resolves with `joined`; rejects with a `RoomcastError` when it is refused
   * for good or not answered in time: the room is then not wanted any more. `RATE_LIMITED`, `UNAVAILABLE` and `INTERNAL` are
   * retried meanwhile. While disconnected the join waits for the next session.
   * @param {string} roomId
   * @param {{timeoutMs?: number}} [options]
   */
  join(roomId, { timeoutMs } = {}) {
    if (this.#state === "closed") return Promise.reject(closedError());
    return this.#rooms.join(roomId, timeoutMs);
  }

  /**
   * Leaves a room. Resolves with `left`, at once while disconnected; rejects with `NOT_JOINED` for a room one is not in.
   * @param {string} roomId
   * @param {{timeoutMs?: number}} [options]
   */
  leave(roomId, { timeoutMs } = {}) {
    if (this.#state === "closed") return Promise.reject(closedError());
    this.#current?.flush();
    const answer = this.#rooms.leave(roomId, timeoutMs);
    this.#releaseRetired();
    return answer;
  }

  /**
   * Publishes into a room whose card allows it. The protocol confirms nothing: a refusal comes as an `error` event with this id.
   * Throws for content that the form of the frames cannot say.
   * @param {string} roomId
   * @param {{type: string, data?: string, data_base64?: string, timestamp?: number}} content
   * @returns {number} the frame id
   */
  publish(roomId, content) {
    const id = this.#nextId();
    if (this.#current?.send({ type: "publish", id, room_id: roomId, content })) return id;
    throw new RoomcastError("NOT_CONNECTED", "publish needs a connected session", { id, room_id: roomId });
  }

  /** Measures one round trip. @returns {Promise<number>} milliseconds */
  async ping({ timeoutMs = this.#options.requestTimeoutMs } = {}) {
    const id = this.#nextId();
    const connection = this.#current;
    const sentAt = this.#clock.now();
    if (!connection?.send({ type: "ping", id })) throw new RoomcastError("NOT_CONNECTED", "ping needs a connected session");
    await this.#requests.open(id, timeoutMs, "ping");
    const took = this.#clock.now() - sentAt;
    connection.measured(took);
    return took;
  }

  /** Ends the waiting time before the next attempt, for instance because the network came back. */
  reconnect() {
    if (this.#timers.has("retry") && this.#state !== "connected") this.#open();
  }

  /** Sends what is left to acknowledge, closes with 1000 and never connects again. Does not wait for handlers. */
  close() {
    if (this.#state === "closed") return;
    this.#finish(CLOSE_NORMAL, "closed by the application");
  }

  #nextId() { return (this.#lastId += 1); }

  #setState(state, detail = {}) {
    const previous = this.#state;
    this.#state = state;
    this.#events.emit("state", { state, previous, ...detail });
  }

  /** One timer per purpose: `retry`, `stable`, `overlap`, `linger`, `nodes`. */
  #after(purpose, ms, callback) {
    this.#cancel(purpose);
    this.#timers.set(purpose, this.#clock.setTimeout(() => {
      this.#timers.delete(purpose);
      callback();
    }, ms));
  }

  #cancel(purpose) {
    this.#clock.clearTimeout(this.#timers.get(purpose));
    this.#timers.delete(purpose);
  }

  #open() {
    this.#cancel("retry");
    const url = this.#directory.choose();
    const since = this.#positions.get(OWN_LOG);
    if (this.#current) this.#isMoving = true;
    if (this.#state === "reconnecting") this.#setState("reconnecting", { url, attempt: this.#attempt });
    this.#opening = new Connection({
      url, since, address: () => this.#address(url, since), form: this.#options.form, WebSocket: this.#options.WebSocket, clock: this.#clock,
      nextId: () => this.#nextId(),
      hooks: {
        onFrame: (connection, frame) => this.#onFrame(connection, frame),
        onClose: (connection, code, reason) => this.#onClose(connection, code, reason),
        onRaw: (direction, data, frame, connection) => this.#onRaw(direction, data, frame, connection),
        onAcknowledged: (message_ids) => this.#events.emit("acknowledged", { message_ids, at_ms: this.#clock.now() }),
      },
    });
  }

  /** `URLSearchParams` would write a space as `+`; the protocol wants percent-encoding. */
  #address(url, since) {
    const { userId, userName, clientId, token } = this.#options;
    const query = Object.entries({
      user_id: userId,
      user_name: userName,
      client_id: clientId,
      since: since && `${since.epoch}:${since.offset}`,
      token: typeof token === "function" ? token() : token,
    }).filter(([, value]) => value !== undefined && value !== null);
    const text = query.map(([name, value]) => `${name}=${encodeURIComponent(value)}`).join("&");
    return url + (url.includes("?") ? "&" : "?") + text;
  }

  #onRaw(direction, data, frame, { url }) {
    if (!this.#events.has("frame")) return;
    const text = typeof data === "string" ? data : JSON.stringify(frame);
    this.#events.emit("frame", { direction, text, url, at_ms: this.#clock.now() });
  }

  #onFrame(connection, frame) {
    if (frame.type === "push") return this.#onPush(connection, frame);
    if (frame.type === "gap") return this.#onGap(connection, frame);
    if (frame.type === "error") return this.#onError(connection, frame);
    if (frame.type === "welcome" && connection === this.#opening) return this.#onWelcome(connection, frame);
    if (connection !== this.#current) return; // The session left behind still brings pushes, and nothing else.
    if (frame.type === "joined") this.#rooms.onJoined(connection, frame);
    if (frame.type === "left") this.#rooms.onLeft(frame);
    if (frame.type === "pong") this.#requests.settle(frame.id, frame);
    if (frame.type === "notice") this.#onNotice(connection, frame);
    this.#releaseRetired();
  }

  #onWelcome(connection, frame) {
    this.#opening = null;
    this.#isMoving = false;
    const isMove = this.#current !== null;
    if (isMove) {
      this.#retire(this.#current);
      this.#rooms.sessionEnded();
    }
    this.#current = connection;
    this.#directory.identify(connection.url, frame.node_id);
    this.#after("stable", STABLE_AFTER_MS, () => this.#onStable());
    const start = { retiring: this.#retiring, since: connection.since, frame };
    const { continuity, hole } = this.#positions.begin(OWN_LOG, connection, start);
    const position = this.#positions.get(OWN_LOG) ?? null;
    const welcome = { ...frame, url: connection.url, is_move: isMove, continuity, position };
    this.#setState("connected", { url: connection.url, node_id: frame.node_id });
    this.#events.emit("welcome", welcome);
    if (hole) this.#tellGap(null, causeOf(continuity), hole);
    if (this.#current !== connection) return; // A listener closed the client.
    if (this.#options.reportReceived) this.#beginReports(connection);
    this.#rooms.rejoin();
    this.#releaseRetired();
    this.#refreshNodes(connection.url);
    this.#ready.resolve(welcome);
  }

  /** A node remembers what it sent from the first `received` frame on. The ping sharpens the estimate of its clock. */
  #beginReports(connection) {
    connection.send({ type: "received", items: [] });
    this.ping().catch(() => {});
  }

  #onStable() {
    this.#attempt = 0;
    this.#directory.forgive();
  }

  /** A repeat is acknowledged, too: the first acknowledgement may be lost, and this session may be another. */
  #onPush(connection, frame) {
    const { ack, reportReceived } = this.#options;
    const id = frame.message_id;
    const verdict = this.#positions.accept(frame, connection);
    if (verdict === "behind" || verdict === "foreign") return; // The application never gets it: no acknowledgement.
    const wantsAck = frame.ack === true && typeof id === "string";
    if (wantsAck && ack === "receipt") connection.acknowledge(id);
    if (verdict === "new") {
      const now = this.#clock.now();
      const age = frame.timestamp_ms > 0 ? connection.serverTime(now) - frame.timestamp_ms : NaN;
      if (reportReceived && frame.traceparent && connection.welcome) connection.report(id, now);
      const results = this.#events.emit("push", new Push(frame, now, Number.isFinite(age) ? Math.max(0, Math.round(age)) : null));
      if (wantsAck && ack === "handler") this.#handled.note(id, results);
    }
    if (wantsAck && ack === "handler") this.#handled.whenTaken(id, () => connection.acknowledge(id));
  }

  #onGap(connection, frame) {
    const hole = this.#positions.gap(frame.room_id ?? OWN_LOG, connection, frame);
    if (hole) this.#tellGap(frame.room_id ?? null, "GAP", hole);
  }

  #tellGap(room, cause, { from, to }) {
    try {
      this.#options.onGap?.({ room, cause, from: from ?? null, to: to ?? null });
    } catch (error) {
      reportFailure("gap", error);
    }
  }

  #onError(connection, frame) {
    const error = new RoomcastError(frame.code, frame.message, frame);
    if (connection === this.#current) {
      this.#rooms.onError(connection, error);
      this.#requests.fail(frame.id, error);
    }
    this.#events.emit("error", error);
    this.#releaseRetired();
  }

  /** DRAINING: a second session is opened beside this one, which goes when all rooms are on the new one. */
  #onNotice(connection, frame) {
    this.#events.emit("notice", frame);
    if (frame.reason !== "DRAINING" || this.#opening || this.#state === "closed") return;
    this.#cancel("stable"); // It would forgive the node that is going.
    this.#directory.fail(connection.url);
    this.#refreshNodes(connection.url);
    this.#retryIn(frame.reconnect_after_ms ?? this.#directory.jitter(0));
  }

  #retire(connection) {
    this.#release();
    this.#retiring = connection;
    this.#after("overlap", OVERLAP_MAX_MS, () => this.#release());
  }

  #releaseRetired() {
    if (!this.#retiring || this.#timers.has("linger") || !this.#rooms.isSettledOn(this.#current)) return;
    this.#after("linger", LINGER_MS, () => this.#release());
  }

  #release() {
    this.#cancel("overlap");
    this.#cancel("linger");
    this.#retiring?.close(CLOSE_NORMAL, "moved");
    this.#retiring = null;
  }

  #onClose(connection, code, reason) {
    if (connection === this.#retiring) return this.#release();
    const wasOpening = connection === this.#opening;
    // A move claims the place of the old session, which may be told so before the new one is welcomed, and also when the new
    // one never is.
    const isOwnTakeover = code === CLOSE_TAKEN_OVER && this.#isMoving;
    if (wasOpening) this.#opening = null;
    else this.#dropCurrent();
    // Whatever another node says, the session that is there goes on.
    const goesOn = this.#current !== null || isReconnectable(code) || (isOwnTakeover && !wasOpening);
    if (!goesOn) return this.#finish(code, reason);
    if (wasOpening || code !== CLOSE_TOO_SLOW) this.#directory.fail(connection.url);
    this.#continue({ code, reason });
  }

  #dropCurrent() {
    this.#current = null;
    this.#isMoving = false;
    this.#cancel("stable");
    this.#cancel("nodes");
    this.#release();
    this.#rooms.sessionEnded();
  }

  /** After a loss: an attempt in the air goes on, a promised time stands, else the next attempt waits its jitter. */
  #continue(cause) {
    if (this.#opening) return this.#setState("reconnecting", { ...cause, url: this.#opening.url, attempt: this.#attempt });
    if (!this.#timers.has("retry")) {
      this.#retryIn(this.#directory.jitter(this.#attempt));
      this.#attempt += 1;
    }
    if (this.#current) return;
    this.#refreshNodes();
    const delay_ms = Math.max(0, this.#retryAt - this.#clock.now());
    this.#setState("reconnecting", { ...cause, attempt: this.#attempt, delay_ms });
  }

  #retryIn(delayMs) {
    this.#retryAt = this.#clock.now() + delayMs;
    this.#after("retry", delayMs, () => this.#open());
  }

  #refreshNodes(url) {
    if (this.#current) this.#after("nodes", NODES_REFRESH_MS, () => this.#refreshNodes(this.#current.url));
    this.#directory.refresh(url).then((isAnswered) => {
      if (isAnswered && this.#state !== "closed") this.#events.emit("nodes", this.nodes);
    });
  }

  #finish(code, reason) {
    globalThis.removeEventListener?.("pagehide", this.#onPageHide);
    for (const purpose of [...this.#timers.keys()]) this.#cancel(purpose);
    for (const connection of [this.#opening, this.#current, this.#retiring]) connection?.close(CLOSE_NORMAL);
    this.#opening = this.#current = this.#retiring = null;
    const error = closedError(code, reason);
    this.#requests.failAll(error);
    this.#rooms.close(error);
    this.#ready.reject(error);
    this.#setState("closed", { code, reason });
  }
}

function causeOf(continuity) { return continuity === "unknown" ? "NO_LOG" : "NOT_RECOVERED"; }

function closedError(code, reason) {
  return new RoomcastError("CLOSED", code ? `closed with ${code}${reason ? `: ${reason}` : ""}` : "the client is closed");
}

function checkOptions(options) {
  const { userId, token, clientId = randomClientId(), ack = "receipt", protocol = "json", onGap } = options;
  if (typeof onGap !== "function" && onGap !== null) {
    throw new TypeError("onGap is required: a function that is told where messages may be missing, or null to do without");
  }
  const url = String(options.url).split("#")[0];
  const refuse = (message) => {
    throw new RoomcastError("BAD_OPTION", message);
  };
  if (!isWebSocketUrl(url)) refuse(`url must be a ws: or wss: address, not "${options.url}"`);
  if (!userId && !token) refuse("userId is required without a token");
  if (!/^[A-Za-z0-9._-]{1,64}$/.test(clientId)) refuse("clientId must be 1-64 characters of A-Za-z0-9._-");
  if (ack !== "receipt" && ack !== "handler") refuse(`ack must be "receipt" or "handler", not "${ack}"`);
  if (protocol !== "json" && protocol !== "proto") refuse(`protocol must be "json" or "proto", not "${protocol}"`);
  const WebSocket = options.WebSocket ?? globalThis.WebSocket;
  if (!WebSocket) refuse("this runtime has no WebSocket: pass one as the option WebSocket");
  const fetch = options.discover === false ? undefined : options.fetch ?? globalThis.fetch?.bind(globalThis);
  return {
    url, userId, userName: options.userName, token, clientId, ack, form: FORMS[protocol], WebSocket, fetch,
    reportReceived: options.reportReceived === true,
    rooms: options.rooms ?? [],
    resume: options.resume,
    onGap,
    requestTimeoutMs: options.requestTimeoutMs ?? REQUEST_TIMEOUT_MS,
    clock: options.clock ?? systemClock,
    random: options.random ?? Math.random,
  };
}
