/** What happens when a session ends: coming back, moving to another node, catching up, or staying away. */

import assert from "node:assert/strict";
import { isReconnectable } from "../roomcast.js";
import { epoch, nameOf, node, push, scenario } from "./cluster.mjs";

const THREE_NODES = [node("n1", { sessions: 1 }), node("n2", { sessions: 9 }), node("n3", { sessions: 2 })];

for (const code of [1001, 1005, 1006, 1011, 1012, 1013, 4000, 4001, 4002, 4003, 4499]) {
  scenario(`close_${code}_reconnects`, async (cluster) => {
    const client = await cluster.connected();
    cluster.socket.drop(code);
    assert.equal(client.state, "reconnecting");
    await cluster.clock.advance(500);
    assert.equal(cluster.sockets.length, 2);
    await cluster.welcome();
    assert.equal(client.state, "connected");
  });
}

for (const code of [1000, 1002, 1003, 1007, 1008, 1009, 4500, 4501, 4502, 4503, 4999]) {
  scenario(`close_${code}_is_the_end`, async (cluster) => {
    const client = await cluster.connected({ rooms: ["room-001"] });
    cluster.socket.drop(code, "why");
    assert.equal(client.state, "closed");
    assert.deepEqual(cluster.of("state").at(-1), { state: "closed", previous: "connected", code, reason: "why" });
    await cluster.clock.advance(120_000);
    assert.equal(cluster.sockets.length, 1);
    assert.equal(cluster.clock.pending, 0);
    assert.equal(isReconnectable(code), false);
  });
}

scenario("connect_rejects_when_the_server_does_not_allow_it", async (cluster) => {
  const client = cluster.client();
  const connecting = client.connect();
  cluster.socket.receive({ type: "error", code: "UNAUTHENTICATED", message: "no token" });
  cluster.socket.drop(4503, "not allowed");
  await assert.rejects(connecting, { code: "CLOSED", message: "closed with 4503: not allowed" });
  assert.equal(cluster.of("error")[0].code, "UNAUTHENTICATED");
});

scenario("attempts_wait_with_full_jitter_up_to_twenty_seconds", async (cluster) => {
  const client = cluster.client({ random: () => 1 - Number.EPSILON });
  client.connect();
  const waits = [];
  for (let n = 0; n < 8; n += 1) {
    cluster.socket.drop();
    const { delay_ms } = cluster.of("state").at(-1);
    waits.push(Math.round(delay_ms));
    await cluster.clock.advance(delay_ms);
  }
  assert.deepEqual(waits, [500, 1000, 2000, 4000, 8000, 16_000, 20_000, 20_000]);
  assert.equal(cluster.sockets.length, 9);
});

scenario("the_node_list_names_the_waiting_times", async (cluster) => {
  cluster.serveNodes([node("n1")], { first_ms: 100, max_ms: 150 });
  await cluster.connected();
  cluster.socket.drop();
  assert.equal(cluster.of("state").at(-1).delay_ms, 50);
});

scenario("only_a_session_that_lasts_resets_the_waiting_time", async (cluster) => {
  await cluster.connected();
  const delays = [];
  for (const lifetime of [0, 0, 6000]) {
    await cluster.clock.advance(lifetime);
    cluster.socket.drop(4002);
    delays.push(cluster.of("state").at(-1).delay_ms);
    await cluster.clock.advance(delays.at(-1));
    await cluster.welcome();
  }
  assert.deepEqual(delays, [250, 500, 250]);
});

scenario("reconnect_ends_the_waiting_time", async (cluster) => {
  const client = await cluster.connected();
  cluster.socket.drop();
  client.reconnect();
  assert.equal(cluster.sockets.length, 2);
  await cluster.clock.advance(9000);
  assert.equal(cluster.sockets.length, 2);
});

scenario("a_socket_without_welcome_is_given_up", async (cluster) => {
  cluster.client().connect();
  await cluster.clock.advance(10_250);
  assert.equal(cluster.sockets.length, 2);
});

