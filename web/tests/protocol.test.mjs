/** Both forms of the frames are one protocol: held to the bytes in `frames.json`, which a test of the node writes. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { Cluster, PROTOCOLS, push, scenario, settle } from "./cluster.mjs";
import { encodeFrame } from "./protobuf.mjs";

const FRAMES = JSON.parse(readFileSync(new URL("frames.json", import.meta.url), "utf8"));
const TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
/** A field 127 of each type on the wire. */
const UNKNOWN_FIELDS = "f80701" + "f9070102030405060708" + "fa0703010203" + "fd0701020304";

const bytesOf = (hex) => Uint8Array.from(Buffer.from(hex, "hex")).buffer;
const hexOf = (bytes) => Buffer.from(bytes).toString("hex");

/** A connected client that speaks protobuf, and the frames that it read since. */
async function reading(cluster = new Cluster("proto")) {
  const client = await cluster.connected({ recorded: ["error"] });
  const read = [];
  client.on("frame", ({ direction, text }) => direction === "received" && read.push(text));
  return { client, socket: cluster.socket, read };
}

test("frames_of_the_node_read_the_same_in_both_forms", async () => {
  for (const { json, proto } of FRAMES.server) {
    for (const data of [JSON.stringify(json), bytesOf(proto)]) {
      const { socket, read } = await reading(new Cluster(typeof data === "string" ? "json" : "proto"));
      socket.bring(data);
      assert.deepEqual(read, [JSON.stringify(json)]);
    }
  }
});

test("frames_of_the_client_are_those_that_the_node_reads", async () => {
  for (const protocol of PROTOCOLS) {
    const cluster = new Cluster(protocol);
    const resume = { rooms: { "räum 1": { epoch: "fedcba9876543210", offset: 2 ** 53 - 1 }, two: { epoch: "00000000000000ab", offset: 0 } } };
    const client = cluster.client({ rooms: ["räum 1", "two", "three"], resume, reportReceived: true });
    client.connect();
    await cluster.welcome(cluster.socket, { server_time_ms: cluster.clock.now() });
    for (const message_id of ["01ARZ3NDEKTSV4RRFFQ69G5FAV", "7ZZZZZZZZZZZZZZZZZZZZZZZZZ"]) {
      cluster.socket.receive(push("m", { message_id, target: "all", ack: true, traceparent: TRACEPARENT }));
    }
    await cluster.clock.advance(1000);
    client.leave("räum 1").catch(() => {});
    client.publish("two", { type: "TEXT", data: "Grüße" });
    client.publish("two", { type: "STATE", data: "", timestamp: -5 });
    client.publish("two", { type: "AUDIO", data_base64: "AP+A", timestamp: 1 });
    const said = FRAMES.client.map(({ json, proto }) => (protocol === "json" ? JSON.stringify(json) : proto));
    assert.deepEqual(cluster.socket.raw.map((data) => (protocol === "json" ? data : hexOf(data))), said);
    client.close();
  }
});

test("the_nodes_of_these_tests_write_what_a_node_writes", () => {
  const isExact = ({ json }) => Number.isSafeInteger(json.timestamp_ms ?? 0);
  for (const { json, proto } of FRAMES.server.filter(isExact)) assert.equal(hexOf(encodeFrame(json)), proto);
});

test("the_sub_protocol_is_asked_for_unless_every_node_speaks_it", async () => {
  for (const [options, subprotocol] of [[{}, undefined], [{ protocol: "json" }, undefined], [{ protocol: "proto" }, "pubsub.proto.v1"]]) {
    const cluster = new Cluster();
    await cluster.connected(options);
    assert.deepEqual([cluster.socket.subprotocol, cluster.socket.binaryType], [subprotocol, "arraybuffer"]);
    cluster.socket.drop();
    await cluster.clock.advance(500);
    assert.equal(cluster.socket.subprotocol, subprotocol);
  }
});

/** How many bad frames a message is, which is to be nothing else. */
function badFrames(cluster, hex) {
  cluster.events.length = 0;
  cluster.socket.bring(bytesOf(hex));
  for (const { message } of cluster.of("error")) assert.match(message, /^the server sent a frame that is no protobuf/);
  return cluster.events.length;
}

