/**
 * Whatever happens to logs, nodes and sessions: the application gets no message twice, none out of order, and no hole that it is
 * not told of, where it is. Random runs of the whole client; a failing run prints its seed, and `MODEL_SEED=n` repeats it alone.
 */

import assert from "node:assert/strict";
import { test } from "node:test";
import { Cluster, PROTOCOLS, epoch, nameOf, node, push } from "./cluster.mjs";

const RUNS = 500;
const STEPS = 60;
/** What the log keeps. */
const KEPT = 6;
const ROOM = "room-001";

/** Numbers that a seed decides (mulberry32). */
function numbers(seed) {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}

/** One log of a room, and the nodes behind the client's sockets, each of which lags, misses messages and answers late. */
class World {
  /** `{epoch, offset, id, isForUs}`, `{id}` for what no log keeps, `{epoch}` for a log that began anew. */
  items = [];
  epoch = 1;
  offset = 0;
  ids = 0;
  isAway = false;

  constructor(protocol) { this.cluster = new Cluster(protocol); }

  async start() {
    this.cluster.serveNodes([node("n1"), node("n2"), node("n3")]);
    this.client = this.cluster.client({ rooms: [ROOM], random: () => 0 });
    this.client.connect();
    await this.welcomeAll();
  }

  /** Sockets that the client holds open, the newest last. */
  get open() { return this.cluster.sockets.filter((socket) => !socket.closedWith && socket.readyState < 2); }

  /** A new socket is a session on a node that has everything until now. */
  async welcomeAll() {
    for (const socket of this.open) {
      if (socket.readyState !== 0) continue;
      Object.assign(socket, { arrived: this.items.length, coming: [], answeredJoins: 0, isJoined: false, hasGap: false });
      await this.cluster.welcome(socket, { epoch: epoch("a"), offset: 1, recovered: socket.address.searchParams.has("since") || undefined });
    }
  }

  publish(isForUs = true) {
    if (this.isAway) return;
    this.offset += 1;
    this.ids += 1;
    this.items.push({ epoch: epoch(`${this.epoch}`), offset: this.offset, id: `m${this.ids}`, isForUs });
  }

  publishPlain() {
    this.ids += 1;
    this.items.push({ id: `m${this.ids}` });
  }

  renew() {
    // Epochs have no order that a client could know: between two sessions it needs positions to start from.
    const isPlaced = this.client.positions.rooms[ROOM] && this.open.every((socket) => !socket.hasGap);
    if (this.open.length > 1 && !isPlaced) return;
    this.epoch += 1;
    this.offset = 0;
    this.items.push({ epoch: epoch(`${this.epoch}`) });
  }

  /** A node gets the next items; it misses those of the log, and knows it, when told so. */
  arrive(socket, count, isMissed) {
    for (const item of this.items.slice(socket.arrived, socket.arrived + count)) {
      socket.arrived += 1;
      if (socket.isJoined) this.passOn(socket, item, isMissed);
    }
  }

  passOn(socket, item, isMissed) {
    const gap = (offset) => ({ type: "gap", room_id: ROOM, epoch: item.epoch, offset });
    if (item.epoch === undefined) socket.coming.push(push(item.id));
    else if (item.id === undefined) socket.coming.push(gap(0));
    else if (!isMissed && socket.hasGap) socket.coming.push(gap(item.offset - 1));
    if (item.epoch !== undefined) socket.hasGap = item.id !== undefined && isMissed;
    if (item.offset !== undefined && item.isForUs && !isMissed) socket.coming.push(this.frameOf(item));
  }

  frameOf({ id, epoch, offset }) { return push(id, { epoch, offset }); }

  /** A node answers a join from the log, whose epoch it learns with that. */
  answer(socket) {
    const join = socket.frames("join")[socket.answeredJoins];
    if (!join) return;
    socket.answeredJoins += 1;
    const renewed = this.items.findLastIndex((item) => item.epoch !== undefined && item.id === undefined);
    if (renewed >= socket.arrived) this.arrive(socket, renewed + 1 - socket.arrived, false);
    socket.isJoined = true;
    const frame = { type: "joined", id: join.id, room_id: ROOM, members: 1, before: socket.arrived };
    const { since } = join;
    if (this.isAway) {
      if (since) frame.recovered = false;
      socket.hasGap = true;
      return socket.coming.push(frame);
    }
    const own = this.items.slice(0, socket.arrived).findLast((item) => item.epoch !== undefined);
    const at = { epoch: own?.epoch ?? epoch(`${this.epoch}`), offset: own?.offset ?? 0 };
    const log = this.items.slice(renewed + 1).filter((item) => item.offset !== undefined);
    const isRecovered = since && since.epoch === at.epoch && since.offset + 1 > log.length - KEPT;
    if (since) frame.recovered = Boolean(isRecovered);
    socket.coming.push({ ...frame, ...(isRecovered ? since : at) });
    if (!isRecovered) return;
    const missed = log.filter((item) => item.isForUs && item.offset > since.offset && item.offset <= at.offset);
    socket.coming.push(...missed.map((item) => this.frameOf(item)));
  }

