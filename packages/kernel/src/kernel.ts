// The kernel: one metastore, one process table, one namespace, one way in (the dispatcher).
// It boots and works with no service loaded.

import type { Calendar } from "./abi/calendar.ts";
import type { MountDriver } from "./abi/file.ts";
import type { Metastore } from "./abi/metastore.ts";
import { type Model, type ModelProvider, ModelTable } from "./abi/model.ts";
import type { PassAuthority } from "./abi/pass.ts";
import type { SecretStore } from "./abi/secret.ts";
import type { AuditAnchor, Signer } from "./abi/signer.ts";
import { type Tool, assertTool } from "./abi/tool.ts";
import type { Hook } from "./abi/hook.ts";
import type { Governance } from "./abi/governance.ts";
import type { NetDriver } from "./abi/net.ts";
import type { ObjectStore } from "./abi/object-store.ts";
import type { Platform } from "./abi/platform.ts";
import { KernelError } from "./base/errno.ts";
import { PID_OWNER, type Pid, type RunId } from "./base/id.ts";
import { toPath } from "./base/path.ts";
import { AuditTrail } from "./audit/trail.ts";
import { AccountTree } from "./budget/account.ts";
import type { ProcessLimits } from "./budget/limits.ts";
import { type PriceList, PriceTable } from "./budget/price.ts";
import { RateTable } from "./budget/rate.ts";
import { Caretaker } from "./care/caretaker.ts";
import { LayerTable } from "./cap/layer-table.ts";
import { Vault } from "./cap/vault.ts";
import { LockTable } from "./lock/lock-table.ts";
import { ViewTable } from "./proc/view.ts";
import { VIRTUAL } from "./proc/virtual.ts";
import { AskTable } from "./proc/ask-table.ts";
import { drained } from "./proc/drain.ts";
import { ChannelTable } from "./proc/channel-table.ts";
import { Committer } from "./ipc/committer.ts";
import { EventBus } from "./ipc/event-bus.ts";
import { PostOffice } from "./proc/post-office.ts";
import { ArtifactTable } from "./proc/artifact-table.ts";
import { EntityTable } from "./proc/entity-table.ts";
import { QueueTable } from "./proc/queue-table.ts";
import { TriggerTable } from "./proc/trigger-table.ts";
import { ScheduleTable } from "./proc/schedule-table.ts";
import { type ServiceLoader, ServiceTable } from "./service/service-table.ts";
import type { ServiceModule } from "./service/service.ts";
import { SeatTable } from "./proc/seat-table.ts";
import { ProcessTable } from "./proc/process-table.ts";
import type { Process } from "./proc/process.ts";
import type { ProcessContext, Program } from "./proc/program.ts";
import { act } from "./syscall/act.ts";
import { programAgain } from "./syscall/program-source.ts";
import { Dispatcher } from "./syscall/dispatcher.ts";
import type { Host, ProgramLoader, ZoneEntry } from "./syscall/host.ts";
import { type Os, bindOs, makeOs } from "./syscall/os.ts";
import { NESTED } from "./syscall/row.ts";
import { MountTable } from "./syscall/mount-table.ts";
import { isSyscallName } from "./syscall/table.ts";
import type { MountLimits } from "./vfs/guarded-mount.ts";
import { type BreakerOptions, BreakerTable } from "./syscall/breaker.ts";
import { HookTable } from "./syscall/hook-table.ts";
import { hookIn } from "./syscall/service-hooks.ts";
import { libServicesProvider } from "./tree/services.ts";
import { queuesProvider } from "./tree/queues.ts";
import { libProvider } from "./tree/lib.ts";
import { devProvider } from "./tree/dev.ts";
import { procProvider } from "./tree/proc.ts";
import { configProvider, pipelinesProvider, policiesProvider, sysProvider, toolsProvider } from "./tree/sys.ts";
import { Blobs } from "./vfs/blobs.ts";
import { FileSystem } from "./vfs/filesystem.ts";

export const KERNEL_VERSION = "0.1.0";

/** An owner's pass ends with its host; at the latest after ten years. */
const OWNER_PASS_MS = 3660 * 86_400_000;

