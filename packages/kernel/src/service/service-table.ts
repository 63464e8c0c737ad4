// The services of a host: who is there, in what state, and in what order they start, stop and come back.
//
// V1  A service starts when all that it needs is ready; it is told to stop before what it needs is, and comes back with it.
// V2  A call is made to a ready life, counted while it is under way, and ends with that life at the latest. Calls to one
//     that is on its way wait for it, a bounded time.
// V3  A service belongs to the process that enlisted it, runs as its child, and is gone with it.
// V4  Those of the owner that have a source are enlisted again by each host, once it acts of itself.
// V5  What is swapped in is ready before it is let in, and let in when no call is under way: no call fails for it.

import type { Hook } from "../abi/hook.ts";
import { entriesOf } from "../abi/entries.ts";
import type { Metastore } from "../abi/metastore.ts";
import type { Platform } from "../abi/platform.ts";
import type { Signer } from "../abi/signer.ts";
import type { Tool } from "../abi/tool.ts";
import { type ErrorRecord, KernelError, describe, plainMessage, toErrorRecord } from "../base/errno.ts";
import { PID_OWNER, type Pid } from "../base/id.ts";
import { LIMITS } from "../base/limits.ts";
import type { Committer, Rider } from "../ipc/committer.ts";
import type { Exit, Process } from "../proc/process.ts";
import type { ProcessTable } from "../proc/process-table.ts";
import type { ProcessContext, ProgramSource } from "../proc/program.ts";
import { delayOf, hasRoom, recentOf } from "../proc/restart.ts";
import { callUnit } from "./calls.ts";
import { probe, watchHealth } from "./health.ts";
import { Life } from "./life.ts";
import {
  ATTESTATIONS,
  type Attestation,
  type ServiceModule,
  assertService,
  attestedText,
  cycleOf,
  restartPolicyOf,
} from "./service.ts";
import {
  type Check,
  type EnlistOptions,
  type ServiceRecord,
  type ServiceState,
  type ServiceStatus,
  Unit,
} from "./unit.ts";

type Os = ProcessContext["os"];

/** Finds the service of a source, with the SHA-256 of its content. */
export type ServiceLoader = (
  source: ProgramSource,
) => Promise<{ readonly module: ServiceModule; readonly hash: string }>;

export interface ServiceTableParts {
  readonly store: Metastore;
  readonly committer: Committer;
  readonly platform: Platform;
  readonly processes: ProcessTable;
  readonly signer: Signer | undefined;
  readonly loader: ServiceLoader | undefined;
  readonly tools: Map<string, Tool<Os>>;
  readonly osOf: (process: Process) => Os;
  /** Looks at hooks of a process; what it gives hangs them in, and what that gives takes them out. */
  readonly hook: (process: Process, hooks: readonly Hook[]) => Promise<() => () => void>;
}

const FORMAT = 1;
const PREFIX = "sv";
/** How long one that is swapped out may take for the calls that are under way. */
const DRAIN_MS = 30_000;

export class ServiceTable {
  readonly #parts: ServiceTableParts;
  readonly #units = new Map<string, Unit>();
  #isClosing = false;

  constructor(parts: ServiceTableParts) {
    this.#parts = parts;
  }

