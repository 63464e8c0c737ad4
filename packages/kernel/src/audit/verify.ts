// Verification of the audit trail: the first record that is not as it was sealed, by name.

import { type StoreReader, entriesOf, logOf } from "../abi/entries.ts";
import type { Platform } from "../abi/platform.ts";
import type { Signer } from "../abi/signer.ts";
import { isKernelError } from "../base/errno.ts";
import { SEQ_ZERO, type Seq } from "../base/id.ts";
import type { Committer } from "../ipc/committer.ts";
import {
  AUDIT_LOG,
  type AuditPayload,
  type AuditRecord,
  GENESIS,
  LAST_SEAL_KEY,
  LEAF_LENGTH,
  SEAL_LOG,
  type Seal,
  decodePayload,
  headText,
  parseLastSeal,
  parseObject,
  payloadKey,
  signedText,
} from "./record.ts";
import { leafOf } from "./trail.ts";

export interface AuditFault {
  readonly what:
    | "altered"
    | "missing"
    | "added"
    | "reordered"
    | "seal altered"
    | "seal missing"
    | "signature"
    | "payload altered"
    | "payload missing"
    | "unreadable";
  /** The record or seal, as `<epoch>-<number>` where it can be read, else its place in the log. */
  readonly record: string;
  readonly detail: string;
}

export interface AuditReport {
  readonly records: number;
  readonly seals: number;
  /** Seals that carry a signature of a key of this host. */
  readonly signed: number;
  /** Records since the last seal, which nothing vouches for yet. */
  readonly unsealed: number;
  /** Payloads that were removed on somebody's word. */
  readonly redacted: number;
  readonly fault?: AuditFault;
}

export interface ShownRecord extends AuditRecord {
  readonly seq: Seq;
  readonly payload?: AuditPayload;
}

/** Records behind a position, oldest first. */
export async function* auditRecords(
  store: StoreReader,
  after: Seq = SEQ_ZERO,
): AsyncGenerator<ShownRecord, void, undefined> {
  for await (const { seq, value } of logOf(store, AUDIT_LOG, after)) {
    const record = parseRecord(String(value));
    if (record !== undefined) yield { ...record, seq };
  }
}

/** Forgets what records were about that are not in the trail any more. */
export async function forgetPayloads(store: StoreReader, committer: Pick<Committer, "commit">): Promise<void> {
  let first: ShownRecord | undefined;
  for await (const record of auditRecords(store)) {
    first = record;
    break;
  }
  const kept = first === undefined ? undefined : numbersOf(first.id);
  if (kept === undefined) return;
  const gone: string[] = [];
  for await (const { key } of entriesOf(store, payloadKey(""))) {
    const [epoch, number] = numbersOf(key.slice(payloadKey("").length)) ?? kept;
    if (epoch < kept[0] || (epoch === kept[0] && number < kept[1])) gone.push(key);
  }
  for (let at = 0; at < gone.length; at += FORGOTTEN_AT_ONCE)
    await committer.commit({ deletes: gone.slice(at, at + FORGOTTEN_AT_ONCE) });
}

const FORGOTTEN_AT_ONCE = 1000;

/** Start of the host and number of a record; both rise. */
function numbersOf(id: string): readonly [number, number] | undefined {
  const [, epoch, number] = /^(\d+)-(\d+)$/.exec(id) ?? [];
  return epoch === undefined || number === undefined ? undefined : [Number(epoch), Number(number)];
}

/** A record with what it was about, if that is still there. */
export async function withPayload(store: StoreReader, record: ShownRecord): Promise<ShownRecord> {
  const entry = record.hash === undefined ? undefined : await store.get(payloadKey(record.id));
  const payload = entry === undefined ? undefined : decodePayload(String(entry.value));
  return payload === undefined ? record : { ...record, payload };
}

/** What a trail is held against, beside itself. */
export interface AuditWitness {
  readonly signer?: Signer | undefined;
  /** Head of the newest seal as the running host knows it. */
  readonly head?: string;
  /** A head that was kept outside of the store. */
  readonly anchored?: string | undefined;
}

type Counts = { -readonly [Name in keyof Omit<AuditReport, "fault">]: number };

/** Holds the whole trail against its seals. */
export async function verifyAudit(store: StoreReader, platform: Platform, witness: AuditWitness): Promise<AuditReport> {
  const found: Counts = { records: 0, seals: 0, signed: 0, unsealed: 0, redacted: 0 };
  try {
    return await verifyAll(store, platform, witness, found);
  } catch (error) {
    if (!isKernelError(error) || error.code !== "ECORRUPT") throw error;
    const record = `record ${found.records + 1} of the trail, or one soon after it`;
    return { ...found, fault: { what: "unreadable", record, detail: error.message } };
  }
}