/** What the holder of a pass gets. */
export interface Login {
  readonly os: Os;
  /** The same for the same pass. */
  readonly identity: string;
  /** Settles when it is taken away again, with why if that is not the pass's end. */
  readonly ended: Promise<KernelError | undefined>;
  /** Settles when all that was committed so far survives a loss of power; needs no right of its own. */
  readonly flush: () => Promise<void>;
  readonly leave: () => Promise<void>;
  /** Aborts when whom it stands for is told to end. */
  readonly signal: AbortSignal;
  /** Whether its calls go on all the same, because what they are for is shielded from that. */
  readonly isShielded?: () => boolean;
}

export interface KernelParts {
  readonly store: Metastore;
  readonly objects: ObjectStore;
  readonly platform: Platform;
  /** The first one is the default of `infer`. */
  readonly models?: readonly Model[];
  readonly providers?: readonly ModelProvider[];
  /** Name of the model that a request without one means; the first of `models` unless given. */
  readonly defaultModel?: string;
  /** Prices that replace what the models say of themselves. */
  readonly prices?: PriceList;
  readonly tools?: readonly Tool<Os>[];
  /** Programs by the names under which they are spawned and found again after a restart. */
  readonly programs?: readonly Program[];
  readonly loader?: ProgramLoader;
  /** Services that this host knows; each is started with its first call. */
  readonly services?: readonly ServiceModule[];
  readonly serviceLoader?: ServiceLoader;
  /** A policy over users beside the rights of processes; without it these alone decide. */
  readonly governance?: Governance;
  /** The way out of this host for `fetch`; without it there is none. */
  readonly net?: NetDriver;
  /** Where secrets are, the first that has one decides. */
  readonly secrets?: readonly SecretStore[];
  /** Signs heads of the audit chain, and passes; without it nothing is signed. */
  readonly signer?: Signer;
  /** Where the newest head of the audit chain is kept beside the store. */
  readonly anchor?: AuditAnchor;
  /** Knows cron patterns and time zones; without it schedules are instants and intervals. */
  readonly calendar?: Calendar;
  /** Makes the authority over passes of the data directory of this name; without it there are none. */
  readonly passes?: (issuer: string) => PassAuthority;
  /** When models and hosts of the network that fail are left alone. */
  readonly breakers?: BreakerOptions;
  /** Name of the owner of the data. */
  readonly user?: string;
  /** Name of the zone that the store is (default `default`). */
  readonly zone?: string;
  /** The other zones of the data directory, for the one that may know of them. */
  readonly zones?: () => readonly ZoneEntry[];
}

export class Kernel implements AsyncDisposable {
  readonly host: Host;
  readonly dispatcher: Dispatcher;
  readonly #os = new Map<Pid, Os>();
  #closed: Promise<void> | undefined;

  private constructor(host: Host) {
    this.host = host;
    this.dispatcher = new Dispatcher(host);
  }