  read(socket, count) {
    for (const { before, ...frame } of socket.coming.splice(0, count)) {
      socket.receive(frame);
      if (before !== undefined && this.since === undefined && this.cluster.of("joined").length > 0) this.since = before;
    }
  }

  async step(draw) {
    const sockets = this.open;
    const socket = draw(5) < 3 ? sockets.at(-1) : sockets[0];
    const kind = draw(46);
    if (kind < 8) this.publish();
    else if (kind < 9) this.publish(false);
    else if (kind < 10) this.publishPlain();
    else if (kind < 11) this.renew();
    else if (kind < 12) this.isAway = draw(2) === 0;
    else if (!socket) await this.cluster.clock.advance(1);
    else if (kind < 21) this.arrive(socket, 1 + draw(4), draw(10) === 0);
    else if (kind < 28) this.answer(socket);
    else if (kind < 38) this.read(socket, 1 + draw(7));
    else if (kind < 39) this.client.join(ROOM).catch(() => {});
    else if (kind < 40) await this.cluster.clock.advance(10_000);
    else if (kind < 42) socket.drop(draw(2) === 0 ? 1006 : 4001);
    else if (kind < 44) socket.receive({ type: "notice", reason: "DRAINING", reconnect_after_ms: 0 });
    else await this.cluster.clock.advance(600);
    await this.cluster.clock.advance(1);
    await this.welcomeAll();
  }

  /** Everything arrives, and one message more, so that a hole at the end shows. */
  async settle() {
    this.isAway = false;
    await this.cluster.clock.advance(1);
    await this.welcomeAll();
    for (let round = 0; round < 2; round += 1) {
      this.publish();
      for (const socket of this.open) {
        for (let join = 0; join < 10; join += 1) this.answer(socket);
        this.arrive(socket, this.items.length, false);
        this.read(socket, Infinity);
      }
    }
  }

  check() {
    const told = this.cluster.events.filter(([type, event]) => type === "push" || (type === "gap" && event.room === ROOM));
    const ids = told.filter(([type]) => type === "push").map(([, event]) => nameOf(event.message_id));
    assert.equal(new Set(ids).size, ids.length, `twice: ${ids}`);
    const indexOf = new Map(this.items.map((item, index) => [item.id, index]));
    const order = told.flatMap(([type, event], place) => type === "push" && event.offset !== undefined ? [{ index: indexOf.get(nameOf(event.message_id)), place }] : []);
    for (let n = 1; n < order.length; n += 1) assert.ok(order[n - 1].index < order[n].index, `out of order: ${ids}`);
    const shown = new Set(ids);
    this.items.forEach(({ id, offset, isForUs }, index) => {
      if (index < this.since || offset === undefined || !isForUs || shown.has(id)) return;
      const begin = order.findLast((one) => one.index < index)?.place ?? 0;
      const end = order.find((one) => one.index > index)?.place ?? told.length;
      assert.ok(told.slice(begin, end).some(([type]) => type === "gap"), `${id} is missing without a word among ${ids}`);
    });
    assert.ok(shown.size > 0);
  }
}

for (const protocol of PROTOCOLS) {
  test(`nothing_is_shown_twice_or_out_of_order_and_every_hole_is_told_where_it_is_in_${protocol}`, async () => {
    const only = Number(process.env.MODEL_SEED ?? 0);
    const first = only || (Date.now() % 1_000_000) * 1_000;
    for (let seed = first; seed < first + (only ? 1 : RUNS); seed += 1) {
      const draw = numbers(seed);
      const world = new World(protocol);
      try {
        await world.start();
        for (let step = 0; step < STEPS; step += 1) await world.step(draw);
        await world.settle();
        world.check();
      } catch (error) {
        error.message = `MODEL_SEED=${seed}: ${error.message}`;
        throw error;
      }
    }
  });
}
