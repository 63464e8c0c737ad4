// How a kernel is put together: what everything stands on, the tables over it, and the tree in which they are seen.

import type { Calendar } from "./abi/calendar.ts";
import type { Metastore } from "./abi/metastore.ts";
import { type Model, type ModelProvider, ModelTable } from "./abi/model.ts";
import type { PassAuthority } from "./abi/pass.ts";
import type { SecretStore } from "./abi/secret.ts";
import type { AuditAnchor, Signer } from "./abi/signer.ts";
import { type Tool, assertTool } from "./abi/tool.ts";
import type { Governance } from "./abi/governance.ts";
import type { NetDriver } from "./abi/net.ts";
import type { ObjectStore } from "./abi/object-store.ts";
import type { Platform } from "./abi/platform.ts";
import { PID_OWNER } from "./base/id.ts";
import { toPath } from "./base/path.ts";
import { AuditTrail } from "./audit/trail.ts";
import { AccountTree } from "./budget/account.ts";
import { type PriceList, PriceTable } from "./budget/price.ts";
import { RateTable } from "./budget/rate.ts";
import { Caretaker } from "./care/caretaker.ts";
import { LayerTable } from "./cap/layer-table.ts";
import { Vault } from "./cap/vault.ts";
import { LockTable } from "./lock/lock-table.ts";
import { ViewTable } from "./proc/view.ts";
import { VIRTUAL } from "./proc/virtual.ts";
import { AskTable } from "./proc/ask-table.ts";
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
import type { Program } from "./proc/program.ts";
import { act } from "./syscall/act.ts";
import { programAgain } from "./syscall/program-source.ts";
import type { Host, ProgramLoader, ZoneEntry } from "./syscall/host.ts";
import type { Os } from "./syscall/os.ts";
import { MountTable } from "./syscall/mount-table.ts";
import { isSyscallName } from "./syscall/table.ts";
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

/** What the kernel does for its host once it stands. */
interface Above {
  /** The calls of a process, for tools and services. */
  readonly osOf: (process: Process) => Os;
  readonly run: (process: Process, program: Program) => unknown;
}

/** Puts everything together and reads what the store has of it. Nothing acts of itself yet. */
export async function bootHost(parts: KernelParts, above: Above): Promise<Host> {
  const { platform } = parts;
  const base = baseOf(parts);
  // What the tables do for others they do when the host stands.
  const tables = tablesOf(parts, base, above, () => host);
  const owner = await readTables(parts, base, tables);
  const { store, committer, bus, fs, objects, hooks, layers, audit } = base;
  const { processes, views } = tables;
  const id = await directoryId(store, platform);
  const passes = parts.passes?.(id);
  const seats = new SeatTable({ store, committer, layers, processes, passes, platform });
  await seats.boot();
  const { family, groups } = processes;
  const recall: ProcessTable["recall"] = (pid) => processes.recall(pid);
  const host: Host = {
    ...base,
    ...tables,
    version: KERNEL_VERSION,
    id,
    zones: parts.zones ?? ((): readonly ZoneEntry[] => []),
    audience: `ergos:${id}`,
    sessionAudience: `ergos:${id}#${audit.epoch}`,
    passes,
    seats,
    caretaker: new Caretaker({
      store,
      blobs: objects,
      committer,
      platform,
      family,
      layers,
      forget: (pid) => views.forget(pid),
    }),
    artifacts: new ArtifactTable({ store, objects, committer, family, recall }),
    platform,
    breakers: new BreakerTable(platform.clock, bus, parts.breakers),
    mounts: new MountTable({ namespace: fs.namespace, bus, platform, hooks }),
    rates: new RateTable(platform),
    net: parts.net,
    governance: parts.governance,
    prices: new PriceTable(parts.prices),
    groups,
    anchor: parts.anchor,
    budgetAsks: new Map(),
    signer: parts.signer,
    owner,
    models: new ModelTable(parts.models ?? [], parts.providers ?? [], parts.defaultModel),
    osOf: above.osOf,
    programs: new Map([...(parts.programs ?? []), VIRTUAL].map((program) => [program.name, program])),
    loader: parts.loader,
  };
  mountTree(host);
  return host;
}