  /** Brings back what the owner has enlisted by its source; none of it runs yet. */
  async boot(): Promise<void> {
    for await (const { key, value } of entriesOf(this.#parts.store, `${PREFIX}/`)) {
      // Written by `recordOf` only.
      const { v, source, options, needs, isWanted } = JSON.parse(String(value)) as ServiceRecord & {
        readonly v: number;
      };
      if (v !== FORMAT)
        throw new KernelError("EVERSION", `a service has format ${v}, this program reads ${FORMAT}; use a newer ErgOS`);
      const unit = this.#add(key.slice(PREFIX.length + 1), PID_OWNER, options, source);
      Object.assign(unit, { needs, isWanted });
    }
  }

  /** Starts those of the owner that shall run. What cannot start says why in its status. */
  activate(): void {
    for (const unit of this.#units.values())
      if (unit.isWanted && unit.source !== undefined) void this.#startOnce(unit, false).catch(() => undefined);
  }

  get all(): readonly ServiceStatus[] {
    return [...this.#units.values()].map((unit) => this.#statusOf(unit));
  }

  get(name: string): ServiceStatus | undefined {
    const unit = this.#units.get(name);
    return unit === undefined ? undefined : this.#statusOf(unit);
  }

  /** What it offers, once it is known. */
  contractOf(name: string): ServiceModule["contract"] | undefined {
    return this.#units.get(name)?.module?.contract;
  }

  /** Makes services known without starting them, as a host does with its own. */
  register(owner: Pid, modules: readonly ServiceModule[]): void {
    for (const module of modules) {
      assertService(module);
      this.#assertFree(module.name);
      this.#add(module.name, owner, { lazy: true }, undefined).is(module, undefined);
    }
  }

  /**
   * Makes a service known, and starts it. It waits for what it needs, which may come later.
   * @throws {EEXIST} there is one of that name · {EINVAL} it is none, or does not keep its contract
   * @throws {ELOOP} it would need itself · {EACCES} it is not what it was attested to be
   */
  async enlist(
    owner: Process,
    what: ServiceModule | ProgramSource,
    options: EnlistOptions,
    rider?: Rider,
  ): Promise<ServiceStatus> {
    const source = "create" in what ? undefined : what;
    const { module, hash } = "create" in what ? { module: what, hash: undefined } : await this.#load(what);
    assertService(module);
    this.#attest(module.name, options.attest, hash);
    const { name } = module;
    this.#assertFree(name);
    this.#assertNoCycle(module);
    const unit = this.#add(name, owner.pid, options, source);
    unit.is(module, hash);
    try {
      if (options.lazy !== true) await this.#begin(unit);
      unit.isWanted = options.lazy !== true;
      await this.#keep(unit, rider);
    } catch (error) {
      this.#units.delete(name);
      await this.#end(unit);
      throw error;
    }
    // Why it did not become ready is in its status: it may yet, by its policy.
    if (unit.isWanted) await this.#startOnce(unit).catch(() => undefined);
    return this.#statusOf(unit);
  }

  /** Ends a service and forgets it; those that need it wait. */
  async delist(name: string, rider?: Rider): Promise<void> {
    const unit = this.#find(name);
    await this.#takeDown(unit, `${name} is gone`);
    unit.isWanted = false;
    await this.#end(unit);
    this.#units.delete(name);
    unit.quiet();
    unit.become("stopped", "it is gone");
    if (unit.owner === PID_OWNER && unit.source !== undefined)
      await this.#parts.committer.commit({ deletes: [`${PREFIX}/${name}`] }, undefined, rider);
  }

  /** Ends the services of a process with it (V3). */
  drop(pid: Pid): Promise<void> | undefined {
    const owned = Array.from(this.#units.values()).flatMap(({ name, owner }) => (owner === pid ? [name] : []));
    return owned.length === 0 ? undefined : this.#delistAll(owned);
  }

  async #delistAll(names: readonly string[]): Promise<void> {
    for (const name of names) await this.delist(name);
  }

  /**
   * Starts a service, and before it what it needs; settles when it is ready.
   * @throws {EAGAIN} what it needs is not there, or not ready
   */
  async start(name: string, rider?: Rider): Promise<ServiceStatus> {
    const unit = this.#find(name);
    await this.#want(unit, true, rider);
    await this.#startOnce(unit);
    if (unit.state === "waiting") throw new KernelError("EAGAIN", `service ${name} waits: ${unit.why ?? ""}`);
    return this.#statusOf(unit);
  }

  /** Stops a service, and before it what needs it; that waits until it is started again. */
  async stop(name: string, rider?: Rider): Promise<ServiceStatus> {
    const unit = this.#find(name);
    await this.#want(unit, false, rider);
    await this.#takeDown(unit, `${name} was stopped`);
    await this.#end(unit);
    unit.become("stopped");
    return this.#statusOf(unit);
  }

  /** Stops a service with those that need it, and starts them all. */
  async restart(name: string): Promise<ServiceStatus> {
    const unit = this.#find(name);
    await this.#takeDown(unit, `${name} is restarted`);
    await this.#end(unit);
    unit.restarted++;
    return this.start(name);
  }

  /** Looks now how a service is. */
  async check(name: string): Promise<Check> {
    const unit = this.#find(name);
    const { life } = unit;
    if (life?.instance === undefined || (unit.state !== "ready" && unit.state !== "degraded"))
      throw new KernelError(
        "EAGAIN",
        `service ${name} is ${unit.state}${unit.why === undefined ? "" : `: ${unit.why}`}`,
      );
    return probe(unit, life, this.#parts.platform);
  }

  /**
   * Puts another implementation in the place of a service while it runs (V5).
   * @throws {EINVAL} it offers less than the one before · {ETIMEDOUT} calls under way did not end in time: nothing changed
   */
  async swap(
    name: string,
    what: ServiceModule | ProgramSource,
    attest?: Attestation,
    rider?: Rider,
  ): Promise<ServiceStatus> {
    const unit = this.#find(name);
    const { module, hash } = "create" in what ? { module: what, hash: undefined } : await this.#load(what);
    assertService(module);
    // What was attested is not replaced by what is not.
    const attested = stricter(attest, unit.options.attest);
    this.#attest(name, attested, hash);
    this.#assertReplaces(unit, module);
    this.#assertNoCycle(module);
    const before = unit.life;
    if (before?.instance === undefined || unit.state !== "ready")
      throw new KernelError("EAGAIN", `service ${name} is ${unit.state}; only one that is ready can be swapped`);
    const life = await this.#beget(unit, module);
    const stands = (state: ServiceState): boolean =>
      this.#units.get(name) === unit && unit.life === before && unit.state === state;
    const assertStands = (state: ServiceState): void => {
      if (!stands(state)) throw new KernelError("EAGAIN", `service ${name} has become ${unit.state} meanwhile`);
    };
    const source = "create" in what ? undefined : what;
    const options = attested === undefined ? unit.options : { ...unit.options, attest: attested };
    let isKept = false;
    try {
      await life.whenCreated();
      life.go();
      await life.whenReady();
      assertStands("ready");
      unit.become("swapping");
      if (!(await before.drained(DRAIN_MS)))
        throw new KernelError(
          "ETIMEDOUT",
          `calls of service ${name} are under way for ${DRAIN_MS} ms; nothing was changed`,
        );
      assertStands("swapping");
      const hang = await this.#hooksOf(life);
      assertStands("swapping");
      isKept = true;
      await this.#keep({ ...recordPartsOf(unit), source, options, needs: module.needs ?? [] }, rider);
      assertStands("swapping");
      // In one turn: no call is guarded by none of them, or by both.
      hang();
      this.#takeOut(before);
    } catch (error) {
      // What the next host finds is what is there.
      if (isKept && this.#units.get(name) === unit) await this.#keepAgain(unit).catch(() => undefined);
      await this.#endLife(life);
      if (stands("swapping")) unit.become("ready");
      throw error;
    }
    unit.is(module, hash);
    Object.assign(unit, { source, options, life });
    this.#letIn(unit, life);
    await this.#endLife(before);
    return this.#statusOf(unit);
  }

  /**
   * Calls a method of a service on behalf of a process (V2).
   * @throws {ENOENT} there is no such service; otherwise as {@link callUnit}
   */
  async call(caller: Process, name: string, method: string, args: unknown, signal?: AbortSignal): Promise<unknown> {
    const unit = this.#find(name);
    if (unit.state === "stopped" && unit.options.lazy === true) await this.start(name);
    const os = this.#parts.osOf(caller);
    return callUnit(unit, { method, args, caller, os, signal }, this.#parts.platform);
  }

  /** Ends all of them: who needs others first. */
  async close(): Promise<void> {
    this.#isClosing = true;
    for (const unit of this.#units.values()) unit.quiet();
    for (const unit of Array.from(this.#units.values()))
      if (unit.life !== undefined) {
        await this.#takeDown(unit, "the host is closing");
        await this.#end(unit);
      }
  }

  async #load(source: ProgramSource): Promise<{ readonly module: ServiceModule; readonly hash: string }> {
    if (this.#parts.loader === undefined)
      throw new KernelError("ENOTSUP", "this host loads no modules", { syscall: "enlist" });
    return this.#parts.loader(source);
  }

  #attest(name: string, attest: Attestation | undefined, hash: string | undefined): void {
    if (attest === undefined || attest.level === "basic") return;
    const refuse = (why: string): never => {
      throw new KernelError("EACCES", `service ${name} is not attested ${attest.level}: ${why}`, { syscall: "enlist" });
    };
    if (hash === undefined) return refuse("it has no content to look at; enlist it by the path of its module");
    if (attest.hash !== hash) refuse(`its module has SHA-256 ${hash}, and not ${attest.hash ?? "none"}`);
    if (attest.level === "enhanced") return;
    const { signature = "", keyId = "" } = attest;
    if (this.#parts.signer?.verify(attestedText(name, hash), signature, keyId) !== true)
      refuse("no key of this host has signed it; `ergos service attest` does");
  }

  #assertFree(name: string): void {
    if (this.#units.has(name))
      throw new KernelError("EEXIST", `there is a service ${name}; swap it, or delist it`, { syscall: "enlist" });
    if (this.#units.size >= LIMITS.servicesMax)
      throw new KernelError("EAGAIN", `this host has ${LIMITS.servicesMax} services, which is its limit; delist some`);
  }

  #assertReplaces(unit: Unit, module: ServiceModule): void {
    const offered = new Set(Object.keys(module.contract.methods));
    const missing = Object.keys(unit.module?.contract.methods ?? {}).filter((method) => !offered.has(method));
    const unready = (module.needs ?? []).filter((need) => this.#units.get(need)?.state !== "ready");
    const wrong = [
      ...(module.name === unit.name ? [] : [`it is called ${module.name}`]),
      ...(missing.length === 0 ? [] : [`it lacks ${missing.join(", ")}`]),
      ...(unready.length === 0 ? [] : [`it needs ${unready.join(", ")}, which is not ready`]),
    ];
    if (wrong.length > 0)
      throw new KernelError("EINVAL", `this cannot take the place of service ${unit.name}: ${wrong.join("; ")}`, {
        syscall: "swapService",
      });
  }

  #assertNoCycle({ name, needs = [] }: ServiceModule): void {
    const cycle = cycleOf(name, needs, (need) => this.#units.get(need)?.needs ?? []);
    if (cycle === undefined) return;
    throw new KernelError("ELOOP", `service ${name} would need itself: ${cycle.join(" → ")}`, { syscall: "enlist" });
  }

  #add(name: string, owner: Pid, options: EnlistOptions, source: ProgramSource | undefined): Unit {
    const unit = new Unit(this.#parts, name, owner, options, source);
    unit.onReady = () => this.#startWaiting(name);
    this.#units.set(name, unit);
    return unit;
  }

  /** The next host of the owner finds it again, if it has a source (V4). */
  async #keep(unit: RecordParts, rider?: Rider): Promise<void> {
    if (unit.owner !== PID_OWNER || unit.source === undefined) return;
    await this.#parts.committer.commit({ puts: [recordOf(unit)] }, undefined, rider);
  }

  async #keepAgain(unit: Unit): Promise<void> {
    if (unit.owner === PID_OWNER && unit.source === undefined)
      await this.#parts.committer.commit({ deletes: [`${PREFIX}/${unit.name}`] });
    else await this.#keep(unit);
  }

  #statusOf(unit: Unit): ServiceStatus {
    const needing = [...this.#units.values()].filter(({ needs }) => needs.includes(unit.name));
    return unit.statusOf(needing.map(({ name }) => name));
  }

  #find(name: string): Unit {
    const unit = this.#units.get(name);
    if (unit !== undefined) return unit;
    throw new KernelError(
      "ENOENT",
      `there is no service ${name}; there are ${[...this.#units.keys()].join(", ") || "none"}`,
    );
  }

  async #want(unit: Unit, isWanted: boolean, rider?: Rider): Promise<void> {
    const isChanged = unit.isWanted !== isWanted;
    unit.isWanted = isWanted;
    if (isChanged) await this.#keep(unit, rider);
  }

  /** @param isAsked somebody wants it now: what it needs is started too, though it was stopped */
  async #startOnce(unit: Unit, isAsked = true): Promise<void> {
    // One that nobody has asked for may end with a need that was stopped.
    while (isAsked && unit.starting?.isAsked === false) await unit.starting.done.catch(() => undefined);
    unit.starting ??= {
      isAsked,
      done: this.#start(unit, isAsked).finally(() => {
        unit.starting = undefined;
      }),
    };
    await unit.starting.done;
  }

  async #start(unit: Unit, isAsked: boolean): Promise<void> {
    await unit.ending;
    if (unit.life !== undefined && unit.state !== "waiting" && unit.state !== "starting") return;
    for (const need of unit.needs) {
      const other = this.#units.get(need);
      const isStopped = other?.isWanted === false && other.options.lazy !== true && !isAsked;
      // Why it does not start is in its status, and with it this one waits.
      if (other !== undefined && other.state !== "ready" && !isStopped)
        await this.#want(other, true)
          .then(() => this.#startOnce(other, isAsked))
          .catch(() => undefined);
    }
    await this.#goOn(unit);
    if (unit.life === undefined) await this.#begin(unit);
    await this.#goOn(unit);
    await this.#proceed(unit);
    await this.#goOn(unit);
  }

  /** @throws {ECANCELED} it was stopped while it started, or is gone: what there is of it is ended */
  async #goOn(unit: Unit): Promise<void> {
    const isThere = this.#units.get(unit.name) === unit;
    if (unit.isWanted && isThere) return;
    await this.#end(unit);
    unit.become("stopped", isThere ? undefined : "it is gone");
    throw new KernelError("ECANCELED", `service ${unit.name} was ${isThere ? "stopped" : "delisted"} while it started`);
  }

  /** Makes the instance of a service, which then waits for what it needs. */
  async #begin(unit: Unit): Promise<void> {
    if (this.#isClosing) throw new KernelError("ECANCELED", "the host is closing");
    unit.quiet();
    unit.failedPid = undefined;
    unit.become("starting");
    try {
      if (unit.source !== undefined) await this.#reload(unit, unit.source);
    } catch (error) {
      unit.become("failed", plainMessage(toErrorRecord(error).message), toErrorRecord(error));
      throw error;
    }
    if (unit.module === undefined) return;
    const life = await this.#beget(unit, unit.module);
    unit.life = life;
    await life.whenCreated();
  }

  /** The module as it is now. */
  async #reload(unit: Unit, source: ProgramSource): Promise<void> {
    const { name } = unit;
    const { module, hash } = await this.#load(source);
    assertService(module);
    if (module.name !== name)
      throw new KernelError(
        "EINVAL",
        `service ${name} calls itself ${module.name} now; delist it, and enlist it again`,
      );
    this.#attest(name, unit.options.attest, hash);
    this.#assertNoCycle(module);
    unit.is(module, hash);
  }

  async #beget(unit: Unit, module: ServiceModule): Promise<Life> {
    const { processes, platform } = this.#parts;
    const owner = processes.get(unit.owner);
    if (owner === undefined)
      throw new KernelError("ESRCH", `process ${unit.owner}, whose service ${unit.name} is, has ended`);
    const life = new Life(module, unit.options.config, platform);
    const process = await processes.spawn(owner, life.programFor(unit.owner), {
      durable: false,
      cause: `service ${unit.name}`,
      ref: unit.name,
    });
    life.begin(process);
    life.settled = life.ended.then((exit) => this.#over(unit, life, exit)).catch(() => undefined);
    return life;
  }

  /** Lets a service start whose needs are ready; otherwise it waits. */
  async #proceed(unit: Unit): Promise<void> {
    const { life } = unit;
    if (life === undefined) return;
    const unready = unit.needs.filter((need) => this.#units.get(need)?.state !== "ready");
    if (unready.length > 0) {
      const why = unready.map((need) => `${need} is ${this.#units.get(need)?.state ?? "not enlisted"}`);
      return unit.become("waiting", `needs ${unready.join(", ")}; ${why.join(", ")}`);
    }
    if (unit.state === "waiting") unit.become("starting");
    life.go();
    await life.whenReady();
    const isStarting = (): boolean => unit.life === life && unit.state === "starting";
    if (!isStarting()) return;
    try {
      const hang = await this.#hooksOf(life);
      if (!isStarting()) return;
      hang();
    } catch (error) {
      return life.fail(error);
    }
    this.#letIn(unit, life);
  }

  /** Its hooks, looked at; what hangs them in. */
  async #hooksOf(life: Life): Promise<() => void> {
    let hooks: readonly Hook[];
    try {
      hooks = life.instance?.hookSpec?.() ?? [];
    } catch (error) {
      throw new KernelError("EFAILED", `hookSpec() of service ${life.module.name} failed: ${describe(error)}`, {
        cause: error,
      });
    }
    if (hooks.length === 0 || life.process === undefined) return () => undefined;
    const hang = await this.#parts.hook(life.process, hooks);
    return () => (life.undo = [...life.undo, hang()]);
  }