  static async boot(parts: KernelParts): Promise<Kernel> {
    const { store, platform } = parts;
    const objects = new Blobs(parts.objects, platform.clock);
    const bus = new EventBus(store, platform.clock);
    const committer = new Committer(store, bus, platform.clock);
    const vault = new Vault(parts.secrets);
    committer.setMasker(vault);
    const accounts = new AccountTree(store);
    const layers = new LayerTable(store, committer);
    const hooks = new HookTable(platform, bus, isSyscallName);
    const asks = new AskTable(store, committer, platform);
    const audit = new AuditTrail({ store, committer, platform, signer: parts.signer, anchor: parts.anchor });
    const zone = parts.zone ?? "default";
    const fs = new FileSystem(zone, store, objects, platform, committer);
    const runner: { run: (process: Process, program: Program) => unknown } = {
      run: () => Promise.reject(new KernelError("EBUSY", "the kernel is still booting")),
    };
    const processes = new ProcessTable({
      store,
      objects,
      platform,
      committer,
      accounts,
      layers,
      bus,
      runner: {
        run: (process, program) => runner.run(process, program),
        release: (process, goesOn) => {
          for (const file of process.files?.values() ?? []) void fs.release(file.held).catch(() => undefined);
          process.files = undefined;
          fs.flows.forgetWriter(process.pid);
          if (goesOn) {
            locks.handOn(process.pid);
            return post.reclaim(process.pid);
          }
          for (const table of [asks, post, channels, schedules, triggers, queues, services, locks])
            table.drop(process.pid)?.catch(() => undefined);
        },
        livesAgain: async (pid, isFromStart) => {
          await services.drop(pid);
          if (!isFromStart) return;
          await schedules.drop(pid);
          await triggers.drop(pid);
          await locks.drop(pid);
          await queues.drop(pid);
        },
        hasMail: (pid) => post.waiting(pid).length > 0,
        load: (process) => programAgain(kernel.host, process),
        forward: (from, to) => post.forward(from, to),
        assertRoom: (from, to) => post.assertRoom(from, to),
        deal: (from, to) => post.deal(from, to),
        notice: (from, kind, body) => post.notice(from, kind, body),
      },
    });
    const post = new PostOffice({
      store,
      committer,
      platform,
      family: processes.family,
      // What cannot be woken now stays asleep; `resume` tells why.
      arrived: (pid) => void processes.sleeper.wake(pid).catch(() => undefined),
      epoch: () => audit.epoch,
      recall: (pid) => processes.recall(pid),
    });
    const channels = new ChannelTable(platform, processes.family);
    const schedules = new ScheduleTable({
      store,
      committer,
      platform,
      family: processes.family,
      calendar: parts.calendar,
      act: (...what) => act(kernel.host, ...what),
      kill: (process) => processes.kill(process, "TERM"),
    });
    const triggers = new TriggerTable({
      store,
      committer,
      bus,
      platform,
      family: processes.family,
      recall: (pid) => processes.recall(pid),
      act: (...what) => act(kernel.host, ...what),
    });
    const entities = new EntityTable({ store, committer, act: (...what) => act(kernel.host, ...what) });
    for (const tool of parts.tools ?? []) assertTool(tool);
    const tools = new Map((parts.tools ?? []).map((tool) => [tool.name, tool]));
    const services = new ServiceTable({
      store,
      committer,
      platform,
      processes,
      signer: parts.signer,
      loader: parts.serviceLoader,
      tools,
      osOf: (process) => kernel.host.osOf(process),
      hook: (process, given) => hookIn(kernel.host, process, given),
    });
    const views = new ViewTable({ committer, fs, processes: () => processes.all });
    const locks = new LockTable({ committer, platform });
    const queues = new QueueTable({ store, committer, platform, family: processes.family });
    await fs.boot();
    await accounts.boot();
    await asks.boot();
    await audit.boot();
    const owner = await processes.boot(parts.user ?? "owner");
    await post.boot();
    await views.boot();
    await schedules.boot();
    await locks.boot((pid) => processes.get(pid)?.hasEnded === false);
    await triggers.boot();
    await queues.boot();
    await entities.boot();
    await services.boot();
    services.register(PID_OWNER, parts.services ?? []);
    const id = await directoryId(store, platform);
    const passes = parts.passes?.(id);
    const seats = new SeatTable({ store, committer, layers, processes, passes, platform });
    await seats.boot();
    const host: Host = {
      version: KERNEL_VERSION,
      id,
      zone,
      zones: parts.zones ?? ((): readonly ZoneEntry[] => []),
      audience: `ergos:${id}`,
      sessionAudience: `ergos:${id}#${audit.epoch}`,
      passes,
      seats,
      schedules,
      triggers,
      queues,
      entities,
      services,
      locks,
      views,
      caretaker: new Caretaker({
        store,
        blobs: objects,
        committer,
        platform,
        family: processes.family,
        layers,
        forget: (pid) => views.forget(pid),
      }),
      artifacts: new ArtifactTable({
        store,
        objects,
        committer,
        family: processes.family,
        recall: (pid) => processes.recall(pid),
      }),
      platform,
      store,
      objects,
      committer,
      bus,
      fs,
      accounts,
      hooks,
      breakers: new BreakerTable(platform.clock, bus, parts.breakers),
      mounts: new MountTable({ namespace: fs.namespace, bus, platform, hooks }),
      rates: new RateTable(platform.clock),
      vault,
      net: parts.net,
      governance: parts.governance,
      prices: new PriceTable(parts.prices),
      processes,
      groups: processes.groups,
      layers,
      asks,
      post,
      channels,
      audit,
      anchor: parts.anchor,
      budgetAsks: new Map(),
      signer: parts.signer,
      owner,
      models: new ModelTable(parts.models ?? [], parts.providers ?? [], parts.defaultModel),
      tools,
      osOf: (process) => {
        const os = kernel.osOf(process.pid);
        // The arguments of each call are marked.
        const nested = (name: string, args: object): unknown => os.call(name as never, { ...args, [NESTED]: true });
        return makeOs(process.pid, nested as Os["call"]);
      },
      programs: new Map([...(parts.programs ?? []), VIRTUAL].map((program) => [program.name, program])),
      loader: parts.loader,
    };
    const kernel: Kernel = new Kernel(host);
    runner.run = (process, program) => program.run(new Context(kernel, process));
    for (const [at, provider] of [
      ["/proc", procProvider(host)],
      ["/dev", devProvider(host)],
      ["/sys", sysProvider(host)],
      ["/lib/tools", toolsProvider(host)],
      ["/lib/services", libServicesProvider(host)],
      ["/etc/pipelines", pipelinesProvider(host)],
      ["/srv/queues", queuesProvider(host)],
      ["/lib", libProvider(host)],
      ["/etc/config", configProvider(host)],
      ["/etc/policies", policiesProvider(host)],
      ["/__sys__", { name: "sys", root: { type: "link", target: toPath("/sys") } }],
    ] as const) {
      fs.namespace.addMount({ at: toPath(at), kind: "provider", provider });
    }
    for (const at of ["/tmp", "/srv", `/home/${owner.identity.user}`]) fs.namespace.promise(toPath(at));
    return kernel;
  }

