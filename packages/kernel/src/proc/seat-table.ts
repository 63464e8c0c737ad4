// Seats: processes without a program, one for each connection from outside, with the rights of its pass.
//
// V1  A pass gives what its blocks, one after the other, and the process that issued it all allow.
// V3  A pass with all rights of a virtual process stands for that process itself; a narrower one for a seat below it.
// V2  A pass that is revoked, or that was narrowed from one, is refused at once; its seats end.

import type { Platform } from "../abi/platform.ts";
import { entriesOf } from "../abi/entries.ts";
import type { Metastore } from "../abi/metastore.ts";
import type { PassAuthority, PassClaims, PassRequest } from "../abi/pass.ts";
import { KernelError } from "../base/errno.ts";
import { PID_OWNER, toPid } from "../base/id.ts";
import type { Capability } from "../cap/capability.ts";
import type { LayerTable } from "../cap/layer-table.ts";
import { parseGrants } from "../cap/rights.ts";
import type { Committer, Rider } from "../ipc/committer.ts";
import type { ProcessTable } from "./process-table.ts";
import type { Process } from "./process.ts";
import { setAlarm } from "./alarm.ts";
import { VIRTUAL } from "./virtual.ts";

const revokedKey = (id: string): string => `passrev/${id}`;

export interface SeatParts {
  readonly store: Metastore;
  readonly committer: Committer;
  readonly layers: LayerTable;
  readonly processes: ProcessTable;
  readonly passes: PassAuthority | undefined;
  readonly platform: Platform;
}

/** Whom a pass stands for. */
export interface Seat {
  readonly process: Process;
  /** The same for the same pass: what one client has asked is no business of another. */
  readonly identity: string;
  /** Settles when the seat is taken away. */
  readonly ended: Promise<KernelError | undefined>;
  leave(): Promise<void>;
}

export class SeatTable {
  readonly #parts: SeatParts;
  readonly #revoked = new Set<string>();
  readonly #ownerPasses = new Set<string>();
  /** Who acts as a virtual process, and what ends that. */
  readonly #holders = new Set<{ readonly ids: readonly string[]; readonly end: () => void }>();
  /** Seats by the ids of their passes. */
  readonly #seats = new Map<Process, readonly string[]>();

  constructor(parts: SeatParts) {
    this.#parts = parts;
  }