async function verifyAll(
  store: StoreReader,
  platform: Platform,
  { signer, head: known, anchored }: AuditWitness,
  found: Counts,
): Promise<AuditReport> {
  const heads = new Set<string>();
  const records = logOf(store, AUDIT_LOG);
  let ahead = await records.next();
  let head: string | undefined;
  const { redactions, trims } = await removals(store);
  for await (const entry of logOf(store, SEAL_LOG)) {
    const name = `seal ${found.seals + 1}`;
    const seal = parseSeal(String(entry.value));
    const fault = seal === undefined ? broken(name) : sealFault(seal, head, trims, name, platform, signer);
    if (seal === undefined || fault !== undefined) return { ...found, ...(fault === undefined ? {} : { fault }) };
    found.seals++;
    if (seal.signature !== undefined) found.signed++;
    ({ head } = seal);
    heads.add(head);
    const within: { readonly text: string; readonly seq: Seq }[] = [];
    for (; ahead.done !== true && ahead.value.seq <= seal.through; ahead = await records.next())
      within.push({ text: String(ahead.value.value), seq: ahead.value.seq });
    const wrong = recordFault(within, seal, platform);
    if (wrong !== undefined) return { ...found, fault: wrong };
    for (const { text } of within) {
      const lost = await payloadFault(text, store, platform, redactions);
      if (lost === "redacted") found.redacted++;
      else if (lost !== undefined) return { ...found, fault: lost };
      found.records++;
    }
  }
  const missing = await missingSeals(store, head, { known, anchored, heads, trims });
  if (missing !== undefined)
    return { ...found, fault: { what: "seal missing", record: `seal ${found.seals + 1}`, detail: missing } };
  for (; ahead.done !== true; ahead = await records.next()) {
    const lost = await payloadFault(String(ahead.value.value), store, platform, redactions);
    if (lost === "redacted") found.redacted++;
    else if (lost !== undefined) return { ...found, fault: lost };
    found.records++;
    found.unsealed++;
  }
  return found;
}

/** What shows that seals at the end of the chain, or all of it, are gone. */
async function missingSeals(
  store: StoreReader,
  head: string | undefined,
  what: {
    readonly known: string | undefined;
    readonly anchored: string | undefined;
    readonly heads: ReadonlySet<string>;
    readonly trims: ReadonlySet<string>;
  },
): Promise<string | undefined> {
  const { known, anchored, heads, trims } = what;
  const entry = await store.get(LAST_SEAL_KEY);
  const last = entry === undefined ? undefined : parseLastSeal(String(entry.value));
  if (entry !== undefined && last === undefined) return "what the store knows of the newest seal cannot be read";
  if ((last?.head ?? "") !== (head ?? GENESIS))
    return "seals at the end of the chain are gone, or what the store knows of the newest is";
  if (known !== undefined && known !== (head ?? GENESIS)) return "the running host has made another newest seal";
  if (anchored !== undefined && !heads.has(anchored) && !trims.has(anchored))
    return "a head that was kept outside of the store is not in the chain: the store was set back";
  return undefined;
}

/** A seal against the one before it, and against itself. */
function sealFault(
  seal: Seal,
  before: string | undefined,
  trims: ReadonlySet<string>,
  name: string,
  platform: Platform,
  signer: Signer | undefined,
): AuditFault | undefined {
  if (platform.hash(headText(seal)) !== seal.head || seal.leaves.length !== seal.count * LEAF_LENGTH)
    return { what: "seal altered", record: name, detail: "its head is not the hash of what it holds" };
  // The first that is kept follows the genesis, or one that has been trimmed with its records.
  if (before !== undefined && seal.prev !== before)
    return { what: "seal missing", record: name, detail: "it does not follow the seal before it" };
  if (before === undefined && seal.prev !== GENESIS && !trims.has(seal.prev))
    return {
      what: "seal missing",
      record: name,
      detail: "what was before it is gone, and no record tells who removed it",
    };
  if (seal.signature === undefined || seal.key === undefined) {
    return signer === undefined
      ? undefined
      : { what: "signature", record: name, detail: "it is not signed, and this host signs its seals" };
  }
  if (signer !== undefined && !signer.verify(signedText(seal.head), seal.signature, seal.key))
    return { what: "signature", record: name, detail: `its signature is not of key ${seal.key} of this host` };
  return undefined;
}