  /** Begins to act of itself: schedules, triggers, and waking what sleeps. A host that is only looked at does not. */
  activate(): void {
    this.host.processes.sleeper.activate();
    this.host.schedules.activate();
    this.host.triggers.activate();
    this.host.services.activate();
  }

  /** The calls of the owner's process, which holds every right. */
  get os(): Os {
    return this.osOf(PID_OWNER);
  }

  /**
   * The calls of one process.
   * @throws {ESRCH} there is no such process
   */
  osOf(pid: Pid): Os {
    const known = this.#os.get(pid);
    if (known !== undefined) return known;
    const process = this.host.processes.get(pid);
    if (process === undefined) throw new KernelError("ESRCH", `process ${pid} does not exist`, { pid });
    const os = bindOs(this.dispatcher, process);
    if (pid === PID_OWNER) this.#os.set(pid, os);
    return os;
  }

  /**
   * The calls of whoever holds a pass, and what ends them.
   * @throws {EACCES} there is no pass, or it is not valid here and now
   */
  async login(pass: string | undefined): Promise<Login> {
    const { audience, sessionAudience, seats, store } = this.host;
    const { process, identity, ended, leave } = await seats.take(pass, [audience, sessionAudience]);
    const { pid, signal } = process;
    return { os: this.osOf(pid), identity, ended, leave, signal, flush: () => store.flush() };
  }

  /** A pass of the owner's, for this life of the host alone; nothing without an authority over passes. */
  ownerPass(): string | undefined {
    const now = this.host.committer.now();
    const { owner, passes, seats, sessionAudience: audience } = this.host;
    const request = { subject: owner.identity.user, pid: PID_OWNER, audience, grants: ["*"] };
    const times = { issued: now, notBefore: now, expires: now + OWNER_PASS_MS };
    return passes === undefined ? undefined : seats.issueOwners(passes, { ...request, ...times });
  }

  /**
   * Installs a hook on the calls of all processes; returns a function that removes it. `hookOn` knows the types of each call.
   * @throws {EINVAL} it is no hook · {EAGAIN} there are as many as there may be
   */
  hook(hook: Hook): () => void {
    return this.host.hooks.add(hook);
  }