scenario("all_rooms_are_joined_again_under_the_same_client_id", async (cluster) => {
  const client = await cluster.connected({ rooms: ["room-001"] });
  client.join("room-002");
  await cluster.answerJoins();
  cluster.socket.drop();
  await cluster.clock.advance(500);
  await cluster.welcome();
  const [first, second] = cluster.sockets;
  assert.equal(second.address.searchParams.get("client_id"), first.address.searchParams.get("client_id"));
  assert.deepEqual(second.frames("join").map(({ room_id, since }) => [room_id, since]), [["room-001", undefined], ["room-002", undefined]]);
  await cluster.answerJoins();
  assert.deepEqual(cluster.of("joined").slice(2).map((event) => event.continuity), ["unknown", "unknown"]);
  const unknown = { cause: "NO_LOG", from: null, to: null };
  assert.deepEqual(cluster.of("gap"), [null, "room-001", "room-002"].map((room) => ({ room, ...unknown })));
});

scenario("a_join_that_was_under_way_survives_the_loss", async (cluster) => {
  const client = await cluster.connected();
  const joining = client.join("room-001");
  cluster.socket.drop();
  await cluster.clock.advance(500);
  await cluster.welcome();
  await cluster.answerJoins();
  assert.equal((await joining).room_id, "room-001");
});

scenario("a_leave_that_was_under_way_is_done_when_the_session_ends", async (cluster) => {
  const client = await cluster.connected({ rooms: ["room-001"] });
  const leaving = client.leave("room-001");
  cluster.socket.drop();
  assert.equal((await leaving).reason, "LEFT");
  await cluster.clock.advance(500);
  await cluster.welcome();
  assert.deepEqual(cluster.socket.frames("join"), []);
});

scenario("a_rejoin_with_a_position_gets_the_missed_messages_once", async (cluster) => {
  const client = await cluster.connected({ rooms: ["room-001"] }, { epoch: epoch("e"), offset: 40 });
  cluster.socket.receive(push("m41", { epoch: epoch("e"), offset: 41 }));
  cluster.socket.drop();
  await cluster.clock.advance(500);
  await cluster.welcome();
  cluster.events.length = 0;
  const join = cluster.socket.last("join");
  assert.deepEqual(join.since, { epoch: epoch("e"), offset: 41 });
  cluster.socket.receive({ type: "joined", id: join.id, room_id: "room-001", members: 1, epoch: epoch("e"), offset: 43, recovered: true });
  for (const offset of [41, 42, 43, 44]) cluster.socket.receive(push(`m${offset}`, { epoch: epoch("e"), offset }));
  assert.deepEqual(cluster.of("push").map((event) => nameOf(event.message_id)), ["m42", "m43", "m44"]);
  assert.equal(cluster.of("joined").at(-1).continuity, "recovered");
  assert.deepEqual(cluster.of("gap"), []);
  assert.deepEqual(client.rooms[0].position, { epoch: epoch("e"), offset: 44 });
});

scenario("a_rejoin_that_could_not_recover_is_a_gap", async (cluster) => {
  const client = await cluster.connected({ rooms: ["room-001"] }, { epoch: epoch("e"), offset: 40 });
  cluster.socket.drop();
  await cluster.clock.advance(500);
  await cluster.welcome();
  await cluster.answerJoins(cluster.socket, { epoch: epoch("f"), offset: 3, recovered: false });
  assert.deepEqual(cluster.of("gap").at(-1),
    { room: "room-001", cause: "NOT_RECOVERED", from: { epoch: epoch("e"), offset: 40 }, to: { epoch: epoch("f"), offset: 3 } });
  assert.equal(cluster.of("joined").at(-1).continuity, "lost");
  assert.deepEqual(client.rooms[0].position, { epoch: epoch("f"), offset: 3 });
});

scenario("the_users_own_log_is_resumed_in_the_address", async (cluster) => {
  const client = cluster.client();
  client.connect();
  await cluster.welcome(cluster.socket, { epoch: epoch("a"), offset: 5 });
  cluster.socket.receive(push("m6", { target: "user", room_id: undefined, epoch: epoch("a"), offset: 6 }));
  cluster.socket.drop();
  await cluster.clock.advance(500);
  assert.equal(cluster.socket.address.searchParams.get("since"), `${epoch("a")}:6`);
  await cluster.welcome(cluster.socket, { epoch: epoch("a"), offset: 90, recovered: false });
  assert.deepEqual(cluster.of("gap").map((gap) => [gap.room, gap.cause]), [[null, "NOT_RECOVERED"]]);
  assert.equal(cluster.of("welcome").at(-1).continuity, "lost");
  assert.deepEqual(client.positions.own, { epoch: epoch("a"), offset: 90 });
});

