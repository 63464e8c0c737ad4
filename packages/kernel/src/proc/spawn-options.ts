// What a process is started with.

import type { Pid } from "../base/id.ts";
import type { ProcessLimits } from "../budget/limits.ts";
import type { Amounts } from "../budget/resource.ts";
import type { Grant } from "../cap/grant.ts";
import type { Rider } from "../ipc/committer.ts";
import type { Along } from "./action.ts";
import type { Process } from "./process.ts";
import type { FaultPolicies } from "./fault.ts";
import type { EndedStanding } from "./resumption.ts";
import type { Restart, RestartPolicy, Strategy } from "./restart.ts";
import type { Role, Tier } from "./role.ts";
import type { View } from "./view.ts";

export interface SpawnOptions {
  readonly name?: string | undefined;
  readonly input?: unknown;
  /** Narrows the parent's rights; without it the child has the same. */
  readonly grants?: readonly Grant[] | undefined;
  /** Moved out of the parent's account. */
  readonly budget?: Amounts | undefined;
  /** What bounds it beside its budget. */
  readonly limits?: ProcessLimits | undefined;
  /** Without a journal the process is faster and ends with its host. */
  readonly durable?: boolean | undefined;
  /** Path of the group that it is started in; its parent's unless given. */
  readonly group?: string | undefined;
  /** Whose it is; that of its original or its parent unless given. */
  readonly user?: string | undefined;
  /** What it is for: rights beyond the role are not given. */
  readonly role?: Role | undefined;
  readonly tier?: Tier | undefined;
  readonly restart?: Restart | RestartPolicy | undefined;
  readonly strategy?: Strategy | undefined;
  readonly faults?: FaultPolicies | undefined;
  /** What it is about, for whoever lists processes. */
  readonly ref?: string | undefined;
  /** Recorded with it; whoever spawns sees to it that it is one's alone. */
  readonly key?: string | undefined;
  readonly correlation?: string | undefined;
  /** Where it sees a copy of its own, beside those of its parent. */
  readonly view?: View | undefined;
  /** Changes that belong into the commit of the spawn. */
  readonly along?: ((pid: Pid) => Along) | undefined;
  /** On whose order the kernel starts it, as `schedule 3`. */
  readonly cause?: string | undefined;
  /** Whose rights it has, and which of that one's recorded outcomes it goes on from. */
  readonly twin?:
    | {
        readonly of: Process;
        readonly past: readonly string[];
        /** Where its original has ended: its rights, and what it spends from. */
        readonly as: Pick<EndedStanding, "capability" | "account"> | undefined;
      }
    | undefined;
  /** How many orders of the kernel stand behind it. */
  readonly depth?: number | undefined;
  /** Goes along with that commit. */
  readonly rider?: Rider | undefined;
}