  /** Mounts a foreign tree, such as a folder of the machine. */
  mount(at: string, driver: MountDriver, limits: MountLimits = {}): Promise<void> {
    return this.host.mounts.mount(toPath(at), driver, limits);
  }

  /** What is mounted at exactly this path, if a driver is. */
  mountAt(at: string): MountDriver | undefined {
    return this.host.mounts.driverAt(toPath(at));
  }

  /**
   * Takes a foreign tree out, once nothing of it is in use; what is under way is waited for.
   * @throws {EINVAL} none is mounted there
   */
  unmount(at: string): Promise<void> {
    return this.host.mounts.unmount(toPath(at));
  }

  /**
   * Ends the host: running processes stay unfinished in the store and go on at the next start. Waits for
   * flushed writes, and at most `drainMs` for what is under way: calls of models, tools and the network, steps, nodes; idempotent.
   */
  close({ drainMs = 0 }: { readonly drainMs?: number } = {}): Promise<void> {
    this.#closed ??= this.#close(drainMs);
    return this.#closed;
  }

  async #close(drainMs: number): Promise<void> {
    try {
      this.host.schedules.close();
      this.host.triggers.close();
      const { processes, platform } = this.host;
      // Those that leave no journal end with their host; a service among them is there for calls that are under way.
      const running = processes.all.filter(({ journal, program }) => journal !== undefined && program !== undefined);
      const { release } = await drained(platform, running, drainMs, { idle: false, withWork: true });
      this.host.queues.close();
      this.host.locks.close();
      await this.host.services.close();
      await processes.suspendAll();
      release();
      this.dispatcher.close();
      this.host.bus.close();
      await this.host.audit.close();
    } finally {
      await this.host.mounts.close();
      await this.host.store.close();
      await this.host.objects.close();
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** The name of the data, given to it at its first start. */
async function directoryId(store: Metastore, platform: Platform): Promise<string> {
  const known = await store.get("sys/id");
  if (known !== undefined) return String(known.value);
  const id = Array.from(platform.random(9), (byte) => byte.toString(16).padStart(2, "0")).join("");
  await store.commit({ puts: [{ key: "sys/id", value: id }] });
  return id;
}

/** What a program sees of its process. `os` is made when it is asked for: a plan of pure nodes never does. */
class Context implements ProcessContext {
  readonly #kernel: Kernel;
  readonly #process: Process;
  #os: Os | undefined;
  #input: unknown;

  constructor(kernel: Kernel, process: Process) {
    this.#kernel = kernel;
    this.#process = process;
  }

  get pid(): Pid {
    return this.#process.pid;
  }

  get runId(): RunId {
    return this.#process.identity.runId;
  }

  get parentPid(): Pid | undefined {
    return this.#process.identity.ppid;
  }

  get name(): string {
    return this.#process.identity.name;
  }

  /** The same for all its code, and no other life's. */
  get input(): unknown {
    return (this.#input ??= this.#process.input);
  }

  get durable(): boolean {
    return this.#process.journal !== undefined;
  }

  get isResumed(): boolean {
    return this.#process.isResumed;
  }

  isRecorded(place: string): boolean {
    return this.#process.journal?.isRecorded(place) === true;
  }

  get limits(): ProcessLimits | undefined {
    return this.#process.limits;
  }

  get isObserved(): boolean {
    return this.#kernel.host.bus.hasSubscribers;
  }

  get signal(): AbortSignal {
    return this.#process.signal;
  }

  get left(): Promise<void> {
    return this.#process.left;
  }

  get isAborted(): boolean {
    return this.#process.isAborted;
  }

  get isShielded(): boolean {
    return this.#process.isShielded;
  }

  get held(): Promise<void> | undefined {
    return this.#process.isHeld ? this.#process.continued() : undefined;
  }

  workBegun(): void {
    this.#process.workBegun();
  }

  workOver(): void {
    this.#process.workOver();
  }

  abort(reason: KernelError): void {
    this.#process.abort(reason);
  }

  get platform(): Platform {
    return this.#kernel.host.platform;
  }

  get os(): Os {
    return (this.#os ??= bindOs(this.#kernel.dispatcher, this.#process));
  }
}
