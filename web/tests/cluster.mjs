/**
 * A cluster that exists in memory only: sockets, node lists and time that a test moves by hand.
 */

import { webcrypto } from "node:crypto";
import { test } from "node:test";
import { RoomcastClient } from "../roomcast.js";
import { decodeFrame, encodeFrame, ulid, ulidBytes } from "./protobuf.mjs";

globalThis.crypto ??= webcrypto; // node 18 has none of its own

/** The values of the option `protocol`. */
export const PROTOCOLS = ["json", "proto"];
const ALL_EVENTS = ["state", "welcome", "joined", "left", "push", "notice", "error", "acknowledged", "nodes"];

/** A test in each protocol: of a cluster whose clients speak it. */
export function scenario(name, run) {
  for (const protocol of PROTOCOLS) test(`${name}_in_${protocol}`, (context) => run(new Cluster(protocol), context));
}

/** Lets every promise that can settle now settle. */
export async function settle() {
  for (let turn = 0; turn < 20; turn += 1) await Promise.resolve();
}

export class FakeClock {
  #now = 1_700_000_000_000;
  #timers = new Map();
  #lastId = 0;

  now() {
    return this.#now;
  }

  setTimeout(callback, ms) {
    this.#lastId += 1;
    this.#timers.set(this.#lastId, { callback, at: this.#now + ms });
    return this.#lastId;
  }

  clearTimeout(id) {
    this.#timers.delete(id);
  }

  get pending() {
    return this.#timers.size;
  }

  /** Runs every timer that is due within the next `ms` milliseconds, in order. */
  async advance(ms) {
    const end = this.#now + ms;
    await settle();
    for (;;) {
      const due = [...this.#timers].filter(([, timer]) => timer.at <= end).sort(([, a], [, b]) => a.at - b.at)[0];
      if (!due) break;
      const [id, { callback, at }] = due;
      this.#timers.delete(id);
      this.#now = Math.max(this.#now, at);
      callback();
      await settle();
    }
    this.#now = end;
  }
}

/** The server's end of one socket, and the socket that the client sees. It speaks as the client asked. */
export class FakeSocket {
  readyState = 0;
  /** What the client sent: as it came, and read. */
  raw = [];
  sent = [];
  closedWith = null;

  constructor(address, subprotocol) {
    this.subprotocol = subprotocol;
    this.address = new URL(address);
    this.rawAddress = address;
    [this.base] = address.split("?");
  }

  send(data) {
    this.raw.push(data);
    this.sent.push(this.subprotocol === "pubsub.proto.v1" ? decodeFrame(data) : JSON.parse(data));
  }

  close(code, reason) {
    this.closedWith ??= { code, reason };
    this.readyState = 3;
  }

  /** The server speaks. */
  receive(frame) {
    this.bring(this.subprotocol === "pubsub.proto.v1" ? encodeFrame(frame) : JSON.stringify(frame));
  }

  /** A message comes as it is. */
  bring(data) {
    this.onmessage?.({ data });
  }

  /** The server, or the network, ends the socket. */
  drop(code = 1006, reason = "") {
    this.readyState = 3;
    this.onclose?.({ code, reason });
  }

  frames(type) {
    return this.sent.filter((frame) => frame.type === type);
  }

  last(type) {
    return this.frames(type).at(-1);
  }
}

export class Cluster {
  clock = new FakeClock();
  sockets = [];
  fetched = [];
  events = [];
  /** What `/nodes` answers, by origin; an origin that is absent refuses connections. */
  nodeLists = new Map();

  /** Its clients speak this protocol unless they choose for themselves. */
  constructor(protocol = "json") {
    this.protocol = protocol;
  }

  /** A client of this cluster whose events and gaps are recorded. `random` is 0.5 unless given: every jitter is half its ceiling. */
  client({ recorded = ALL_EVENTS, ...options } = {}) {
    const cluster = this;
    class Socket extends FakeSocket {
      constructor(...parameters) {
        super(...parameters);
        cluster.sockets.push(this);
      }
    }
    const client = new RoomcastClient({
      url: "ws://n1:8080/ws",
      userId: "user-001",
      protocol: this.protocol,
      WebSocket: Socket,
      fetch: (url) => cluster.#fetch(url),
      clock: this.clock,
      random: () => 0.5,
      onGap: (gap) => this.events.push(["gap", gap]),
      ...options,
    });
    for (const type of recorded) client.on(type, (event) => this.events.push([type, event]));
    return client;
  }

  get socket() {
    return this.sockets.at(-1);
  }

  of(type) {
    return this.events.filter(([name]) => name === type).map(([, event]) => event);
  }

  /** Serves one list of nodes from each of them. */
  serveNodes(nodes, retry) {
    this.nodeLists.clear();
    for (const { url } of nodes) this.nodeLists.set(url.replace("ws:", "http:").replace("/ws", ""), { nodes, retry });
  }

  async welcome(socket = this.socket, fields = {}) {
    socket.readyState = 1;
    socket.receive({
      type: "welcome", protocol: 1, session_id: `s-${this.sockets.length}`, node_id: socket.address.hostname,
      user_id: "user-001", client_id: "c", ping_interval_ms: 25_000, server_time_ms: 1, ...fields,
    });
    await settle();
  }

  /** Answers every join of this socket that is still without an answer. */
  async answerJoins(socket = this.socket, fields = {}) {
    for (const { id, room_id } of socket.frames("join")) {
      if (socket.answered?.has(id)) continue;
      (socket.answered ??= new Set()).add(id);
      socket.receive({ type: "joined", id, room_id, members: 1, ...fields });
    }
    await settle();
  }

  /** A connected client in `rooms`. */
  async connected(options = {}, joined = {}) {
    const client = this.client(options);
    client.connect();
    await this.welcome();
    await this.answerJoins(this.socket, joined);
    return client;
  }

  async #fetch(url) {
    this.fetched.push(url);
    const list = this.nodeLists.get(new URL(url).origin);
    if (!list) throw new TypeError("connection refused");
    return { ok: true, json: async () => structuredClone(list) };
  }
}

/** The message id that stands for a name of up to 16 characters in tests. */
export function idOf(name) { return ulid(BigInt(`0x${Buffer.from(name).toString("hex")}`)); }

/** The name that a message id stands for. */
export function nameOf(id) { return ulidBytes(id).toString().replaceAll("\0", ""); }

/** An epoch of so many hexadecimal digits. */
export function epoch(digits) { return digits.padStart(16, "0"); }

export function push(name, fields = {}) {
  return {
    type: "push", target: "room", message_id: idOf(name), room_id: "room-001", timestamp_ms: 1,
    content: { type: "TEXT", data: `text of ${name}`, timestamp: 1 }, ...fields,
  };
}

export function node(name, fields = {}) {
  return { node_id: name, url: `ws://${name}:8080/ws`, sessions: 0, state: "ready", ...fields };
}
