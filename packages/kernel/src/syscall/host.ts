// What the handlers of the table work with: the objects of one running kernel.

import type { Metastore } from "../abi/metastore.ts";
import type { ModelTable } from "../abi/model.ts";
import type { Governance } from "../abi/governance.ts";
import type { BreakerTable } from "./breaker.ts";
import type { HookTable } from "./hook-table.ts";
import type { MountTable } from "./mount-table.ts";
import type { NetDriver } from "../abi/net.ts";
import type { ObjectStore } from "../abi/object-store.ts";
import type { Platform } from "../abi/platform.ts";
import type { PassAuthority } from "../abi/pass.ts";
import type { AuditAnchor, Signer } from "../abi/signer.ts";
import type { AuditTrail } from "../audit/trail.ts";
import type { AccountTree } from "../budget/account.ts";
import type { PriceTable } from "../budget/price.ts";
import type { RateTable } from "../budget/rate.ts";
import type { Caretaker } from "../care/caretaker.ts";
import type { LayerTable } from "../cap/layer-table.ts";
import type { LockTable } from "../lock/lock-table.ts";
import type { Vault } from "../cap/vault.ts";
import type { ChannelTable } from "../proc/channel-table.ts";
import type { AskTable } from "../proc/ask-table.ts";
import type { Committer } from "../ipc/committer.ts";
import type { EventBus } from "../ipc/event-bus.ts";
import type { GroupTable } from "../proc/group-table.ts";
import type { PostOffice } from "../proc/post-office.ts";
import type { ScheduleTable } from "../proc/schedule-table.ts";
import type { ArtifactTable } from "../proc/artifact-table.ts";
import type { EntityTable } from "../proc/entity-table.ts";
import type { QueueTable } from "../proc/queue-table.ts";
import type { TriggerTable } from "../proc/trigger-table.ts";
import type { ServiceTable } from "../service/service-table.ts";
import type { SeatTable } from "../proc/seat-table.ts";
import type { ProcessTable } from "../proc/process-table.ts";
import type { ViewTable } from "../proc/view.ts";
import type { Process } from "../proc/process.ts";
import type { Program, ProgramSource } from "../proc/program.ts";
import type { Tool } from "../abi/tool.ts";
import type { Os } from "./os.ts";
import type { FileSystem } from "../vfs/filesystem.ts";

/** Finds the program of a source again, for example by importing its module; `input` is that of the process. */
export type ProgramLoader = (source: ProgramSource, input: unknown) => Promise<Program>;

/** A zone as another one sees it: that it is there, and whether a host has it open. */
export interface ZoneEntry {
  readonly name: string;
  readonly state: "open" | "closed";
}

export interface Host {
  readonly version: string;
  /** Random name of the data directory: keys that leave the host begin with it. */
  readonly id: string;
  readonly zone: string;
  /** The other zones that this one may know of. */
  readonly zones: () => readonly ZoneEntry[];
  readonly platform: Platform;
  readonly store: Metastore;
  readonly objects: ObjectStore;
  readonly committer: Committer;
  readonly bus: EventBus;
  readonly fs: FileSystem;
  readonly accounts: AccountTree;
  readonly rates: RateTable;
  readonly vault: Vault;
  readonly governance: Governance | undefined;
  readonly net: NetDriver | undefined;
  readonly prices: PriceTable;
  readonly processes: ProcessTable;
  readonly hooks: HookTable;
  readonly breakers: BreakerTable;
  readonly mounts: MountTable;
  readonly groups: GroupTable;
  readonly layers: LayerTable;
  readonly asks: AskTable;
  readonly post: PostOffice;
  readonly channels: ChannelTable;
  readonly schedules: ScheduleTable;
  readonly triggers: TriggerTable;
  readonly queues: QueueTable;
  readonly entities: EntityTable;
  readonly artifacts: ArtifactTable;
  readonly services: ServiceTable;
  readonly locks: LockTable;
  readonly views: ViewTable;
  readonly caretaker: Caretaker;
  readonly seats: SeatTable;
  readonly passes: PassAuthority | undefined;
  /** Whom passes are for: this data directory. */
  readonly audience: string;
  /** This start of it alone: for passes of processes that no later one knows. */
  readonly sessionAudience: string;
  readonly audit: AuditTrail;
  readonly anchor: AuditAnchor | undefined;
  /** Questions about budgets under way, by account and resource; whether more was granted. */
  readonly budgetAsks: Map<string, Promise<boolean>>;
  readonly signer: Signer | undefined;
  readonly owner: Process;
  readonly models: ModelTable;
  /** Tools that every process may call by name, if it holds the right. */
  readonly tools: ReadonlyMap<string, Tool<Os>>;
  /** The calls of a process, for tools that act on its behalf: parts of the call of the tool. */
  readonly osOf: (process: Process) => Os;
  readonly programs: ReadonlyMap<string, Program>;
  readonly loader: ProgramLoader | undefined;
}
