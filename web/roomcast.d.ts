/** Types of the Roomcast client, client protocol version 1 (in JSON or protobuf). */

export type State = "idle" | "connecting" | "connected" | "reconnecting" | "closed";
export type ContentType = "TEXT" | "AUDIO" | "TRANSLATION" | "SYSTEM" | "STATE";

/** Codes of the protocol, then codes of this module. */
export type ErrorCode =
  | "BAD_REQUEST" | "UNAUTHENTICATED" | "FORBIDDEN" | "NOT_FOUND" | "NOT_JOINED" | "ROOM_FULL" | "ROOM_DELETED"
  | "TOO_MANY_ROOMS" | "TOO_LARGE" | "RATE_LIMITED" | "UNAVAILABLE" | "INTERNAL"
  | "TIMEOUT" | "CLOSED" | "NOT_CONNECTED" | "LEFT" | "BAD_FRAME" | "BAD_OPTION";

export interface Position {
  epoch: string;
  offset: number;
}

/** Plain data: it survives JSON. */
export interface Positions {
  /** In the user's own log. */
  own: Position | null;
  rooms: Record<string, Position>;
}

export interface Gap {
  /** null: messages to the user. */
  room: string | null;
  /**
   * `GAP`: the server said so while connected. On coming back: `NOT_RECOVERED`, the log no longer has what was missed; `NO_LOG`,
   * there was no position to come back to, because the log is switched off or its store did not answer.
   */
  cause: "GAP" | "NOT_RECOVERED" | "NO_LOG";
  /** The last position before the hole, when one was known. */
  from: Position | null;
  /** Where the log goes on: messages after `from` up to here may be missing. null when it keeps no positions. */
  to: Position | null;
}

export interface RoomcastOptions {
  /** `ws://` or `wss://` address of `/ws` on any node, or of a balancer in front of them. */
  url: string;
  /** Required unless `token` names the user. */
  userId?: string;
  userName?: string;
  /** 1-64 of `A-Za-z0-9._-`; random by default, and the same on every reconnect. */
  clientId?: string;
  /** Rooms to be in from the first session on. */
  rooms?: string[];
  /**
   * Told where messages of a room, or to the user (`room: null`), may be missing: between the events before and after the call.
   * Required, because an application that does not look at it shows a hole as if there were none; null says that it does without.
   * Messages to everyone have no log: each loss of a session is one for them.
   */
  onGap: ((gap: Gap) => void) | null;
  /** Where an earlier life of the application stood: its `client.positions`. What was missed since comes, or `onGap` is told. */
  resume?: Positions;
  /** A JWT, or a function asked for one before every attempt to connect. */
  token?: string | (() => string | undefined);
  /**
   * When a push that wants it is acknowledged: on `receipt` (default), or when every listener of `push` has returned and the
   * promises they returned came true (`handler`). A listener that throws or rejects acknowledges nothing.
   */
  ack?: "receipt" | "handler";
  /**
   * How frames are written on the wire; the application sees the same. `json` (default): every node takes it. `proto`: smaller, and
   * bytes travel as they are; asks for the sub-protocol `pubsub.proto.v1`. Throws `BAD_OPTION` for anything else.
   */
  protocol?: "json" | "proto";
  /** Tell the node when sampled pushes came: the last span of their trace. Default false. */
  reportReceived?: boolean;
  /** Time for an answer to join, leave and ping; default 10,000. */
  requestTimeoutMs?: number;
  /** false: never ask for the node list, always come back to `url`. */
  discover?: boolean;
  WebSocket?: new (url: string, protocol?: string) => WebSocketLike;
  fetch?: (url: string, init?: RequestInit) => Promise<Pick<Response, "ok" | "json">>;
  clock?: Clock;
  /** Uniform in [0, 1). */
  random?: () => number;
}

export interface WebSocketLike {
  readonly readyState: number;
  /** Set to `arraybuffer`. */
  binaryType?: string;
  onmessage: ((event: any) => void) | null;
  onclose: ((event: any) => void) | null;
  onerror: ((event: any) => void) | null;
  /** Text, or bytes with `protocol: "proto"`. */
  send(data: string | Uint8Array): void;
  close(code?: number, reason?: string): void;
}

export interface Clock {
  /** Milliseconds since 1970. */
  now(): number;
  setTimeout(callback: () => void, ms: number): unknown;
  clearTimeout(timer: any): void;
}

export interface Content {
  type: ContentType;
  /** Text; absent when `data_base64` is there. */
  data?: string;
  data_base64?: string;
  /** The publisher's own time. */
  timestamp?: number;
}

export interface StateEvent {
  state: State;
  previous: State;
  /** Address of the session, or of the attempt in the air. */
  url?: string;
  node_id?: string;
  /** Attempts since the last session that lasted. */
  attempt?: number;
  /** While waiting: time until the next attempt. */
  delay_ms?: number;
  /** Close code and reason that led here. */
  code?: number;
  reason?: string;
}

export interface WelcomeEvent extends Partial<Position> {
  type: "welcome";
  protocol: number;
  session_id: string;
  node_id: string;
  user_id: string;
  client_id: string;
  ping_interval_ms: number;
  server_time_ms: number;
  limits?: { frame_bytes?: number; rooms?: number };
  recovered?: boolean;
  url: string;
  /** True when this session replaced one that was still open (DRAINING). */
  is_move: boolean;
  /** What became of the messages to the user since the former session. */
  continuity: Continuity;
  /** Where the user's own log stands for this client. */
  position: Position | null;
}

