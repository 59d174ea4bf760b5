/** What a client says about the pushes it got: acknowledgements, and reports of when they came. */

import assert from "node:assert/strict";
import { idOf, nameOf, node, push, scenario, settle } from "./cluster.mjs";

const TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/** The messages of each `ack` frame that a socket sent. */
const acks = (socket) => socket.frames("ack").map((frame) => frame.message_ids.map(nameOf));
const wanted = (name, fields = {}) => push(name, { ack: true, ...fields });

/** A client that acknowledges by handler, in one room, with this listener of pushes. */
async function handling(cluster, listener, options = {}) {
  const client = await cluster.connected({ rooms: ["room-001"], ack: "handler", recorded: ["acknowledged"], ...options });
  client.on("push", listener);
  return client;
}

scenario("acknowledgements_leave_in_batches", async (cluster) => {
  await cluster.connected({ rooms: ["room-001"] });
  for (let n = 0; n < 300; n += 1) cluster.socket.receive(wanted(`m${n}`));
  cluster.socket.receive(push("unwanted"));
  assert.deepEqual(acks(cluster.socket).map((ids) => ids.length), [256]);
  await cluster.clock.advance(1000);
  assert.deepEqual(acks(cluster.socket).map((ids) => ids.length), [256, 44]);
  assert.equal(acks(cluster.socket)[1].at(-1), "m299");
  assert.deepEqual(cluster.of("acknowledged").map((event) => event.message_ids.map(nameOf)), acks(cluster.socket));
});

scenario("no_flood_of_messages_makes_more_frames_than_a_session_may_send", async (cluster) => {
  await cluster.connected({ rooms: ["room-001"], reportReceived: true });
  const before = cluster.socket.sent.length;
  const seconds = 5;
  for (let ms = 0; ms < seconds * 1000; ms += 10) {
    for (let n = 0; n < 90; n += 1) cluster.socket.receive(wanted(`m${ms}-${n}`, { traceparent: TRACEPARENT }));
    await cluster.clock.advance(10);
  }
  await cluster.clock.advance(1000);
  assert.ok(cluster.socket.sent.length - before <= 50 * seconds, `${cluster.socket.sent.length - before} frames`);
  assert.equal(acks(cluster.socket).flat().length, 45_000);
  assert.ok(acks(cluster.socket).every((ids) => ids.length <= 256));
  assert.ok(cluster.socket.frames("received").every((frame) => frame.items.length <= 64));
});

scenario("a_repeat_is_acknowledged_again", async (cluster) => {
  await cluster.connected({ rooms: ["room-001"] });
  for (const _ of [1, 2]) {
    cluster.socket.receive(wanted("m1"));
    await cluster.clock.advance(1000);
  }
  assert.deepEqual(acks(cluster.socket), [["m1"], ["m1"]]);
  assert.equal(cluster.of("push").length, 1);
});

scenario("what_a_lost_session_was_sent_is_not_acknowledged_on_the_next", async (cluster) => {
  await cluster.connected({ rooms: ["room-001"], reportReceived: true });
  cluster.socket.receive(wanted("m1", { traceparent: TRACEPARENT }));
  cluster.socket.drop();
  await cluster.clock.advance(500);
  await cluster.welcome();
  await cluster.answerJoins();
  await cluster.clock.advance(1000);
  assert.deepEqual([acks(cluster.socket), cluster.socket.frames("received")], [[], [{ type: "received", items: [] }]]);
  cluster.socket.receive(wanted("m1"));
  await cluster.clock.advance(1000);
  assert.deepEqual(acks(cluster.socket), [["m1"]]);
});

scenario("each_session_of_a_move_gets_the_acknowledgements_of_what_it_sent", async (cluster) => {
  cluster.serveNodes([node("n1"), node("n2")]);
  await cluster.connected({ rooms: ["room-001"] });
  const old = cluster.socket;
  old.receive({ type: "notice", reason: "DRAINING", reconnect_after_ms: 0 });
  await cluster.clock.advance(1);
  const next = cluster.socket;
  await cluster.welcome(next);
  old.receive(wanted("m1"));
  await cluster.answerJoins(next);
  next.receive(wanted("m2"));
  await cluster.clock.advance(1000);
  assert.equal(old.closedWith.code, 1000);
  assert.deepEqual([acks(old), acks(next)], [[["m1"]], [["m2"]]]);
});

scenario("leaving_a_room_first_acknowledges_what_came", async (cluster) => {
  const client = await cluster.connected({ rooms: ["room-001"] });
  cluster.socket.receive(wanted("m1"));
  client.leave("room-001").catch(() => {});
  assert.deepEqual(cluster.socket.sent.slice(-2).map((frame) => frame.type), ["ack", "leave"]);
  client.close();
});

scenario("a_page_that_goes_away_first_acknowledges_what_came", async (cluster, context) => {
  const page = new EventTarget();
  for (const method of ["addEventListener", "removeEventListener"]) {
    globalThis[method] = page[method].bind(page);
    context.after(() => delete globalThis[method]);
  }
  const client = await cluster.connected({ rooms: ["room-001"] });
  cluster.socket.receive(wanted("m1"));
  page.dispatchEvent(new Event("pagehide"));
  assert.deepEqual(acks(cluster.socket), [["m1"]]);
  client.close();
  page.dispatchEvent(new Event("pagehide"));
  assert.equal(cluster.socket.closedWith.code, 1000);
});