scenario("a_later_client_goes_on_where_the_earlier_one_stood", async (cluster) => {
  const resume = { own: { epoch: epoch("a"), offset: 5 }, rooms: { "room-001": { epoch: epoch("e"), offset: 41 } } };
  const client = cluster.client({ rooms: ["room-001", "room-002"], resume });
  client.connect();
  assert.equal(cluster.socket.address.searchParams.get("since"), `${epoch("a")}:5`);
  await cluster.welcome(cluster.socket, { epoch: epoch("a"), offset: 5, recovered: true });
  const [first, second] = cluster.socket.frames("join");
  assert.deepEqual([first.since, second.since], [{ epoch: epoch("e"), offset: 41 }, undefined]);
  cluster.socket.receive({ type: "joined", id: first.id, room_id: "room-001", members: 1, epoch: epoch("e"), offset: 41, recovered: true });
  cluster.socket.receive(push("m42", { epoch: epoch("e"), offset: 42 }));
  assert.deepEqual([cluster.of("push").length, cluster.of("gap"), cluster.of("joined")[0].continuity], [1, [], "recovered"]);
  assert.deepEqual(client.positions, { own: resume.own, rooms: { "room-001": { epoch: epoch("e"), offset: 42 } } });
});

scenario("a_rejoin_refused_for_good_is_reported_as_left", async (cluster) => {
  const client = await cluster.connected({ rooms: ["room-001"] });
  cluster.socket.drop();
  await cluster.clock.advance(500);
  await cluster.welcome();
  cluster.socket.receive({ type: "error", id: cluster.socket.last("join").id, room_id: "room-001", code: "ROOM_DELETED", message: "" });
  assert.deepEqual(cluster.of("left"), [{ type: "left", room_id: "room-001", reason: "REFUSED", code: "ROOM_DELETED" }]);
  assert.deepEqual(client.rooms, []);
});

scenario("a_lost_node_is_left_for_the_ready_one_with_fewest_sessions", async (cluster) => {
  cluster.serveNodes([...THREE_NODES, node("n4", { state: "draining" }), node("n5", { state: "starting" })]);
  const client = await cluster.connected({ rooms: ["room-001"] });
  assert.equal(cluster.fetched[0], "http://n1:8080/nodes");
  assert.equal(client.nodes.length, 5);
  cluster.nodeLists.delete("http://n1:8080");
  cluster.socket.drop();
  await cluster.clock.advance(500);
  assert.equal(cluster.socket.base, "ws://n3:8080/ws");
  await cluster.welcome();
  await cluster.answerJoins();
  assert.deepEqual([client.nodeId, client.rooms[0].state], ["n3", "joined"]);
});

scenario("the_list_is_asked_of_another_node_when_the_own_one_is_lost", async (cluster) => {
  cluster.serveNodes(THREE_NODES);
  await cluster.connected();
  cluster.serveNodes([node("n2", { sessions: 0 }), node("n3", { sessions: 9 })]);
  cluster.socket.drop();
  await cluster.clock.advance(500);
  assert.notEqual(cluster.fetched.at(-1), "http://n1:8080/nodes");
  assert.equal(cluster.socket.base, "ws://n2:8080/ws");
});

scenario("every_node_gets_a_turn_while_all_of_them_fail", async (cluster) => {
  cluster.serveNodes(THREE_NODES);
  await cluster.connected();
  cluster.nodeLists.clear();
  cluster.socket.drop();
  for (let n = 0; n < 6; n += 1) {
    await cluster.clock.advance(30_000);
    cluster.socket.drop();
  }
  const visited = cluster.sockets.map((socket) => socket.base.slice(5, 7));
  assert.deepEqual(new Set(visited), new Set(["n1", "n2", "n3"]));
  for (let n = 1; n < visited.length; n += 1) assert.notEqual(visited[n], visited[n - 1]);
});