/**
 * What became of the messages between the former session and this one: `first` = there was none; `recovered` = nothing is
 * missing, what was missed follows; `unbroken` = nothing is missing; `lost` = the log no longer has all of them; `unknown` = there
 * was no log to recover them from. After the last two `onGap` is called.
 */
export type Continuity = "first" | "recovered" | "unbroken" | "lost" | "unknown";

export interface JoinedEvent extends Partial<Position> {
  type: "joined";
  id?: number;
  room_id: string;
  /** Users with a seat. */
  members: number;
  recovered?: boolean;
  continuity: Continuity;
  /** Where the room's log stands for this client. */
  position: Position | null;
  /** Membership DURABLE: the offset up to which this user has acknowledged messages of this log, on any client. */
  read_offset?: number;
}

export interface LeftEvent {
  type: "left";
  id?: number;
  room_id: string;
  /** `REFUSED`: a room that one was in could not be joined again; `code` says why. */
  reason: "LEFT" | "KICKED" | "EVICTED" | "ROOM_DELETED" | "REFUSED";
  code?: ErrorCode;
}

export interface NoticeEvent {
  type: "notice";
  reason: string;
  reconnect_after_ms?: number;
}

export interface NodeInfo {
  node_id: string;
  url: string;
  /** As the controller last knew; absent when none answered. */
  sessions?: number;
  state: "starting" | "ready" | "draining";
}

/** A raw frame. The address carries no query, so no token. */
export interface FrameEvent {
  direction: "sent" | "received";
  /** The frame in JSON: with `protocol: "proto"` what it says, or the `BAD_FRAME` that it counts as. */
  text: string;
  url: string;
  at_ms: number;
}

export interface RoomInfo {
  room_id: string;
  state: "joining" | "joined" | "leaving";
  members: number | undefined;
  /** As the last `joined` said; membership DURABLE only. */
  read_offset: number | undefined;
  position: Position | null;
}

/** An `ack` frame left. */
export interface AcknowledgedEvent {
  message_ids: string[];
  at_ms: number;
}

export interface Events {
  state: StateEvent;
  welcome: WelcomeEvent;
  joined: JoinedEvent;
  left: LeftEvent;
  push: Push;
  notice: NoticeEvent;
  /** Every `error` frame, those that also reject a promise included. */
  error: RoomcastError;
  acknowledged: AcknowledgedEvent;
  nodes: NodeInfo[];
  frame: FrameEvent;
}

export class RoomcastError extends Error {
  constructor(code: ErrorCode, message: string, details?: { id?: number; room_id?: string; retry_after_ms?: number });
  readonly code: ErrorCode;
  readonly id?: number;
  readonly room_id?: string;
  readonly retry_after_ms?: number;
  /** True when the client itself will ask again. */
  readonly retrying: boolean;
}

/** One message; repeats never arrive. */
export class Push {
  constructor(frame: object, receivedAtMs: number, ageMs?: number | null);
  readonly type: "push";
  readonly target: "room" | "user" | "all";
  readonly message_id: string;
  /** Only for target `room`. */
  readonly room_id?: string;
  readonly epoch?: string;
  readonly offset?: number;
  readonly content: Content;
  /** When the platform accepted the push. */
  readonly timestamp_ms: number;
  readonly ack?: boolean;
  readonly traceparent?: string;
  readonly received_at_ms: number;
  /** From its acceptance to its arrival, by the node's clock; null while that is not known. */
  readonly age_ms: number | null;
  /** 32 hex digits; null when the push is not sampled. */
  readonly traceId: string | null;
  /** True when the publisher sent bytes and not text. */
  readonly isBinary: boolean;
  /** In a buffer of their own, each time. Throws when `data_base64` is not base64. */
  readonly bytes: Uint8Array;
  /** null for bytes that are not UTF-8. */
  readonly text: string | null;
}

export class RoomcastClient {
  constructor(options: RoomcastOptions);
  readonly state: State;
  readonly clientId: string;
  readonly nodeId: string | null;
  readonly sessionId: string | null;
  readonly rooms: RoomInfo[];
  /** What the application was handed so far; see `RoomcastOptions.resume`. */
  readonly positions: Positions;
  readonly nodes: NodeInfo[];
  /**
   * Returns a function that takes the listener away again. What a listener of `push` returns matters with `ack: "handler"` only.
   */
  on<T extends keyof Events>(type: T, listener: (event: Events[T]) => unknown): () => void;
  off<T extends keyof Events>(type: T, listener: (event: Events[T]) => unknown): void;
  connect(): Promise<WelcomeEvent>;
  join(roomId: string, options?: { timeoutMs?: number }): Promise<JoinedEvent>;
  leave(roomId: string, options?: { timeoutMs?: number }): Promise<LeftEvent>;
  /** Throws for content that the form of the frames cannot say: with `protocol: "proto"` an unknown type, a time that is no integer. */
  publish(roomId: string, content: Content): number;
  ping(options?: { timeoutMs?: number }): Promise<number>;
  /** The node's clock at a local time, now by default; null while disconnected. */
  serverTime(localMs?: number): number | null;
  reconnect(): void;
  close(): void;
}

export function httpOrigin(wsUrl: string): string;
export function isReconnectable(code: number): boolean;
export function decodeBase64(text: string): Uint8Array;
