/** A session on one node: connecting, rooms, pushes, acknowledgements, liveness. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { RoomcastClient, RoomcastError, httpOrigin } from "../roomcast.js";
import { epoch, nameOf, push, scenario, settle } from "./cluster.mjs";

scenario("connect_sends_who_one_is_and_resolves_with_welcome", async (cluster) => {
  const client = cluster.client({ userId: "ü 1", userName: "Alice & Bob", token: () => "a.b+c" });
  const connecting = client.connect();
  assert.equal(client.state, "connecting");
  assert.match(cluster.socket.rawAddress, /^ws:\/\/n1:8080\/ws\?user_id=%C3%BC%201&user_name=Alice%20%26%20Bob&client_id=[0-9a-f]{32}&token=a\.b%2Bc$/);
  await cluster.welcome();
  assert.equal((await connecting).node_id, "n1");
  assert.deepEqual([client.state, client.nodeId, client.sessionId], ["connected", "n1", "s-1"]);
});

test("options_that_cannot_work_are_refused_at_once", () => {
  const WebSocket = class {};
  const refused = (options) => assert.throws(() => new RoomcastClient({ WebSocket, onGap: null, ...options }), { code: "BAD_OPTION" });
  refused({ url: "http://n1/ws", userId: "u" });
  refused({ url: "ws://n1/ws" });
  refused({ url: "ws://n1/ws", userId: "u", clientId: "no spaces" });
  refused({ url: "ws://n1/ws", userId: "u", ack: "sometimes" });
  const protocol = { code: "BAD_OPTION", message: 'protocol must be "json" or "proto", not "xml"' };
  assert.throws(() => new RoomcastClient({ WebSocket, onGap: null, url: "ws://n1/ws", userId: "u", protocol: "xml" }), protocol);
});

test("nobody_forgets_that_messages_may_be_missing", () => {
  const make = (options) => new RoomcastClient({ url: "ws://n1/ws", userId: "u", WebSocket: class {}, ...options });
  assert.throws(() => make({}), { name: "TypeError", message: /^onGap is required: .* or null/ });
  assert.throws(() => make({ onGap: true }), TypeError);
  const client = make({ onGap: null });
  assert.throws(() => client.on("gap", () => {}), { name: "TypeError", message: /onGap/ });
});

scenario("wanted_rooms_are_joined_after_welcome", async (cluster) => {
  const client = await cluster.connected({ rooms: ["room-001", "room-002"] });
  assert.deepEqual(cluster.socket.frames("join").map((frame) => frame.room_id), ["room-001", "room-002"]);
  assert.deepEqual(cluster.of("joined").map((event) => [event.room_id, event.members, event.continuity]), [
    ["room-001", 1, "first"],
    ["room-002", 1, "first"],
  ]);
  const room = { room_id: "room-001", state: "joined", members: 1, read_offset: undefined, position: null };
  assert.deepEqual(client.rooms[0], room);
});

scenario("how_far_a_member_has_read_is_shown", async (cluster) => {
  const client = await cluster.connected({ rooms: ["room-001"] }, { epoch: epoch("e"), offset: 9, read_offset: 7 });
  assert.deepEqual([cluster.of("joined")[0].read_offset, client.rooms[0].read_offset], [7, 7]);
});

scenario("joins_and_leaves_settle_by_frame_id", async (cluster) => {
  const client = await cluster.connected();
  const [first, second] = [client.join("a"), client.join("b")];
  const [askA, askB] = cluster.socket.frames("join");
  cluster.socket.receive({ type: "joined", id: askB.id, room_id: "b", members: 2 });
  assert.equal((await second).members, 2);
  cluster.socket.receive({ type: "joined", id: askA.id, room_id: "a", members: 9 });
  assert.equal((await first).members, 9);
  const leaving = client.leave("a");
  cluster.socket.receive({ type: "left", id: cluster.socket.last("leave").id, room_id: "a", reason: "LEFT" });
  assert.equal((await leaving).reason, "LEFT");
  assert.deepEqual(client.rooms.map((room) => room.room_id), ["b"]);
});

scenario("a_join_before_the_session_waits_for_it", async (cluster) => {
  const client = cluster.client();
  const joining = client.join("room-001");
  client.connect();
  await cluster.welcome();
  await cluster.answerJoins();
  assert.equal((await joining).room_id, "room-001");
});

scenario("a_refused_join_rejects_with_the_servers_reason_and_is_not_repeated", async (cluster) => {
  const client = await cluster.connected();
  const joining = client.join("full");
  cluster.socket.receive({ type: "error", id: cluster.socket.last("join").id, room_id: "full", code: "ROOM_FULL", message: "no place" });
  await assert.rejects(joining, (error) => {
    assert.ok(error instanceof RoomcastError);
    assert.deepEqual([error.code, error.room_id, error.message], ["ROOM_FULL", "full", "no place"]);
    return true;
  });
  assert.equal(cluster.of("error")[0].retrying, false);
  await cluster.clock.advance(30_000);
  assert.equal(cluster.socket.frames("join").length, 1);
  assert.deepEqual(client.rooms, []);
});

scenario("a_retryable_refusal_is_asked_again_after_the_servers_time", async (cluster) => {
  const client = await cluster.connected();
  const joining = client.join("room-001");
  cluster.socket.receive({ type: "error", id: cluster.socket.last("join").id, room_id: "room-001", code: "UNAVAILABLE", message: "", retry_after_ms: 700 });
  const [error] = cluster.of("error");
  assert.deepEqual([error.retrying, error.retry_after_ms], [true, 700]);
  await cluster.clock.advance(699);
  assert.equal(cluster.socket.frames("join").length, 1);
  await cluster.clock.advance(1);
  assert.equal(cluster.socket.frames("join").length, 2);
  cluster.socket.receive({ type: "joined", id: cluster.socket.last("join").id, room_id: "room-001", members: 1 });
  await joining;
});

scenario("a_join_without_an_answer_times_out_and_is_taken_back", async (cluster) => {
  const client = await cluster.connected();
  const joining = client.join("slow", { timeoutMs: 3000 });
  const outcome = assert.rejects(joining, { code: "TIMEOUT", room_id: "slow" });
  await cluster.clock.advance(3000);
  await outcome;
  assert.equal(cluster.socket.last("leave").room_id, "slow");
  assert.deepEqual(client.rooms, []);
});

scenario("leaving_a_room_one_is_not_in_rejects", async (cluster) => {
  const client = await cluster.connected();
  const leaving = client.leave("nowhere");
  cluster.socket.receive({ type: "error", id: cluster.socket.last("leave").id, room_id: "nowhere", code: "NOT_JOINED", message: "" });
  await assert.rejects(leaving, { code: "NOT_JOINED" });
});

scenario("a_join_right_after_a_leave_ends_in_the_room", async (cluster) => {
  const client = await cluster.connected({ rooms: ["room-001"] });
  const leaving = client.leave("room-001");
  const joining = client.join("room-001");
  cluster.socket.receive({ type: "left", id: cluster.socket.last("leave").id, room_id: "room-001", reason: "LEFT" });
  assert.equal((await leaving).reason, "LEFT");
  await cluster.answerJoins();
  assert.equal((await joining).continuity, "first");
  assert.deepEqual(client.rooms.map((room) => room.state), ["joined"]);
});

scenario("a_leave_during_a_join_rejects_the_join", async (cluster) => {
  const client = await cluster.connected();
  const joining = assert.rejects(client.join("room-001"), { code: "LEFT" });
  const { id } = cluster.socket.last("join");
  const leaving = client.leave("room-001");
  cluster.socket.receive({ type: "joined", id, room_id: "room-001", members: 1 });
  cluster.socket.receive({ type: "left", id: cluster.socket.last("leave").id, room_id: "room-001", reason: "LEFT" });
  await joining;
  await leaving;
  assert.deepEqual([cluster.of("joined"), client.rooms], [[], []]);
});

scenario("a_room_taken_away_is_forgotten", async (cluster) => {
  const client = await cluster.connected({ rooms: ["room-001"] });
  cluster.socket.receive({ type: "left", room_id: "room-001", reason: "ROOM_DELETED" });
  assert.equal(cluster.of("left")[0].reason, "ROOM_DELETED");
  assert.deepEqual(client.rooms, []);
});

scenario("a_push_brings_text_or_bytes", async (cluster) => {
  await cluster.connected({ rooms: ["room-001"] });
  cluster.socket.receive(push("m1"));
  cluster.socket.receive(push("m2", { content: { type: "AUDIO", data_base64: "AP+A", timestamp: 1 } }));
  cluster.socket.receive(push("m3", { content: { type: "TRANSLATION", data_base64: "5L2g5aW9", timestamp: 1 } }));
  const [text, bytes, encoded] = cluster.of("push");
  assert.deepEqual([text.text, text.isBinary, text.target, text.room_id], ["text of m1", false, "room", "room-001"]);
  assert.deepEqual([[...bytes.bytes], bytes.isBinary, bytes.text], [[0, 255, 128], true, null]);
  assert.equal(encoded.text, "你好");
});

scenario("a_repeat_is_dropped_by_position_or_by_message_id", async (cluster) => {
  const client = await cluster.connected({ rooms: ["room-001"] }, { epoch: epoch("e"), offset: 40 });
  const logged = (name, offset, life = "e") => cluster.socket.receive(push(name, { epoch: epoch(life), offset }));
  logged("m41", 41);
  logged("m44", 44);
  logged("m44", 44);
  logged("m43", 43);
  logged("other", 1, "e2");
  cluster.socket.receive(push("x"));
  cluster.socket.receive(push("x"));
  assert.deepEqual(cluster.of("push").map((event) => nameOf(event.message_id)), ["m41", "m44", "other", "x"]);
  assert.deepEqual(client.rooms[0].position, { epoch: epoch("e"), offset: 44 });
});

scenario("the_last_thousand_message_ids_are_remembered", async (cluster) => {
  await cluster.connected({ rooms: ["room-001"] });
  for (let n = 0; n < 1000; n += 1) cluster.socket.receive(push(`m${n}`));
  cluster.socket.receive(push("m0"));
  assert.equal(cluster.of("push").length, 1000);
  cluster.socket.receive(push("new"));
  cluster.socket.receive(push("m0"));
  assert.equal(cluster.of("push").length, 1002);
});

scenario("a_gap_frame_is_surfaced_and_moves_the_position", async (cluster) => {
  const client = await cluster.connected({ rooms: ["room-001"] }, { epoch: epoch("e"), offset: 7 });
  cluster.socket.receive({ type: "gap", room_id: "room-001", epoch: epoch("e2"), offset: 50 });
  assert.deepEqual(cluster.of("gap"), [
    { room: "room-001", cause: "GAP", from: { epoch: epoch("e"), offset: 7 }, to: { epoch: epoch("e2"), offset: 50 } },
  ]);
  assert.deepEqual(client.rooms[0].position, { epoch: epoch("e2"), offset: 50 });
});

scenario("a_gap_handler_that_throws_stops_nothing", async (cluster, context) => {
  const error = context.mock.method(console, "error", () => {});
  const onGap = () => { throw new Error("mine"); };
  const client = await cluster.connected({ rooms: ["room-001"], onGap }, { epoch: epoch("e"), offset: 7 });
  cluster.socket.receive({ type: "gap", room_id: "room-001", epoch: epoch("e"), offset: 9 });
  cluster.socket.receive(push("m10", { epoch: epoch("e"), offset: 10 }));
  assert.deepEqual([error.mock.callCount(), cluster.of("push").length, client.state], [1, 1, "connected"]);
});

scenario("what_is_said_of_a_room_that_one_is_not_in_is_nothing", async (cluster) => {
  const client = await cluster.connected({ rooms: ["room-001"] }, { epoch: epoch("e"), offset: 7 });
  cluster.socket.receive({ type: "gap", room_id: "room-002", epoch: epoch("e"), offset: 1 });
  cluster.socket.receive(push("m", { room_id: "room-002" }));
  assert.deepEqual([cluster.of("gap"), cluster.of("push")], [[], []]);
  assert.deepEqual(client.positions, { own: null, rooms: { "room-001": { epoch: epoch("e"), offset: 7 } } });
});

scenario("silence_is_probed_and_an_answer_keeps_the_session", async (cluster) => {
  const client = await cluster.connected();
  await cluster.clock.advance(20_000);
  cluster.socket.receive(push("m1"));
  await cluster.clock.advance(24_999);
  assert.equal(cluster.socket.frames("ping").length, 0);
  await cluster.clock.advance(1);
  assert.equal(cluster.socket.frames("ping").length, 1);
  cluster.socket.receive({ type: "pong", id: cluster.socket.last("ping").id });
  await cluster.clock.advance(24_000);
  assert.equal(client.state, "connected");
  assert.equal(cluster.sockets.length, 1);
});

scenario("silence_after_a_ping_makes_it_reconnect", async (cluster) => {
  const client = await cluster.connected();
  await cluster.clock.advance(34_999);
  assert.equal(client.state, "connected");
  await cluster.clock.advance(1);
  assert.equal(client.state, "reconnecting");
  assert.equal(cluster.sockets[0].readyState, 3);
  await cluster.clock.advance(500);
  assert.equal(cluster.sockets.length, 2);
});

scenario("ping_measures_a_round_trip", async (cluster) => {
  const client = await cluster.connected();
  const measuring = client.ping();
  await cluster.clock.advance(12);
  cluster.socket.receive({ type: "pong", id: cluster.socket.last("ping").id });
  assert.equal(await measuring, 12);
});

scenario("frames_that_nobody_knows_change_nothing", async (cluster) => {
  const client = await cluster.connected({ rooms: ["room-001"] });
  const before = cluster.events.length;
  cluster.socket.receive({ type: "confetti", room_id: "room-001" });
  cluster.socket.receive({ type: "pong", id: 999, colour: "red" });
  assert.equal(cluster.events.length, before);
  cluster.socket.bring("not json");
  cluster.socket.bring("[1]");
  assert.deepEqual(cluster.of("error").map((error) => error.code), ["BAD_FRAME", "BAD_FRAME"]);
  assert.equal(client.state, "connected");
});

scenario("close_says_1000_sends_the_last_acknowledgements_and_leaves_no_timer", async (cluster) => {
  const client = await cluster.connected({ rooms: ["room-001"] });
  const joining = client.join("never answered");
  cluster.socket.receive(push("m1", { ack: true }));
  client.close();
  await assert.rejects(joining, { code: "CLOSED" });
  assert.deepEqual(cluster.socket.last("ack").message_ids.map(nameOf), ["m1"]);
  assert.equal(cluster.socket.closedWith.code, 1000);
  await settle();
  assert.equal(cluster.clock.pending, 0);
  await cluster.clock.advance(120_000);
  assert.equal(cluster.sockets.length, 1);
  await assert.rejects(client.join("late"), { code: "CLOSED" });
});

scenario("a_listener_that_throws_does_not_stop_the_others", async (cluster, context) => {
  context.mock.method(console, "error", () => {});
  const client = cluster.client();
  client.on("welcome", () => { throw new Error("mine"); });
  const seen = [];
  client.on("welcome", () => seen.push("second"));
  client.connect();
  await cluster.welcome();
  assert.deepEqual([seen, client.state], [["second"], "connected"]);
});

test("http_origin_follows_the_websocket_scheme", () => {
  assert.equal(httpOrigin("ws://h:8080/ws"), "http://h:8080");
  assert.equal(httpOrigin("wss://push.example/ws?x=1"), "https://push.example");
});
