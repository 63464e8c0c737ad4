// The audit trail: one record for each call that changes something, and for each denial.
//
// U1  A record is in the commit of its effect; what failed, or left no commit, has a commit of its own.
//     Steps of a process that end in one turn and that nobody waits for are one record, with their number.
// U2  Equal denials within a second are two records at most: the first, and one with the count of the others.
// U3  Every record is sealed, at the latest when the host closes or starts again: its hash is in a chain whose
//     heads are signed. What was altered, removed, added or moved behind a seal is found.
// U4  A payload may be removed, a record may not: who removes one is a record too.

import type { Batch, Metastore } from "../abi/metastore.ts";
import type { Platform, Timer } from "../abi/platform.ts";
import type { AuditAnchor, Signer } from "../abi/signer.ts";
import { isKernelError } from "../base/errno.ts";
import { SEQ_ZERO, type Seq } from "../base/id.ts";
import type { Committer, Rider } from "../ipc/committer.ts";
import {
  AUDIT_FORMAT,
  AUDIT_LOG,
  type AuditPayload,
  type AuditRecord,
  GENESIS,
  LAST_SEAL_KEY,
  LEAF_LENGTH,
  SEAL_LOG,
  type Seal,
  encodePayload,
  headText,
  parseLastSeal,
  payloadKey,
  signedText,
} from "./record.ts";

const EPOCH_KEY = "sys/epoch";
/** Records after which a seal is made, and how long a record waits for one. */
const SEAL_EVERY = 256;
const SEAL_AFTER_MS = 1000;
/** Beginnings of the newest seals that are remembered. */
const RECENT_MAX = 64;
/** Equal denials within this time are one record. */
const COLLAPSE_MS = 1000;
const COLLAPSED_MAX = 1000;
const SALT_DIGITS = 32;
/** Random bytes taken at a time: 64 salts. */
const SALT_BLOCK = 1024;

/** Who did what, as the trail is told. */
export interface Act {
  readonly pid: number;
  readonly user: string;
  readonly call: string;
  /** A place of the process's own, which may stand in the clear. */
  readonly on?: string;
  readonly payload?: AuditPayload;
}

/** The record of a call under way: it goes into the first commit that the call makes. */
export class AuditDraft implements Rider {
  readonly #trail: AuditTrail;
  #act: Act;
  #isAboard = false;

  constructor(trail: AuditTrail, act: Act) {
    this.#trail = trail;
    this.#act = act;
  }

  /** Adds to what the record is about, before a commit. */
  add(args: Readonly<Record<string, unknown>>): void {
    const { payload } = this.#act;
    if (payload === undefined) return;
    this.#act = { ...this.#act, payload: { ...payload, args: { ...(payload.args as object | undefined), ...args } } };
  }