  async boot(): Promise<void> {
    for await (const { key } of entriesOf(this.#parts.store, "passrev/"))
      this.#revoked.add(key.slice("passrev/".length));
  }

  /**
   * The process that the holder of a pass acts as: the owner's, or a seat of its own, which `leave` ends.
   * @throws {EACCES} there is no pass, or it is not valid here and now
   */
  async take(pass: string | undefined, audiences: readonly string[]): Promise<Seat> {
    const { passes, committer, processes } = this.#parts;
    if (pass === undefined || passes === undefined)
      throw new KernelError("EACCES", "this host wants a pass; the owner's is in owner.pass of the data directory");
    const claims = passes.verify(pass, audiences, committer.now());
    const gone = claims.ids.find((id) => this.#revoked.has(id));
    if (gone !== undefined) throw new KernelError("EACCES", `the pass was revoked (${gone})`);
    const issuer = processes.get(toPid(claims.pid));
    if (issuer === undefined || !issuer.isAlive)
      throw new KernelError("EACCES", `the pass was issued by process ${claims.pid}, which has ended`);
    if (claims.pid === PID_OWNER && claims.ids.length === 1 && this.#ownerPasses.has(claims.ids[0] ?? ""))
      // The owner's process ends with its host. One for each: whoever waits for it goes with its connection.
      return {
        process: issuer,
        identity: "owner",
        ended: new Promise(() => undefined),
        leave: () => Promise.resolve(),
      };
    if (issuer.program === VIRTUAL && isWhole(claims)) return this.#itself(issuer, claims);
    const capability = await this.#capabilityOf(claims, issuer.capability);
    const process = await processes.seat(issuer, claims.subject, capability);
    // Nothing waits from here on: what was revoked or ended meanwhile has the last word.
    if (!issuer.isAlive || issuer.isEnding || claims.ids.some((id) => this.#revoked.has(id))) {
      await processes.exit(process, { code: 1 });
      throw new KernelError("EACCES", "the pass was revoked, or its issuer has ended");
    }
    this.#seats.set(process, claims.ids);
    // It holds no longer than its pass.
    const { platform } = this.#parts;
    const expire = (): void => void this.#end(process).catch(() => undefined);
    const expiry = setAlarm(platform, claims.expires, expire, { idle: true, clock: committer.clock });
    // Seats end with whoever they have their rights from.
    const unhear = issuer.onDone(() => void this.#end(process).catch(() => undefined));
    const ended = process.done.then(() => {
      unhear();
      expiry.cancel();
      this.#seats.delete(process);
      return undefined;
    });
    return { process, identity: claims.names.join(" "), ended, leave: () => this.#end(process) };
  }

  /** The virtual process whose pass it is, for as long as the pass holds (V3). */
  #itself(process: Process, { ids, names, expires }: PassClaims): Seat {
    const over = Promise.withResolvers<KernelError | undefined>();
    const end = (): void => over.resolve(undefined);
    const { platform, committer } = this.#parts;
    const alarm = setAlarm(platform, expires, end, { idle: true, clock: committer.clock });
    const holder = { ids, end };
    this.#holders.add(holder);
    const unhear = process.onDone(end);
    const unhearLeft = process.onLeft(() => {
      const lives = this.#parts.processes.get(process.pid)?.hasEnded === false;
      const why = `process ${process.pid} is held, sleeps, or goes on in another life; connect again`;
      over.resolve(lives ? new KernelError("ECONNRESET", why) : undefined);
    });
    const leave = (): Promise<void> => {
      unhear();
      unhearLeft();
      alarm.cancel();
      this.#holders.delete(holder);
      return Promise.resolve();
    };
    return { process, identity: names.join(" "), ended: over.promise, leave };
  }

  /** A pass of the owner's own, that stands for the owner and not for a seat. */
  issueOwners(passes: PassAuthority, request: PassRequest): string {
    const { pass, id } = passes.issue(request);
    this.#ownerPasses.add(id);
    return pass;
  }

  async #end(process: Process): Promise<void> {
    if (process.isAlive && !process.isEnding) await this.#parts.processes.exit(process, { code: 0 });
  }

  /** The layers of a pass are the same for all its seats, so that counted uses are counted together. */
  async #capabilityOf({ ids, names, layers, expiries }: PassClaims, base: Capability): Promise<Capability> {
    let capability = base;
    for (const [at, texts] of layers.entries()) {
      // A layer is that of every pass with the same beginning: what was added to one says nothing of the others.
      const expires = expiries[at] ?? 0;
      const grants = parseGrants(texts).map((grant) => ({
        ...grant,
        expires: Math.min(grant.expires ?? expires, expires),
      }));
      capability = capability.with(
        await this.#parts.layers.ofPass(`${layerOf(ids[at] ?? "")}${names[at] ?? ""}`, grants),
      );
    }
    return capability;
  }

  /** Refuses a pass from now on, ends its seats, and takes from everything else what it has by it. */
  async revoke(id: string, rider?: Rider): Promise<void> {
    this.#revoked.add(id);
    await this.#parts.committer.commit({ puts: [{ key: revokedKey(id), value: "" }] }, [], rider);
    await this.#parts.layers.empty(layerOf(id));
    for (const holder of this.#holders) if (holder.ids.includes(id)) holder.end();
    for (const [process, ids] of this.#seats) {
      if (ids.includes(id) && process.isAlive) await this.#parts.processes.kill(process, "KILL");
    }
  }
}

/** Whether a pass gives all that its issuer has. */
const isWhole = ({ layers }: PassClaims): boolean =>
  layers.length === 1 && layers[0]?.length === 1 && layers[0][0] === "*";

/** Layers of blocks with this id begin so; the rest of a layer's id names the block itself. */
const layerOf = (id: string): string => `pass-${id}.`;
