// Messages of the wire, version 1. `docs/spec/wire.md` is their law.

import { type ErrorRecord, type Schema, SYSCALLS, type SyscallName, assertValid } from "@ergos/kernel";
import { protocolError } from "./frame.ts";

export const WIRE_VERSIONS: readonly number[] = [1];
/** Items that a stream may send before the receiver grants more. */
export const INITIAL_CREDIT = 256;
/** Calls that a client may have under way; beyond it the host stops reading from it. */
export const CALLS_MAX = 256;
/** Calls of a client that wait for something to come; one more is refused. */
export const WAITING_MAX = 10_000;

export type ClientMessage =
  | { readonly t: "hello"; readonly versions: readonly number[]; readonly client: string; readonly pass?: string }
  /** `rid` names a mutation, so that a repetition after a lost reply returns the first outcome. */
  | {
      readonly t: "call";
      readonly id: number;
      readonly name: string;
      readonly args: Readonly<Record<string, unknown>>;
      readonly rid?: string;
      /** The raw bytes are the list of byte strings `entries`, of these lengths, one behind the other. */
      readonly lengths?: readonly number[];
      /** The place of the step in which it is made, of one that its host waits for when it ends. */
      readonly step?: string;
      /** The client may give the call up: it has a signal for it. */
      readonly cancel?: boolean;
    }
  | { readonly t: "credit"; readonly id: number; readonly n: number }
  | { readonly t: "cancel"; readonly id: number };

export type HostMessage =
  | {
      readonly t: "welcome";
      readonly version: number;
      readonly pid: number;
      readonly host: { readonly version: string; readonly pid: number };
    }
  | { readonly t: "result"; readonly id: number; readonly value?: unknown; readonly isBytes?: boolean }
  | { readonly t: "error"; readonly id: number; readonly error: ErrorRecord }
  /** The call is a stream: items follow. */
  | { readonly t: "stream"; readonly id: number }
  /** With `hasBytes` the raw bytes are its field `bytes`. */
  | { readonly t: "item"; readonly id: number; readonly value: unknown; readonly hasBytes?: true }
  | { readonly t: "end"; readonly id: number }
  | { readonly t: "bye"; readonly error: ErrorRecord };

const id: Schema = { type: "integer", minimum: 1 };
const CLIENT_SCHEMAS: Readonly<Record<ClientMessage["t"], Schema>> = {
  hello: {
    type: "object",
    properties: {
      versions: { type: "array", items: { type: "integer" }, maxItems: 64 },
      client: { type: "string", maxLength: 256 },
      pass: { type: "string", maxLength: 32_768 },
    },
    required: ["versions", "client"],
  },
  call: {
    type: "object",
    properties: {
      id,
      name: { type: "string", maxLength: 64 },
      args: { type: "object" },
      rid: { type: "string", maxLength: 128 },
      cancel: { type: "boolean" },
      lengths: { type: "array", items: { type: "integer", minimum: 0 }, maxItems: 1000 },
    },
    required: ["id", "name", "args"],
  },
  credit: {
    type: "object",
    properties: { id, n: { type: "integer", minimum: 1, maximum: 1_000_000 } },
    required: ["id", "n"],
  },
  cancel: { type: "object", properties: { id }, required: ["id"] },
};

/** @throws {EPROTO} {EINVAL} it is no message of a client */
export function parseClientMessage(message: unknown): ClientMessage {
  const kind = kindOf(message);
  if (!Object.hasOwn(CLIENT_SCHEMAS, kind)) throw protocolError(`a message of the kind ${JSON.stringify(kind)}`);
  assertValid(CLIENT_SCHEMAS[kind as ClientMessage["t"]], message, `a ${kind} message`);
  // The schema has just vouched for it.
  return message as ClientMessage;
}

/** @throws {EPROTO} it is no message of a host */
export function parseHostMessage(message: unknown): HostMessage {
  const kind = kindOf(message);
  if (!["welcome", "result", "error", "stream", "item", "end", "bye"].includes(kind))
    throw protocolError(`a message of the kind ${JSON.stringify(kind)}`);
  // A host is trusted by its clients: they are its owner.
  return message as HostMessage;
}

function kindOf(message: unknown): string {
  if (typeof message === "object" && message !== null && "t" in message && typeof message.t === "string")
    return message.t;
  throw protocolError("a message without a kind");
}

/** Whether a call has its argument `bytes` beside the JSON. */
export function takesBytes(name: SyscallName): boolean {
  const schema: Schema = SYSCALLS[name].schema;
  return schema.properties?.["bytes"]?.format === "bytes";
}