/** The first record that differs from its seal. */
function recordFault(
  records: readonly { readonly text: string; readonly seq: Seq }[],
  seal: Seal,
  platform: Platform,
): AuditFault | undefined {
  const sealed = Array.from({ length: seal.count }, (_, at) =>
    seal.leaves.slice(at * LEAF_LENGTH, (at + 1) * LEAF_LENGTH),
  );
  const found = records.map(({ text }) => leafOf(platform, text));
  const at = sealed.findIndex((leaf, index) => leaf !== found[index]);
  if (at < 0) {
    const extra = records[sealed.length];
    return extra === undefined ? undefined : { what: "added", record: nameOf(extra), detail: "no seal knows it" };
  }
  const here = records[at];
  const name = here === undefined ? `record ${at + 1} behind position ${seal.after}` : nameOf(here);
  const isKnown = (leaf: string | undefined): boolean => leaf !== undefined && sealed.includes(leaf);
  if (records.length < sealed.length && (here === undefined || isKnown(found[at])))
    return {
      what: "missing",
      record: `record ${at + 1} behind position ${seal.after}`,
      detail: here === undefined ? "nothing is in its place" : `${name} is in its place`,
    };
  if (records.length > sealed.length && !isKnown(found[at]))
    return { what: "added", record: name, detail: "no seal knows it" };
  if (isKnown(found[at])) return { what: "reordered", record: name, detail: `it stands in the place of another` };
  return { what: "altered", record: name, detail: "it is not as it was sealed" };
}

/** A payload that is not what its record vouches for; `redacted` when it was removed on somebody's word. */
async function payloadFault(
  text: string,
  store: StoreReader,
  platform: Platform,
  redactions: ReadonlySet<string>,
): Promise<AuditFault | "redacted" | undefined> {
  const record = parseRecord(text);
  if (record === undefined)
    return { what: "unreadable", record: text.slice(0, 40), detail: "it is no record, and no listing shows it" };
  if (record.hash === undefined) return undefined;
  const entry = await store.get(payloadKey(record.id));
  if (entry === undefined) {
    return redactions.has(record.id)
      ? "redacted"
      : { what: "payload missing", record: record.id, detail: "it is gone, and no record tells who removed it" };
  }
  if (platform.hash(String(entry.value)) === record.hash) return undefined;
  return { what: "payload altered", record: record.id, detail: "it is not what its record vouches for" };
}

/** What was removed on somebody's word: payloads by their records, and seals by the head of the last. */
async function removals(
  store: StoreReader,
): Promise<{ readonly redactions: ReadonlySet<string>; readonly trims: ReadonlySet<string> }> {
  const redactions = new Set<string>();
  const trims = new Set<string>();
  for await (const bare of auditRecords(store)) {
    if (bare.outcome !== "ok" || (bare.call !== "auditRedact" && bare.call !== "auditTrim")) continue;
    const record = await withPayload(store, bare);
    const args = (record.payload?.args ?? {}) as { readonly ids?: readonly string[]; readonly head?: string };
    if (record.call === "auditRedact") for (const id of args.ids ?? []) redactions.add(id);
    if (record.call === "auditTrim" && args.head !== undefined) trims.add(args.head);
  }
  return { redactions, trims };
}

/** The newest seal before an instant, and its place in the log: where the trail may be cut. */
export async function sealBefore(
  store: StoreReader,
  before: number,
): Promise<{ readonly seal: Seal; readonly at: Seq } | undefined> {
  let found: { readonly seal: Seal; readonly at: Seq } | undefined;
  for await (const { seq, value } of logOf(store, SEAL_LOG)) {
    const seal = parseSeal(String(value));
    if (seal === undefined || seal.at >= before) break;
    found = { seal, at: seq };
  }
  return found;
}

const nameOf = ({ text, seq }: { readonly text: string; readonly seq: Seq }): string =>
  parseRecord(text)?.id ?? `the record at position ${seq}`;

const broken = (name: string): AuditFault => ({ what: "seal altered", record: name, detail: "it cannot be read" });

const parseRecord = (text: string): AuditRecord | undefined => parseObject<AuditRecord>(text, "id");
const parseSeal = (text: string): Seal | undefined => {
  const seal = parseObject<Seal>(text, "leaves");
  return typeof seal?.leaves === "string" ? seal : undefined;
};
