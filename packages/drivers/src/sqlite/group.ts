// The log record of a group: the commits of one turn of the loop, in one row.
//
// head  {"v":1,"c":[commit…]}, a commit is [seq, [[key, value]…], [deleted key…], [[log, value]…], [[log, through]…]]
//       a value is a text, or [offset, length] into the body
// body  the raw bytes of all values, one after the other; NULL when there are none

import { type CommitRecord, type Effects, KernelError, type Seq, type Value, toSeq } from "@ergos/kernel";

const FORMAT = 1;

/** Collects commits into one record. */
export class GroupWriter {
  #head = "";
  #parts: Uint8Array[] = [];
  #bodyBytes = 0;

  get bytes(): number {
    return this.#head.length + this.#bodyBytes;
  }

  get isEmpty(): boolean {
    return this.#head === "";
  }

  add(seq: Seq, { puts, deletes, appends, trims }: Effects): void {
    let text = this.#head === "" ? `[${seq},[` : `,[${seq},[`;
    for (let at = 0; at < puts.length; at++) text += this.#pair(at, puts[at]?.key ?? "", puts[at]?.value ?? "");
    text += deletes.length === 0 ? "],[],[" : `],${JSON.stringify(deletes)},[`;
    for (let at = 0; at < appends.length; at++)
      text += this.#pair(at, appends[at]?.log ?? "", appends[at]?.value ?? "");
    text += trims.length === 0 ? "],[]]" : `],${JSON.stringify(trims.map(({ log, through }) => [log, through]))}]`;
    this.#head += text;
  }

  /** The finished record; the writer is empty again. */
  take(): { readonly head: string; readonly body: Uint8Array | null } {
    const head = `{"v":${FORMAT},"c":[${this.#head}]}`;
    const body = this.#parts.length === 0 ? null : Buffer.concat(this.#parts);
    this.#head = "";
    this.#parts = [];
    this.#bodyBytes = 0;
    return { head, body };
  }

  #pair(at: number, name: string, value: Value): string {
    return `${at === 0 ? "" : ","}[${JSON.stringify(name)},${this.#value(value)}]`;
  }

  #value(value: Value): string {
    if (typeof value === "string") return JSON.stringify(value);
    const offset = this.#bodyBytes;
    this.#parts.push(value);
    this.#bodyBytes += value.length;
    return `[${offset},${value.length}]`;
  }
}

type StoredValue = string | readonly [number, number];
type StoredCommit = readonly [
  seq: number,
  puts: readonly (readonly [string, StoredValue])[],
  deletes: readonly string[],
  appends: readonly (readonly [string, StoredValue])[],
  trims: readonly (readonly [string, number])[],
];

/** The commits of a record. */
export function decodeGroup(head: string, body: Uint8Array | null): readonly CommitRecord[] {
  // Written by `GroupWriter` only.
  const record = JSON.parse(head) as { readonly v: number; readonly c: readonly StoredCommit[] };
  if (record.v !== FORMAT) throw newerFormat("a log record", record.v, FORMAT);
  return record.c.map(([seq, puts, deletes, appends, trims]) => ({
    seq: toSeq(seq),
    puts: puts.map(([key, value]) => ({ key, value: load(value, body) })),
    deletes,
    appends: appends.map(([log, value]) => ({ log, value: load(value, body) })),
    trims: trims.map(([log, through]) => ({ log, through: toSeq(through) })),
  }));
}

export const newerFormat = (what: string, found: number, known: number): KernelError =>
  new KernelError(
    "EVERSION",
    `${what} has format ${found}, this program reads up to ${known}; open the directory with a newer ErgOS`,
  );

function load(value: StoredValue, body: Uint8Array | null): Value {
  if (typeof value === "string") return value;
  const [offset, length] = value;
  if (body === null || offset + length > body.length)
    throw new KernelError("ECORRUPT", "a log record names bytes that it does not hold");
  return body.subarray(offset, offset + length);
}
