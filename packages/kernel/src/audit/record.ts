// Records of the audit trail and the seals over them. `docs/spec/audit.md` is their law.
//
// A record stands in the log `audit`, in the commit of its effect. What it was about stands beside it under
// `audit/<id>` with a salt, and the record holds the hash of both: a payload can be removed without touching
// the record. Seals stand in the log `audit.seals`: the hashes of the records since the seal before, and a head
// over them and the head before, signed.

import type { Seq } from "../base/id.ts";

export const AUDIT_LOG = "audit";
export const SEAL_LOG = "audit.seals";
/** Position and head of the newest seal, and where those before it begin. */
export const LAST_SEAL_KEY = "sys/audit-seal";
export const AUDIT_FORMAT = 1;
/** Hexadecimal digits of a record's hash in a seal. */
export const LEAF_LENGTH = 32;
/** The head before the first seal. */
export const GENESIS = "0".repeat(64);

export const payloadKey = (id: string): string => `audit/${id}`;

export interface AuditRecord {
  /** `<epoch>-<number>`: the start of the host, and the number of the record in it. */
  readonly id: string;
  /** Wall-clock milliseconds. */
  readonly at: number;
  readonly pid: number;
  readonly user: string;
  readonly call: string;
  readonly outcome: "ok" | "denied" | "failed";
  /** Errno of what failed or was denied. */
  readonly code?: string;
  /** How often the same was denied since the record of its first time; how many steps ended in one turn. */
  readonly count?: number;
  /** What it was about, where that may stand in the clear: a place of the process's own. */
  readonly on?: string;
  /** SHA-256 of salt and payload. */
  readonly hash?: string;
}

export interface AuditPayload {
  readonly right: string;
  readonly resource: string;
  /** Arguments without contents. */
  readonly args?: unknown;
}

/** The stored form of a payload: its salt, a space, and its JSON; the hash is over all of it. */
export const encodePayload = (salt: string, payload: AuditPayload): string => `${salt} ${JSON.stringify(payload)}`;

/** What a stored payload says; nothing when somebody has damaged it. */
export const decodePayload = (text: string): AuditPayload | undefined =>
  parseObject<AuditPayload>(text.slice(text.indexOf(" ") + 1), "right");

/** A JSON object with a field, or nothing: what somebody may have altered is no error of ours. */
export function parseObject<T>(text: string, field: string): T | undefined {
  try {
    const value = JSON.parse(text) as unknown;
    // Its other fields are held against a hash.
    return typeof value === "object" && value !== null && field in value ? (value as T) : undefined;
  } catch {
    return undefined;
  }
}

export interface LastSeal {
  readonly through: Seq;
  readonly head: string;
  readonly recent: readonly Seq[];
}

export function parseLastSeal(text: string): LastSeal | undefined {
  const last = parseObject<LastSeal>(text, "head");
  const isSound = Number.isSafeInteger(last?.through) && typeof last?.head === "string" && Array.isArray(last.recent);
  return isSound ? last : undefined;
}

export interface Seal {
  readonly v: number;
  readonly at: number;
  /** Position behind which its records begin, and that of its last record. */
  readonly after: Seq;
  readonly through: Seq;
  readonly count: number;
  /** Hashes of its records, one behind the other. */
  readonly leaves: string;
  readonly prev: string;
  readonly head: string;
  readonly key?: string;
  readonly signature?: string;
}

/** What the head of a seal is the hash of. */
export const headText = (seal: Pick<Seal, "at" | "after" | "through" | "count" | "leaves" | "prev">): string =>
  `ergos audit seal ${AUDIT_FORMAT}\n${seal.prev}\n${seal.at} ${seal.after} ${seal.through} ${seal.count}\n${seal.leaves}`;

/** What is signed of it. */
export const signedText = (head: string): string => `ergos audit head ${AUDIT_FORMAT}\n${head}`;