  board(batch: Batch): Batch {
    if (this.#isAboard) return batch;
    this.#isAboard = true;
    return this.#trail.into(batch, this.#act, { outcome: "ok" });
  }

  left(): void {
    this.#isAboard = false;
  }

  /** The call has succeeded: without a commit of its own it gets one. */
  done(): void {
    if (!this.#isAboard) this.#trail.write(this.#act, { outcome: "ok" });
  }

  /** The call has failed: an effect that it had is recorded already. */
  failed(error: unknown): void {
    if (!this.#isAboard) this.#trail.write(this.#act, { outcome: "failed", code: codeOf(error) });
  }
}

const codeOf = (error: unknown): string => (isKernelError(error) ? error.code : "EFAILED");

interface Denial {
  readonly act: Act;
  readonly code: string;
  count: number;
}

export interface AuditParts {
  readonly store: Metastore;
  readonly committer: Committer;
  readonly platform: Platform;
  readonly signer: Signer | undefined;
  readonly anchor: AuditAnchor | undefined;
}

/** Seals between two looks at whether the newest head can be kept outside of the store. */
const ANCHOR_EVERY = 64;

export class AuditTrail {
  readonly #anchor: AuditAnchor | undefined;
  #unanchored = 0;
  /** Positions behind which the newest seals begin, oldest first: where a look at the newest records starts. */
  #recent: Seq[] = [];
  readonly #store: Metastore;
  readonly #committer: Committer;
  readonly #platform: Platform;
  readonly #signer: Signer | undefined;
  readonly #denials = new Map<string, Denial>();
  /** What is counted in this turn, by process and call. */
  readonly #turn = new Map<string, { count: number }>();
  #epoch = 0;
  #next = 1;
  /** Salts in hexadecimal digits, made in blocks. */
  #salts = "";
  #saltAt = 0;
  /** Position and head of the newest seal. */
  #sealed: Seq = SEQ_ZERO;
  #head = GENESIS;
  #unsealed = 0;
  #timer: Timer | undefined;
  #sealing: Promise<void> = Promise.resolve();
  #pending = new Set<Promise<unknown>>();

  constructor(parts: AuditParts) {
    this.#store = parts.store;
    this.#committer = parts.committer;
    this.#platform = parts.platform;
    this.#signer = parts.signer;
    this.#anchor = parts.anchor;
  }

  /** The head of the newest seal. */
  get head(): string {
    return this.#head;
  }

  /** Takes the trail over from the life before, and seals what that left unsealed. */
  async boot(): Promise<void> {
    this.#epoch = Number((await this.#store.get(EPOCH_KEY))?.value ?? 0) + 1;
    const at = await this.#store.get(LAST_SEAL_KEY);
    const last = at === undefined ? undefined : parseLastSeal(String(at.value));
    if (last !== undefined) [this.#sealed, this.#head, this.#recent] = [last.through, last.head, [...last.recent]];
    // From the first start on it is there. Where somebody has removed or damaged it the chain goes on from a head
    // that is none: verification names the place.
    else if (this.#epoch > 1) this.#head = this.#platform.hash(`ergos audit lost ${this.#epoch}`);
    const first = JSON.stringify({ through: SEQ_ZERO, head: GENESIS, recent: [] });
    await this.#committer.commit({
      puts: [
        { key: EPOCH_KEY, value: String(this.#epoch) },
        ...(this.#epoch === 1 ? [{ key: LAST_SEAL_KEY, value: first }] : []),
      ],
    });
    await this.seal();
  }

  /** A position at which at least so many of the newest records lie behind, if that many are known of. */
  startOf(records: number): Seq {
    const back = Math.ceil(records / SEAL_EVERY) + 1;
    return this.#recent.at(-back) ?? SEQ_ZERO;
  }

  /** Which start of the host this is, from 1. */
  get epoch(): number {
    return this.#epoch;
  }

  draft(act: Act): AuditDraft {
    return new AuditDraft(this, act);
  }

  /** A batch with a record in it. */
  into(batch: Batch, act: Act, what: Pick<AuditRecord, "outcome" | "code" | "count">): Batch {
    const id = `${this.#epoch}-${this.#next++}`;
    let text = `{"id":"${id}","at":${this.#committer.now()},"pid":${act.pid},"user":${JSON.stringify(act.user)},"call":"${act.call}","outcome":"${what.outcome}"`;
    if (what.code !== undefined) text += `,"code":${JSON.stringify(what.code)}`;
    if (what.count !== undefined) text += `,"count":${what.count}`;
    if (act.on !== undefined) text += `,"on":${JSON.stringify(this.#committer.masker?.maskText(act.on) ?? act.on)}`;
    let { puts } = batch;
    if (act.payload !== undefined) {
      // Before it is hashed: what is stored is what the hash is of.
      const plain = this.#committer.masker?.maskData(act.payload) ?? act.payload;
      const payload = encodePayload(this.#salt(), plain);
      text += `,"hash":"${this.#platform.hash(payload)}"`;
      puts = [...(puts ?? []), { key: payloadKey(id), value: payload }];
    }
    this.#schedule();
    const appends = [...(batch.appends ?? []), { log: AUDIT_LOG, value: `${text}}` }];
    return puts === undefined ? { ...batch, appends } : { ...batch, appends, puts };
  }

  /** Writes a record in a commit of its own. */
  write(act: Act, what: Pick<AuditRecord, "outcome" | "code" | "count">): void {
    // A store that refuses it has poisoned itself and says so to everybody.
    const writing = this.#committer.commit(this.into({}, act, what)).catch(() => undefined);
    this.#pending.add(writing);
    void writing.then(() => this.#pending.delete(writing));
  }

  /**
   * Counts something that a process does many times in a turn and that nobody waits for: one record, with the first
   * place and their number, in the same turn and so in the same group of commits as what it is about.
   */
  collapse(act: Act): void {
    const key = `${act.pid} ${act.call}`;
    const known = this.#turn.get(key);
    if (known !== undefined) {
      known.count++;
      return;
    }
    const mine = { count: 1 };
    this.#turn.set(key, mine);
    void Promise.resolve().then(() => {
      this.#turn.delete(key);
      this.write(act, mine.count === 1 ? { outcome: "ok" } : { outcome: "ok", count: mine.count });
    });
  }

  /** Records a denial, or counts it if the same was denied a moment ago. */
  denied(act: Act, code: string): void {
    const key = JSON.stringify([act.pid, act.call, act.payload?.right, act.payload?.resource]);
    const known = this.#denials.get(key);
    if (known !== undefined) {
      known.count++;
      return;
    }
    this.write(act, { outcome: "denied", code });
    if (this.#denials.size >= COLLAPSED_MAX) this.#tellDenials();
    this.#denials.set(key, { act, code, count: 0 });
    this.#platform.setTimer(COLLAPSE_MS, () => this.#tellDenial(key), { idle: true });
  }

  #tellDenial(key: string): void {
    const denial = this.#denials.get(key);
    this.#denials.delete(key);
    if (denial !== undefined && denial.count > 0)
      this.write(denial.act, { outcome: "denied", code: denial.code, count: denial.count });
  }

  #tellDenials(): void {
    for (const key of this.#denials.keys()) this.#tellDenial(key);
  }

  #salt(): string {
    if (this.#saltAt >= this.#salts.length) [this.#salts, this.#saltAt] = [toHex(this.#platform.random(SALT_BLOCK)), 0];
    return this.#salts.slice(this.#saltAt, (this.#saltAt += SALT_DIGITS));
  }

  #schedule(): void {
    if (++this.#unsealed >= SEAL_EVERY) {
      this.#unsealed = 0;
      this.#platform.defer(() => void this.seal().catch(() => undefined));
    }
    this.#timer ??= this.#platform.setTimer(
      SEAL_AFTER_MS,
      () => {
        this.#timer = undefined;
        void this.seal().catch(() => undefined);
      },
      { idle: true },
    );
  }

  /** Seals all records that are committed; one after the other. */
  seal(): Promise<void> {
    this.#sealing = this.#sealing.then(
      () => this.#sealAll(),
      () => this.#sealAll(),
    );
    return this.#sealing;
  }

  async #sealAll(): Promise<void> {
    for (;;) {
      const page = await this.#store.readLog(AUDIT_LOG, { after: this.#sealed, limit: SEAL_EVERY });
      const last = page.at(-1);
      if (last === undefined) return;
      const leaves = page.map(({ value }) => leafOf(this.#platform, String(value))).join("");
      const part = {
        at: this.#committer.now(),
        after: this.#sealed,
        through: last.seq,
        count: page.length,
        leaves,
        prev: this.#head,
      };
      const head = this.#platform.hash(headText(part));
      const signature =
        this.#signer === undefined ? {} : { key: this.#signer.keyId, signature: this.#signer.sign(signedText(head)) };
      const seal: Seal = { v: AUDIT_FORMAT, ...part, head, ...signature };
      const recent = [...this.#recent.slice(1 - RECENT_MAX), this.#sealed];
      await this.#committer.commit({
        appends: [{ log: SEAL_LOG, value: JSON.stringify(seal) }],
        puts: [{ key: LAST_SEAL_KEY, value: JSON.stringify({ through: last.seq, head, recent }) }],
      });
      [this.#sealed, this.#head, this.#recent] = [last.seq, head, recent];
      if (++this.#unanchored >= ANCHOR_EVERY) await this.anchorHead();
    }
  }

  /** Writes the newest head to where it is kept outside. That must not be lost by a loss of power that the anchor survives. */
  async anchorHead(): Promise<void> {
    this.#unanchored = 0;
    if (this.#anchor === undefined || this.#head === GENESIS) return;
    const head = this.#head;
    await this.#store.flush();
    this.#anchor.write(head);
  }

  /** Writes and seals everything that is left. */
  async close(): Promise<void> {
    this.#timer?.cancel();
    this.#tellDenials();
    await Promise.all(this.#pending);
    await this.seal();
    await this.anchorHead();
  }
}

/** Two digits of each byte. */
const HEX = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, "0"));

function toHex(bytes: Uint8Array): string {
  let digits = "";
  for (const byte of bytes) digits += HEX[byte] ?? "";
  return digits;
}

/** The hash of a record, as it stands in a seal. */
export const leafOf = (platform: Platform, record: string): string => platform.hash(record).slice(0, LEAF_LENGTH);