  /** Lets others in: its tools, calls, and whoever waits for it. */
  #letIn(unit: Unit, life: Life): void {
    const { tools } = this.#parts;
    const { name, contract } = life.module;
    const undo: (() => void)[] = [];
    for (const [method, { summary, input = {}, tool }] of Object.entries(contract.methods)) {
      if (tool === undefined) continue;
      const called = `${name}.${method}`;
      const call: Tool<Os>["call"] = (args, { os, signal }) =>
        os.call("callService", { service: name, method, args, signal });
      tools.set(called, { name: called, description: summary, inputSchema: input, effect: tool, call });
      undo.push(() => tools.delete(called));
    }
    life.undo = [...life.undo, ...undo];
    unit.health = undefined;
    unit.quiet();
    unit.become("ready");
    watchHealth(unit, life, this.#parts.platform, (...what) => this.#giveUp(...what));
  }

  #startWaiting(need: string): void {
    for (const other of this.#units.values())
      if (other.needs.includes(need) && other.isWanted && other.state === "waiting")
        void this.#startOnce(other, false).catch(() => undefined);
  }

  #uninstall(unit: Unit, life: Life): void {
    unit.quiet();
    this.#takeOut(life);
  }

  #takeOut(life: Life): void {
    for (const undo of life.undo) undo();
    life.undo = [];
  }

  /** Takes down, last first, all that needs a service; they wait for it. */
  async #takeDown(unit: Unit, why: string): Promise<void> {
    for (const other of Array.from(this.#units.values()).toReversed()) {
      if (!other.needs.includes(unit.name) || other.life === undefined) continue;
      await this.#takeDown(other, why);
      await this.#end(other);
      other.become(other.isWanted ? "waiting" : "stopped", why);
    }
  }

  /** Tells a service to end, once no call is under way or its time for that is over. */
  async #end(unit: Unit): Promise<void> {
    unit.quiet();
    const { life } = unit;
    if (life === undefined) return;
    unit.ending ??= this.#endOf(unit, life).finally(() => {
      unit.ending = undefined;
    });
    await unit.ending;
  }

  async #endOf(unit: Unit, life: Life): Promise<void> {
    unit.become("stopping");
    await life.drained(life.stopMs);
    await this.#endLife(life);
    this.#uninstall(unit, life);
    if (unit.life === life) unit.life = undefined;
  }

  async #endLife(life: Life): Promise<void> {
    life.isTold = true;
    if (life.process?.hasEnded === false) await this.#parts.processes.kill(life.process, "TERM");
    await life.ended;
  }

  /** The process of a service has ended: by its failure, or by somebody's signal. */
  async #over(unit: Unit, life: Life, exit: Exit): Promise<void> {
    if (life.isTold || unit.life !== life || this.#isClosing) return;
    this.#uninstall(unit, life);
    unit.life = undefined;
    unit.failedPid = life.process?.pid;
    if (this.#units.get(unit.name) !== unit) return;
    const error = exit.error ?? toErrorRecord(new KernelError("EFAILED", "its program has ended"));
    await this.#takeDown(unit, `${unit.name} has ended`);
    if (exit.signal !== undefined || life.isSignalled) {
      unit.become("stopped", `it was ended by ${exit.signal ?? "a signal"}`);
      return this.#want(unit, false);
    }
    if (unit.isWanted) this.#recover(unit, error);
    else unit.become("failed", plainMessage(error.message), error);
  }

  #recover(unit: Unit, error: ErrorRecord): void {
    const { committer, platform } = this.#parts;
    const restart = restartPolicyOf(unit.module);
    const now = committer.now();
    const recent = recentOf(unit.restarts, restart, now);
    const isRestarted = restart.policy === "always" || restart.policy === "on-failure";
    if (!isRestarted || !hasRoom(recent, restart, now)) {
      unit.isWanted = false;
      const why = isRestarted
        ? `it has failed ${recent.length + 1} times; the last time: ${plainMessage(error.message)}`
        : plainMessage(error.message);
      return unit.become("failed", why, error);
    }
    unit.restarts = [...recent, now];
    unit.restarted++;
    const delayMs = delayOf(restart, recent.length, (platform.random(1)[0] ?? 0) / 255);
    unit.become("waiting", `is restarted in ${delayMs} ms after: ${plainMessage(error.message)}`, error);
    if (this.#isClosing) return;
    unit.later(delayMs, () => void this.#startOnce(unit, false).catch(() => undefined));
  }

  async #giveUp(unit: Unit, life: Life, error: ErrorRecord, isEscalated: boolean): Promise<void> {
    unit.isWanted = false;
    life.isTold = true;
    await this.#takeDown(unit, `${unit.name} has failed`);
    if (life.process !== undefined) {
      const ending = this.#parts.processes.exit(
        life.process,
        { code: 1, error },
        undefined,
        isEscalated ? "escalation" : undefined,
      );
      life.process.abort(new KernelError("ECANCELED", error.message));
      await ending;
    }
    this.#uninstall(unit, life);
    unit.life = undefined;
    unit.failedPid = life.process?.pid;
    unit.become("failed", plainMessage(error.message), error);
  }
}

type RecordParts = Pick<Unit, "name" | "owner" | "source" | "options" | "needs" | "isWanted">;

const recordPartsOf = ({ name, owner, source, options, needs, isWanted }: Unit): RecordParts => ({
  name,
  owner,
  source,
  options,
  needs,
  isWanted,
});

/** The stricter of two attestations; of equal ones the first. */
function stricter(one: Attestation | undefined, other: Attestation | undefined): Attestation | undefined {
  const rank = (attestation: Attestation | undefined): number =>
    attestation === undefined ? -1 : ATTESTATIONS.indexOf(attestation.level);
  return rank(one) >= rank(other) ? one : other;
}

const recordOf = ({
  name,
  source,
  options,
  needs,
  isWanted,
}: RecordParts): { readonly key: string; readonly value: string } => ({
  key: `${PREFIX}/${name}`,
  value: JSON.stringify({ v: FORMAT, source, options, needs, isWanted }),
});