scenario("a_node_known_under_two_addresses_is_not_tried_under_the_other", async (cluster) => {
  cluster.nodeLists.set("http://localhost:8080", { nodes: [node("a", { sessions: 0 }), node("b", { sessions: 9 })] });
  const client = cluster.client({ url: "ws://localhost:8080/ws" });
  client.connect();
  await cluster.welcome(cluster.socket, { node_id: "a" });
  cluster.socket.drop();
  await cluster.clock.advance(500);
  assert.equal(cluster.socket.base, "ws://b:8080/ws");
});

scenario("a_slow_client_comes_back_to_its_node", async (cluster) => {
  cluster.serveNodes(THREE_NODES);
  await cluster.connected();
  cluster.socket.drop(4002);
  await cluster.clock.advance(500);
  assert.equal(cluster.socket.base, "ws://n1:8080/ws");
});

scenario("a_secure_client_never_moves_to_an_open_address", async (cluster) => {
  cluster.nodeLists.set("https://n1:8080", { nodes: [node("n2"), node("n3", { url: "wss://n3:8080/ws" })] });
  const client = await cluster.connected({ url: "wss://n1:8080/ws" });
  assert.deepEqual(client.nodes.map((known) => known.node_id), ["n3"]);
});

scenario("the_list_is_refreshed_while_connected", async (cluster) => {
  cluster.serveNodes(THREE_NODES);
  await cluster.connected();
  for (let n = 0; n < 3; n += 1) {
    await cluster.clock.advance(20_000);
    cluster.socket.receive({ type: "pong" });
  }
  assert.equal(cluster.fetched.length, 3);
});

/** A client in room-001 on n1 that was told to move and has its second socket open on n3. */
async function moving(cluster) {
  cluster.serveNodes(THREE_NODES);
  const client = await cluster.connected({ rooms: ["room-001"] });
  cluster.socket.receive({ type: "notice", reason: "DRAINING", reconnect_after_ms: 800 });
  await cluster.clock.advance(799);
  assert.equal(cluster.sockets.length, 1);
  await cluster.clock.advance(1);
  const [old, next] = cluster.sockets;
  assert.equal(next.base, "ws://n3:8080/ws");
  return { client, old, next };
}

scenario("draining_overlaps_two_sessions_without_a_repeat_or_a_break", async (cluster) => {
  const { client, old, next } = await moving(cluster);
  assert.equal(client.state, "connected");
  await cluster.welcome(next);
  old.receive(push("m1"));
  await cluster.answerJoins(next);
  next.receive(push("m1"));
  next.receive(push("m2"));
  old.receive(push("late", { ack: true }));
  await cluster.clock.advance(500);
  assert.equal(old.closedWith.code, 1000);
  assert.deepEqual([old.last("ack").message_ids.map(nameOf), next.last("ack")], [["late"], undefined]);
  assert.deepEqual(cluster.of("push").map((event) => nameOf(event.message_id)), ["m1", "m2", "late"]);
  assert.deepEqual(cluster.of("gap"), []);
  assert.equal(cluster.of("joined").at(-1).continuity, "unbroken");
  assert.equal(cluster.of("welcome").at(-1).is_move, true);
  assert.equal(client.nodeId, "n3");
  assert.deepEqual([...new Set(cluster.of("state").map((event) => event.state))], ["connecting", "connected"]);
});

scenario("a_drained_node_is_not_forgiven_while_the_client_waits_to_move", async (cluster) => {
  cluster.serveNodes(THREE_NODES);
  await cluster.connected();
  await cluster.clock.advance(4800);
  cluster.socket.receive({ type: "notice", reason: "DRAINING", reconnect_after_ms: 800 });
  await cluster.clock.advance(800);
  assert.equal(cluster.socket.base, "ws://n3:8080/ws");
});

scenario("the_old_session_of_a_move_stays_until_the_rooms_are_joined", async (cluster) => {
  const { old, next } = await moving(cluster);
  await cluster.welcome(next);
  next.receive({ type: "error", id: next.last("join").id, room_id: "room-001", code: "UNAVAILABLE", message: "", retry_after_ms: 400 });
  assert.equal(old.closedWith, null);
  await cluster.clock.advance(400);
  await cluster.answerJoins(next);
  assert.equal(old.closedWith, null);
  await cluster.clock.advance(500);
  assert.equal(old.closedWith.code, 1000);
});

