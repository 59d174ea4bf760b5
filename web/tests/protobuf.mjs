/**
 * The node's side of `pubsub.proto.v1`: frames as JSON has them, to bytes and back. It follows `proto/pubsub/client.proto` itself
 * and shares nothing with the client's.
 */

import { readFileSync } from "node:fs";

const SCHEMA = parse(readFileSync(new URL("../../proto/pubsub/client.proto", import.meta.url), "utf8"));
const SCALARS = { uint32: 0, uint64: 0, int64: 0, bool: 0, fixed64: 1, string: 2, bytes: 2 };
const ULID_DIGITS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/** No frame has this number yet. */
const UNKNOWN_FRAME = 15;

/** Messages, and enumerations by `Message.Enum`: fields `{owner, label, type, name, number}`, words in order. */
function parse(text) {
  const schema = new Map();
  const scope = [];
  for (const line of text.replace(/\/\/.*$/gm, "").split("\n")) {
    const [, kind, block] = /^\s*(message|enum|oneof) (\w+) \{/.exec(line) ?? [];
    const [, label, type, name, number] = /^\s*(optional|repeated)? ?(\w+) (\w+) = (\d+);/.exec(line) ?? [];
    const [, word] = /^\s*(\w+) = \d+;/.exec(line) ?? [];
    const isOneof = scope.at(-1) === "oneof";
    const owner = scope.filter((part) => part !== "oneof").join(".");
    if (kind) scope.push(kind === "oneof" ? kind : block);
    if (kind && kind !== "oneof") schema.set(scope.join("."), []);
    if (name) schema.get(owner).push({ owner, label: isOneof ? "oneof" : label ?? "", type, name, number: Number(number) });
    if (word) schema.get(owner).push(word);
    if (line.includes("}")) scope.pop();
  }
  return schema;
}

/** A number of 128 bits as a message id is written. */
export function ulid(number) {
  let digits = "";
  for (let rest = BigInt(number); digits.length < 26; rest >>= 5n) digits = ULID_DIGITS[Number(rest & 31n)] + digits;
  return digits;
}

/** The number's 16 bytes. */
export function ulidBytes(digits) {
  let number = 0n;
  for (const digit of digits) number = (number << 5n) | BigInt(ULID_DIGITS.indexOf(digit));
  return Buffer.from(number.toString(16).padStart(32, "0"), "hex");
}

function varint(number) {
  const bytes = [];
  let rest = BigInt.asUintN(64, BigInt(number));
  for (; rest > 127n; rest /= 128n) bytes.push(Number(rest % 128n) + 128);
  return Buffer.from([...bytes, Number(rest)]);
}

/** What JSON calls a field, and how it has its value. */
function inJson({ owner, name, type }) {
  if (owner === "Content" && name === "text") return { key: "data" };
  if (owner === "Content" && name === "binary") {
    return { key: "data_base64", pack: (text) => Buffer.from(text, "base64"), unpack: (bytes) => bytes.toString("base64") };
  }
  if (type === "bytes") return { key: name, pack: ulidBytes, unpack: (bytes) => ulid(`0x${bytes.toString("hex")}`) };
  if (type === "fixed64") {
    return { key: name, pack: (hex) => Buffer.from(hex, "hex").reverse(), unpack: (bytes) => Buffer.from(bytes).reverse().toString("hex") };
  }
  const words = SCHEMA.get(`${owner}.${type}`);
  if (!words) return { key: name };
  const spell = (word) => (name === "target" ? word.toLowerCase() : word);
  return { key: name, pack: (word) => words.findIndex((known) => spell(known) === word), unpack: (index) => spell(words[index]) };
}

const FIELDS = new Map([...SCHEMA].map(([name, fields]) => [name, fields.map((field) => {
  const { pack = (value) => value, unpack = (value) => value, key } = inJson(field);
  const wireType = SCALARS[field.type] ?? (SCHEMA.has(field.type) ? 2 : 0);
  return { ...field, key, pack, unpack, wireType };
})]));

function write(message, object) {
  return Buffer.concat(FIELDS.get(message).flatMap((field) => {
    const values = field.label === "repeated" ? object[field.key] ?? [] : [object[field.key]].filter((value) => value !== undefined);
    return values.flatMap((value) => writeField(field, value));
  }));
}

function writeField({ type, number, label, wireType, pack }, value) {
  const packed = SCHEMA.has(type) ? write(type, value) : pack(value);
  if (label === "" && (packed === 0 || packed === false || packed === "")) return [];
  const tag = varint(number * 8 + wireType);
  if (wireType === 0) return [tag, varint(packed)];
  const bytes = Buffer.from(packed);
  return wireType === 1 ? [tag, bytes] : [tag, varint(bytes.length), bytes];
}

function read(message, bytes) {
  const pieces = { bytes, at: 0 };
  const object = Object.fromEntries(FIELDS.get(message).filter(({ label }) => label === "repeated").map(({ key }) => [key, []]));
  while (pieces.at < bytes.length) {
    const tag = Number(readVarint(pieces));
    const field = FIELDS.get(message).find(({ number, wireType }) => number * 8 + wireType === tag);
    if (!field) throw new Error(`${message} has no field with the tag ${tag}`);
    const value = readField(field, pieces);
    if (field.label === "repeated") object[field.key].push(value);
    else object[field.key] = value;
  }
  for (const { key, type, label } of FIELDS.get(message)) {
    if (label === "" && type in SCALARS) object[key] ??= { string: "", bool: false }[type] ?? 0;
  }
  return object;
}

function readField({ type, wireType, unpack }, pieces) {
  if (wireType === 0) {
    const number = readVarint(pieces);
    return type === "bool" ? number === 1n : unpack(Number(type === "int64" ? BigInt.asIntN(64, number) : number));
  }
  const length = wireType === 1 ? 8 : Number(readVarint(pieces));
  const bytes = pieces.bytes.subarray(pieces.at, (pieces.at += length));
  if (SCHEMA.has(type)) return read(type, bytes);
  return type === "string" ? bytes.toString() : unpack(bytes);
}

function readVarint(pieces) {
  let number = 0n;
  for (let shift = 0n; ; shift += 7n) {
    const byte = pieces.bytes[pieces.at++];
    number |= BigInt(byte & 127) << shift;
    if (byte < 128) return number;
  }
}

/** A server's frame as it comes out of a socket; of a type that nobody knows, one with an unknown number. */
export function encodeFrame({ type, id, ...fields }) {
  const isKnown = FIELDS.get("ServerFrame").some(({ name }) => name === type);
  const bytes = write("ServerFrame", isKnown ? { id, [type]: fields } : { id });
  return Uint8Array.from([...bytes, ...(isKnown ? [] : [UNKNOWN_FRAME * 8 + 2, 0])]).buffer;
}

/** A client's frame. */
export function decodeFrame(bytes) {
  const { id, ...frames } = read("ClientFrame", Buffer.from(bytes));
  const [[type, fields]] = Object.entries(frames);
  return { type, ...(id === undefined ? {} : { id }), ...fields };
}