scenario("by_handler_a_message_is_acknowledged_when_the_listener_returned", async (cluster) => {
  const handled = [];
  await handling(cluster, (event) => {
    assert.deepEqual(acks(cluster.socket), []);
    handled.push(nameOf(event.message_id));
  });
  cluster.socket.receive(wanted("m1"));
  await cluster.clock.advance(1000);
  assert.deepEqual([handled, acks(cluster.socket)], [["m1"], [["m1"]]]);
});

scenario("by_handler_a_message_is_acknowledged_when_the_promise_came_true", async (cluster) => {
  const open = new Map();
  await handling(cluster, (event) => new Promise((resolve) => open.set(nameOf(event.message_id), resolve)));
  cluster.socket.receive(wanted("m1"));
  cluster.socket.receive(wanted("m2"));
  cluster.socket.receive(wanted("m1"));
  await cluster.clock.advance(1000);
  assert.deepEqual(acks(cluster.socket), []);
  open.get("m2")();
  await cluster.clock.advance(1000);
  assert.deepEqual(acks(cluster.socket), [["m2"]]);
  open.get("m1")();
  await cluster.clock.advance(1000);
  assert.deepEqual(acks(cluster.socket), [["m2"], ["m1"]]);
});

scenario("a_handler_that_fails_acknowledges_nothing_not_even_a_repeat", async (cluster, context) => {
  const failures = context.mock.method(console, "error", () => {});
  await handling(cluster, ({ message_id }) => {
    if (nameOf(message_id) === "throws") throw new Error("mine");
    return nameOf(message_id) === "rejects" ? Promise.reject(new Error("mine")) : undefined;
  });
  for (const id of ["throws", "rejects", "works", "throws", "rejects"]) cluster.socket.receive(wanted(id));
  await cluster.clock.advance(1000);
  assert.deepEqual(acks(cluster.socket), [["works"]]);
  assert.equal(failures.mock.callCount(), 2);
});

scenario("by_handler_nothing_is_acknowledged_that_nobody_listens_to", async (cluster) => {
  await cluster.connected({ rooms: ["room-001"], ack: "handler", recorded: ["error"] });
  cluster.socket.receive(wanted("m1"));
  await cluster.clock.advance(1000);
  assert.deepEqual(acks(cluster.socket), []);
});

scenario("a_handler_that_ends_after_its_session_acknowledges_on_the_next_only_a_repeat", async (cluster) => {
  let done;
  await handling(cluster, () => new Promise((resolve) => { done = resolve; }));
  cluster.socket.receive(wanted("m1"));
  const lost = cluster.socket;
  lost.drop();
  await cluster.clock.advance(500);
  await cluster.welcome();
  await cluster.answerJoins();
  done();
  await cluster.clock.advance(1000);
  assert.deepEqual([acks(lost), acks(cluster.socket)], [[], []]);
  cluster.socket.receive(wanted("m1"));
  await cluster.clock.advance(1000);
  assert.deepEqual(acks(cluster.socket), [["m1"]]);
});

scenario("sampled_messages_are_reported_with_their_arrival_on_the_nodes_clock", async (cluster) => {
  const client = cluster.client({ reportReceived: true });
  client.connect();
  const local = cluster.clock.now();
  await cluster.welcome(cluster.socket, { server_time_ms: local + 5_000 });
  assert.deepEqual(cluster.socket.sent[0], { type: "received", items: [] });
  await cluster.clock.advance(20);
  cluster.socket.receive({ type: "pong", id: cluster.socket.last("ping").id });
  await settle();
  cluster.socket.receive(push("m1", { target: "all", traceparent: TRACEPARENT }));
  cluster.socket.receive(push("m1", { target: "all", traceparent: TRACEPARENT }));
  cluster.socket.receive(push("unsampled", { target: "all" }));
  await cluster.clock.advance(1000);
  const items = cluster.socket.frames("received").flatMap((frame) => frame.items);
  assert.deepEqual(items, [{ message_id: idOf("m1"), at_ms: local + 20 + 5_000 + 10 }]);
});

scenario("nothing_is_reported_unless_asked_for", async (cluster) => {
  await cluster.connected({ rooms: ["room-001"] });
  cluster.socket.receive(push("m1", { traceparent: TRACEPARENT }));
  await cluster.clock.advance(1000);
  assert.deepEqual(cluster.socket.sent.map((frame) => frame.type), ["join"]);
});

scenario("a_push_knows_its_age_and_its_trace", async (cluster) => {
  const client = cluster.client();
  client.connect();
  assert.equal(client.serverTime(), null);
  const ahead = 60_000;
  await cluster.welcome(cluster.socket, { server_time_ms: cluster.clock.now() + ahead });
  cluster.socket.receive(push("m1", { target: "all", timestamp_ms: cluster.clock.now() + ahead - 42, traceparent: TRACEPARENT }));
  cluster.socket.receive(push("m2", { target: "all", timestamp_ms: cluster.clock.now() + ahead + 1_000 }));
  const [first, ahead_of_us] = cluster.of("push");
  assert.deepEqual([first.age_ms, first.traceId], [42, "0af7651916cd43dd8448eb211c80319c"]);
  assert.deepEqual([ahead_of_us.age_ms, ahead_of_us.traceId], [0, null]);
});