scenario("a_move_that_takes_over_its_own_slot_goes_on", async (cluster) => {
  const { client, old, next } = await moving(cluster);
  old.drop(4500, "taken over");
  assert.equal(client.state, "reconnecting");
  await cluster.welcome(next);
  await cluster.answerJoins(next);
  assert.deepEqual([client.state, client.nodeId, cluster.sockets.length], ["connected", "n3", 2]);
});

scenario("a_takeover_by_someone_else_while_draining_is_the_end", async (cluster) => {
  const client = await cluster.connected();
  cluster.socket.receive({ type: "notice", reason: "DRAINING", reconnect_after_ms: 800 });
  cluster.socket.drop(4500);
  assert.equal(client.state, "closed");
});

scenario("a_drained_node_that_closes_early_keeps_the_promised_time", async (cluster) => {
  const client = await cluster.connected();
  cluster.socket.receive({ type: "notice", reason: "DRAINING", reconnect_after_ms: 800 });
  await cluster.clock.advance(300);
  cluster.socket.drop(4001);
  assert.deepEqual([client.state, cluster.of("state").at(-1).delay_ms], ["reconnecting", 500]);
  await cluster.clock.advance(500);
  assert.equal(cluster.sockets.length, 2);
});

scenario("a_failed_attempt_to_move_is_repeated_elsewhere_while_the_old_session_lives", async (cluster) => {
  const { client, old, next } = await moving(cluster);
  next.drop();
  assert.equal(client.state, "connected");
  await cluster.clock.advance(500);
  assert.equal(cluster.socket.base, "ws://n2:8080/ws");
  await cluster.welcome();
  await cluster.answerJoins();
  await cluster.clock.advance(500);
  assert.equal(old.closedWith.code, 1000);
});

for (const code of [4503, 1008]) {
  scenario(`a_node_that_refuses_a_move_with_${code}_does_not_end_the_session_that_is_there`, async (cluster) => {
    const { client, old, next } = await moving(cluster);
    next.drop(code);
    old.receive(push("m1"));
    assert.deepEqual([client.state, cluster.of("push").length], ["connected", 1]);
    await cluster.clock.advance(500);
    assert.equal(cluster.socket.base, "ws://n2:8080/ws");
  });
}

scenario("a_slot_that_a_failed_move_took_is_no_end", async (cluster) => {
  const { client, old, next } = await moving(cluster);
  next.drop();
  old.drop(4500, "taken over");
  assert.equal(client.state, "reconnecting");
  await cluster.clock.advance(500);
  await cluster.welcome();
  assert.equal(client.state, "connected");
  cluster.socket.drop(4500, "taken over");
  assert.equal(client.state, "closed");
});

scenario("a_move_gets_each_logged_message_once_from_whichever_session_is_first", async (cluster) => {
  cluster.serveNodes(THREE_NODES);
  await cluster.connected({ rooms: ["room-001"] }, { epoch: epoch("e"), offset: 40 });
  cluster.socket.receive({ type: "notice", reason: "DRAINING", reconnect_after_ms: 1 });
  await cluster.clock.advance(1);
  const [old, next] = cluster.sockets;
  const bring = (socket, offset) => socket.receive(push(`m${offset}`, { epoch: epoch("e"), offset }));
  await cluster.welcome(next);
  bring(old, 41);
  bring(old, 42);
  assert.deepEqual(next.last("join").since, { epoch: epoch("e"), offset: 40 });
  await cluster.answerJoins(next, { epoch: epoch("e"), offset: 40, recovered: true });
  for (const offset of [41, 42, 43]) bring(next, offset);
  old.receive({ type: "gap", room_id: "room-001", epoch: epoch("e"), offset: 50 });
  bring(old, 51);
  bring(next, 44);
  assert.deepEqual(cluster.of("push").map((event) => event.offset), [41, 42, 43, 44]);
  assert.deepEqual(cluster.of("gap").filter((gap) => gap.room), []);
});