/** What everything stands on. */
function baseOf(parts: KernelParts) {
  const { store, platform, zone = "default" } = parts;
  const objects = new Blobs(parts.objects, platform.clock);
  const bus = new EventBus(store, platform.clock);
  const committer = new Committer(store, bus, platform.clock);
  const vault = new Vault(parts.secrets);
  committer.setMasker(vault);
  return {
    store,
    objects,
    bus,
    committer,
    vault,
    zone,
    accounts: new AccountTree(store),
    layers: new LayerTable(store, committer),
    hooks: new HookTable(platform, bus, isSyscallName),
    asks: new AskTable(store, committer, platform),
    audit: new AuditTrail({ store, committer, platform, signer: parts.signer, anchor: parts.anchor }),
    fs: new FileSystem(zone, store, objects, platform, committer),
  };
}
type Base = ReturnType<typeof baseOf>;

/** The tables of processes and of what they have. */
function tablesOf(
  parts: KernelParts,
  { store, objects, bus, committer, accounts, layers, asks, audit, fs }: Base,
  above: Above,
  host: () => Host,
) {
  const { platform } = parts;
  const processes = new ProcessTable({
    store,
    objects,
    platform,
    committer,
    accounts,
    layers,
    bus,
    runner: {
      run: above.run,
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
        await asks.drop(pid);
        await schedules.drop(pid);
        await triggers.drop(pid);
        await locks.drop(pid);
        await queues.drop(pid);
      },
      hasMail: (pid) => post.waiting(pid).length > 0,
      load: (process) => programAgain(host(), process),
      forward: (from, to) => post.forward(from, to),
      assertRoom: (from, to) => post.assertRoom(from, to),
      deal: (from, to) => post.deal(from, to),
      notice: (from, kind, body) => post.notice(from, kind, body),
    },
  });
  const { family } = processes;
  const recall: ProcessTable["recall"] = (pid) => processes.recall(pid);
  const post = new PostOffice({
    store,
    committer,
    platform,
    family: family,
    // What cannot be woken now stays asleep; `resume` tells why.
    arrived: (pid) => void processes.sleeper.wake(pid).catch(() => undefined),
    epoch: () => audit.epoch,
    recall,
  });
  const channels = new ChannelTable(platform, family);
  const schedules = new ScheduleTable({
    store,
    committer,
    platform,
    family: family,
    calendar: parts.calendar,
    act: (...what) => act(host(), ...what),
    kill: (process) => processes.kill(process, "TERM"),
  });
  const triggers = new TriggerTable({
    store,
    committer,
    bus,
    platform,
    family: family,
    recall,
    act: (...what) => act(host(), ...what),
  });
  const entities = new EntityTable({ store, committer, act: (...what) => act(host(), ...what) });
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
    osOf: above.osOf,
    hook: (process, given) => hookIn(host(), process, given),
  });
  const views = new ViewTable({ committer, fs, processes: () => processes.all });
  const locks = new LockTable({ committer, platform });
  const queues = new QueueTable({ store, committer, platform, family: family });
  return { processes, post, channels, schedules, triggers, entities, tools, services, views, locks, queues };
}
type Tables = ReturnType<typeof tablesOf>;

/** Reads what the store has of each, in an order in which each finds what it refers to: the owner's process. */
async function readTables(
  { user = "owner", services = [] }: KernelParts,
  base: Base,
  tables: Tables,
): Promise<Process> {
  await base.fs.boot();
  await base.accounts.boot();
  await base.asks.boot();
  await base.audit.boot();
  const owner = await tables.processes.boot(user);
  await tables.post.boot();
  await tables.views.boot();
  await tables.schedules.boot();
  await tables.locks.boot((pid) => tables.processes.get(pid)?.hasEnded === false);
  await tables.triggers.boot();
  await tables.queues.boot();
  await tables.entities.boot();
  await tables.services.boot();
  tables.services.register(PID_OWNER, services);
  return owner;
}

/** The tree in which all of it is seen. */
function mountTree(host: Host): void {
  const { namespace } = host.fs;
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
    namespace.addMount({ at: toPath(at), kind: "provider", provider });
  }
  for (const at of ["/tmp", "/srv", `/home/${host.owner.identity.user}`]) namespace.promise(toPath(at));
}

/** The name of the data, given to it at its first start. */
async function directoryId(store: Metastore, platform: Platform): Promise<string> {
  const known = await store.get("sys/id");
  if (known !== undefined) return String(known.value);
  const id = Array.from(platform.random(9), (byte) => byte.toString(16).padStart(2, "0")).join("");
  await store.commit({ puts: [{ key: "sys/id", value: id }] });
  return id;
}
