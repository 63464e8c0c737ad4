// What a process is born as: who it is, and what it may do.

import { PID_OWNER, type Pid } from "../base/id.ts";
import { present } from "../base/present.ts";
import type { Capability } from "../cap/capability.ts";
import type { LayerTable } from "../cap/layer-table.ts";
import { parseGrants } from "../cap/rights.ts";
import { makeRunId } from "./process-record.ts";
import { type Process, type ProcessIdentity, correlationOf } from "./process.ts";
import type { Program } from "./program.ts";
import type { SpawnOptions } from "./spawn-options.ts";

/** What a child is: as its options say, else as its original, else as its parent. */
export function identityOf(
  pid: Pid,
  parent: Process,
  program: Program,
  options: SpawnOptions,
  decided: Pick<ProcessIdentity, "name" | "created" | "role" | "tier"> & {
    readonly [Field in "account" | "budget" | "limits" | "group" | "restart"]: ProcessIdentity[Field] | undefined;
  },
): ProcessIdentity {
  const { of: original } = options.twin ?? {};
  const views = [...(parent.identity.views ?? []), ...(options.view === undefined ? [] : [options.view])];
  return present({
    pid,
    ppid: parent.pid,
    runId: makeRunId(decided.name, pid),
    user: options.user ?? (original ?? parent).identity.user,
    program: present({
      name: program.name,
      revision: program.revision,
      source: program.source,
      endsAwake: program.endsAwake,
    }),
    ...decided,
    cause: options.cause,
    depth: (options.depth ?? 0) > 0 ? options.depth : undefined,
    ref: options.ref,
    key: options.key,
    correlation: options.correlation ?? (parent.pid === PID_OWNER ? undefined : correlationOf(parent.identity)),
    strategy: options.strategy,
    faults: options.faults,
    views: views.length === 0 ? undefined : views,
    twinOf: original === undefined ? undefined : [original.pid, ...(original.identity.twinOf ?? [])],
  });
}

/** What a child may do: what its parent may, narrowed by its role, its program and its options; a twin as its original. */
export function capabilityOf(
  pid: Pid,
  parent: Process,
  program: Program,
  { twin, role, grants }: SpawnOptions,
  layers: LayerTable,
): Capability {
  // Of one that has ended nobody narrows what it had: its parent does.
  let capability = twin?.as?.capability.under(parent.capability) ?? (twin?.of ?? parent).capability;
  if (role !== undefined && twin === undefined)
    capability = capability.with(layers.create(`${pid}.1`, parseGrants([`role.${role}`])));
  if (program.grants !== undefined && twin === undefined)
    capability = capability.with(layers.create(`${pid}.0`, program.grants));
  return grants === undefined ? capability : capability.with(layers.create(String(pid), grants));
}