test("a_frame_that_ends_too_early_is_a_bad_one", async () => {
  const cluster = new Cluster("proto");
  const { client } = await reading(cluster);
  for (const { json, proto } of FRAMES.server) {
    // With nothing behind its id it is one of a kind that nobody knows.
    const idDigits = json.id === undefined ? 0 : hexOf(encodeFrame({ id: json.id })).length - 4;
    for (let end = 2; end < proto.length; end += 2) {
      assert.equal(badFrames(cluster, proto.slice(0, end)), end === idDigits ? 0 : 1, `${end} digits of ${proto}`);
    }
  }
  assert.equal(client.state, "connected");
});

for (const [what, hex] of [
  ["a_field_with_the_number_0", "0000"],
  ["a_number_of_more_than_64_bits", "08ffffffffffffffffffff01"],
  ["a_field_of_another_type", "0a00"],
  ["a_group", "7b7c"],
  ["a_message_id_of_1_byte", "2a03120101"],
  ["text_that_is_no_utf_8", "42031a01ff"],
]) {
  test(`${what}_is_a_bad_frame`, async () => {
    const cluster = new Cluster("proto");
    await reading(cluster);
    assert.equal(badFrames(cluster, hex), 1);
  });
}

test("no_changed_byte_throws_at_the_socket", async () => {
  const { socket } = await reading();
  for (const { proto } of FRAMES.server) {
    for (let place = 0; place < proto.length; place += 2) {
      for (const byte of ["00", "0a", "7f", "80", "ff"]) socket.bring(bytesOf(proto.slice(0, place) + byte + proto.slice(place + 2)));
    }
  }
  await settle();
});

test("what_a_later_version_adds_is_skipped", async () => {
  const { socket, read } = await reading();
  const errorWith = (fields) => `42${(fields.length / 2 + 3).toString(16)}120141${fields}`;
  const frames = [`08034a00${UNKNOWN_FIELDS}`, `${UNKNOWN_FIELDS}08034a00`, errorWith(UNKNOWN_FIELDS), "7a00", "22021009"];
  for (const hex of frames) socket.bring(bytesOf(hex));
  const pong = '{"type":"pong","id":3}';
  const error = '{"type":"error","code":"A","message":""}';
  assert.deepEqual(read, [pong, pong, error, "{}", '{"type":"left","room_id":"","reason":"9"}']);
});

scenario("bytes_are_the_applications_own", async (cluster) => {
  await cluster.connected({ rooms: ["room-001"] });
  cluster.socket.receive(push("m1", { content: { type: "AUDIO", data_base64: "AP+A", timestamp: 1 } }));
  cluster.socket.receive(push("m2", { content: { type: "AUDIO", data_base64: "", timestamp: 1 } }));
  const [some, none] = cluster.of("push");
  const { bytes } = some;
  assert.deepEqual([[...bytes], bytes.buffer.byteLength], [[0, 255, 128], 3]);
  bytes.fill(7);
  assert.deepEqual([...some.bytes], [0, 255, 128]);
  assert.deepEqual(JSON.parse(JSON.stringify(some.content)), { type: "AUDIO", data_base64: "AP+A", timestamp: 1 });
  assert.deepEqual([none.isBinary, none.bytes.length, none.content.data_base64, none.text], [true, 0, "", ""]);
});

scenario("a_message_of_the_other_form_is_a_bad_frame", async (cluster) => {
  await cluster.connected();
  cluster.socket.bring(cluster.protocol === "json" ? bytesOf("4a00") : '{"type":"pong"}');
  assert.deepEqual(cluster.of("error").map((error) => error.code), ["BAD_FRAME"]);
});

test("content_that_protobuf_cannot_say_is_refused_at_once", async () => {
  const cluster = new Cluster("proto");
  const client = await cluster.connected();
  const words = { code: "BAD_REQUEST", message: 'content.type takes TEXT, AUDIO, TRANSLATION, SYSTEM, STATE, not "SMELL"' };
  assert.throws(() => client.publish("room-001", { type: "SMELL", data: "" }), words);
  assert.throws(() => client.publish("room-001", { type: "AUDIO", data_base64: "?" }));
  assert.deepEqual(cluster.socket.sent, []);
});
